"""The store as a whole: where its parts are, how it comes into being, who may use it, and how it is left.

On disk, below the root: ``oci-layout``, ``index.json`` and ``blobs/`` (image-spec: image-layout.md), ``index.db``, ``evidence.db``,
``lock`` (the lease), ``locks/``, ``boot``, ``erofs``, ``reserve``, ``secret-key``, ``snapshots/<id>/``, ``containers/<id>/``,
``cache/<id>/``, ``failed/<id>/``, ``sources/<id>/``, ``history/``, ``replays/``, ``tmp/``, ``trash/``.
"""

from __future__ import annotations

import os
import time

from imgbuild.errors import StoreError
from imgbuild.hints import TYPE_CHECKING, Callable, TracebackType
from imgbuild.light import json, threading
from imgbuild.light.contextlib import AbstractContextManager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.blobs import Blobs
from imgbuild.store.failures import explained
from imgbuild.store.locks import Lease, NamedLocks
from imgbuild.store.recovery import recover, was_booted_since
from imgbuild.store.tags import Tags
from imgbuild.store.temporary import Scratch, make_reserve, write_durably
from imgbuild.store.trees import INDEX, TREE

if TYPE_CHECKING:
    from imgbuild.store.evidence import Evidence
    from imgbuild.store.index import Index

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_DIRECTORIES = (
    "blobs", "blobs/sha256", "snapshots", "containers", "cache", "failed", "sources", "history", "replays", "locks", "tmp", "trash",
)  # fmt: skip
_FILES = (
    "oci-layout", "index.json", "index.db", "index.db-wal", "index.db-shm", "evidence.db", "evidence.db-wal", "evidence.db-shm",
    "evidence.log", "boot", "erofs", "lock", "reserve", "secret-key",
)  # fmt: skip
_TRASH_SECONDS, _TRASH_SHARE, _TRASH_MOST = 0.005, 0.05, 1.0


class Store:
    """One store, open. Safe to share between threads; not across a fork (start the zygote first)."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time, leave: bool = False) -> None:
        """For `open`."""
        self.root = root
        self.clock = clock
        self.scratch = Scratch(root)
        self.locks = NamedLocks(root / "locks")
        self.blobs = Blobs(root / "blobs", self.scratch.temporary)
        self.tags = Tags(root / "index.json", self.blobs, self.locks, self.scratch.temporary)
        self.left_by_the_dead: tuple[str, ...] = ()
        self._index: Index | None = None
        self._evidence: Evidence | None = None
        self._secret_key = b""
        self._leave = leave
        self._mutex = threading.Lock()
        self._lease = Lease(root / "lock")
        self._opened = time.monotonic()

    @classmethod
    def open(cls, root: Path, *, clock: Callable[[], float] = time.time, leave: bool = False) -> Store:
        """Open the store at `root`, making it where there is none. Takes what dead processes left for trash (its names are in
        `left_by_the_dead`, as they may have left something beside the store, too), and after a reboot doubts what may not have
        reached the disk. StoreError where the place can't be used or holds something else. `leave`: the process ends after `close`."""
        store = cls(Path(os.path.abspath(root)), clock=clock, leave=leave)
        _lay_out(store.root)
        with suppress(StoreError):  # on a read-only file system reading still works
            store.left_by_the_dead = store.scratch.sweep()
        if was_booted_since(store.root):
            with store.exclusive(timeout=None):
                recover(store.root, store.blobs, store.index, store.scratch)
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files, and delete from the trash for a moment (a twentieth of the time that the store was open, a second
        at most); the rest of it stays for the next time or for a prune. Idempotent."""
        if self._index is not None:
            self._index.close(leave=self._leave)
        if self._evidence is not None:
            self._evidence.close(leave=self._leave)
        now = time.monotonic()
        moment = min(_TRASH_SECONDS + _TRASH_SHARE * (now - self._opened), _TRASH_MOST)
        with suppress(StoreError):
            self.scratch.empty(deadline=now + moment)

    @property
    def index(self) -> Index:
        """What is known of layers, snapshots and steps; opened when it is asked. A container of what was run before does without."""
        if self._index is None:
            from imgbuild.store.index import Index

            with self._mutex:
                self._index = self._index or Index(self.root / "index.db", clock=self.clock)
        return self._index

    @property
    def evidence(self) -> Evidence:
        """What misses are explained by; opened when it is asked for."""
        with self._mutex:
            if self._evidence is None:
                from imgbuild.store.evidence import Evidence

                self._evidence = Evidence(self.root, clock=self.clock)
            return self._evidence

    def secret_key(self) -> bytes:
        """What digests of secrets are made with (store.secret_key)."""
        from imgbuild.store.secret_key import secret_key

        with self._mutex:
            if not self._secret_key:
                self._secret_key = secret_key(self.root, self.locks, self.scratch.temporary)
            return self._secret_key

    def lease(
        self, *, cancelled: Callable[[], bool] | None = None, on_wait: Callable[[], None] | None = None
    ) -> AbstractContextManager[None]:
        """Nothing is taken out of the store meanwhile. Builds, pulls and runs hold it; nests, and threads don't mind each other."""
        return self._lease.shared(cancelled=cancelled, on_wait=on_wait)

    def exclusive(
        self,
        *,
        timeout: float | None = 60.0,
        cancelled: Callable[[], bool] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> AbstractContextManager[None]:
        """Nobody holds a lease meanwhile: for collecting and repairing. ConflictError after `timeout` seconds; `on_wait` is
        called once if there is something to wait for."""
        return self._lease.exclusive(timeout=timeout, cancelled=cancelled, on_wait=on_wait)

    def lock(
        self, name: str, *, cancelled: Callable[[], bool] | None = None, on_wait: Callable[[], None] | None = None
    ) -> AbstractContextManager[None]:
        """The exclusive lock `name`, between threads and processes: for work that is to be done once. Not re-entrant. Raises
        locks.Interrupted when `cancelled` says so."""
        return self.locks.hold(name, cancelled=cancelled, on_wait=on_wait)

    def temporary(self, prefix: str) -> AbstractContextManager[Path]:
        """A new directory on the store's file system, gone with the context or with this process; what was moved out stays."""
        return self.scratch.directory(prefix)

    def discard(self, path: Path) -> None:
        """Make a tree of the store disappear at once; its deletion follows."""
        self.scratch.discard(path)

    def erase(self, path: Path) -> None:
        """Delete a tree of the store now, however long that takes; what can't be deleted disappears, and is tried again later."""
        from imgbuild.store.removal import remove_tree

        with suppress(StoreError):
            remove_tree(path)
        self.discard(path)

    def flush(self) -> None:
        """Bring all blobs that this process committed to disk. (`tags.set` does so for the image that it names.)"""
        self.blobs.flush()

    def snapshot_path(self, identity: str) -> Path:
        """The directory lower of a committed snapshot, where it has this form."""
        return self.snapshot_directory(identity) / TREE

    def snapshot_directory(self, identity: str) -> Path:
        """What holds a committed snapshot, in whichever form."""
        return self.root / "snapshots" / identity

    def has_snapshot(self, identity: str) -> bool:
        """Whether a committed snapshot is there, in whichever form."""
        directory = self.snapshot_directory(identity)
        return (directory / TREE).is_dir() or (directory / INDEX).is_file()


def _lay_out(root: Path) -> None:
    layout = root / "oci-layout"
    with explained(root):
        with suppress(FileNotFoundError):
            if layout.read_bytes() != _LAYOUT:
                _check_layout(layout)
            _make_directories(root)
            return
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        foreign = sorted(set(os.listdir(root)) - {*_DIRECTORIES, *_FILES, "lost+found"})  # another process may be laying it out, too
        if foreign:
            hint = "set IMGBUILD_ROOT to a new or an empty directory"
            raise StoreError(f"{root} is not a store: it holds {foreign[0]!r} and no oci-layout", hint=hint)
        _make_directories(root)
        # The layout file comes last: while it is missing, the next open makes everything again.
        make_reserve(root)
        write_durably(layout, _LAYOUT, root / "tmp")


def _make_directories(root: Path) -> None:
    for name in _DIRECTORIES:
        with suppress(FileExistsError):
            os.mkdir(root / name, 0o700 if name != "blobs" else 0o755)


def _check_layout(layout: Path) -> None:
    try:
        version = json.loads(layout.read_bytes())["imageLayoutVersion"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise StoreError(f"{layout} is not an OCI layout's", hint="set IMGBUILD_ROOT to a new or an empty directory") from None
    if not str(version).startswith("1."):
        raise StoreError(f"the store {layout.parent} has the layout version {version}, this imgbuild knows 1.0.0")
