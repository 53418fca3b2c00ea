"""Snapshots in the store: active ones below its ``tmp/``, committed ones in ``snapshots/<id>/fs``.

A commit is one rename, so that a snapshot is there as a whole or not at all; a discard is one rename too, into the trash.
"""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.errors import ConflictError, StoreError
from imgbuild.hints import Protocol, TracebackType
from imgbuild.light.contextlib import AbstractContextManager, ExitStack, suppress
from imgbuild.light.pathlib import Path
from imgbuild.linux.mounts import Bind, Filesystem
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.overlay import OverlayFeatures, clear_work, lower_mount, overlay_filesystem
from imgbuild.snapshot.seen import Seen
from imgbuild.snapshot.union import UnionView


class Scratch(Protocol):
    """What the store offers for what is not finished: see store.Store."""

    def temporary(self, prefix: str) -> AbstractContextManager[Path]:
        """A new directory on the store's file system, gone with the context or with this process."""
        ...

    def discard(self, path: Path) -> None: ...


class Active:
    """A snapshot that something may write to: by its `upper`, in form (a), or through the overlay at `filesystem()`.

    A context manager: leaving it uncommitted discards it. `work` is the overlay's, good for one mount. `directory` holds both and
    may hold more of the step's own; it goes away with the snapshot.
    """

    def __init__(self, directory: Path, lowers: Lowers, features: OverlayFeatures, ending: ExitStack) -> None:
        self.directory = directory
        self.lowers = lowers
        self.snapshot = directory / "snapshot"
        self.upper = self.snapshot / "fs"
        self.work = directory / "work"
        self.done = False
        self._features = features
        self._ending = ending

    def __enter__(self) -> Active:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def filesystem(self) -> Filesystem | Bind:
        """The merged root file system, to be mounted once."""
        if not self.lowers:
            return Bind(str(self.upper))
        return overlay_filesystem(self.lowers, self.upper, self.work, features=self._features)

    def kept(self) -> Active:
        """This snapshot, outliving the context that it was made in."""
        self._ending = self._ending.pop_all()
        return self

    def leave_work(self) -> None:
        """Remove the overlay's workdir."""
        clear_work(self.work)

    def close(self) -> None:
        """Discard what was not committed; closing again does nothing."""
        self.done = True
        self._ending.close()


class Snapshotter(Protocol):
    """The seam; its state machine is the package's docstring, its conformance suite tests/conformance/snapshotter.py."""

    def prepare(self, lowers: Lowers, name: str) -> Active: ...

    def commit(self, active: Active, identity: str) -> DirectoryLower: ...

    def discard(self, active: Active) -> None: ...

    def view(self, lowers: Lowers) -> Filesystem | Bind: ...


class DirectorySnapshotter:
    """Snapshots as directories of the store at `root`."""

    def __init__(self, root: Path, scratch: Scratch, *, features: OverlayFeatures, seen: Seen | None = None) -> None:
        self._snapshots = root / "snapshots"
        self._scratch = scratch
        self._features = features
        self._seen = seen

    def prepare(self, lowers: Lowers, name: str) -> Active:
        """A new active snapshot over `lowers`, whose root directory looks as theirs; `name` is for people who look into tmp/."""
        with ExitStack() as ending:
            try:
                directory = ending.enter_context(self._scratch.temporary(name))
                active = Active(directory, lowers, self._features, ending)
                active.upper.mkdir(parents=True)
                active.work.mkdir(mode=0o700)
                self._imitate_root(active)
            except OSError as error:
                raise StoreError(f"can't make a snapshot: {error.strerror}", detail=error.filename) from None
            return active.kept()

    def commit(self, active: Active, identity: str) -> DirectoryLower:
        """Make an active snapshot a lower under this identity; ConflictError, and the snapshot stays active, where one has it.

        Nothing may write to it any more. It is not synced: whoever records it as durable does that.
        """
        if active.done:
            raise ValueError("the snapshot is not active any more")
        target = self._snapshots / identity
        try:
            self._snapshots.mkdir(exist_ok=True)
            os.rename(active.snapshot, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise ConflictError(f"there is a snapshot {identity} already") from None
            raise StoreError(f"can't commit the snapshot {identity}: {error.strerror}") from None
        active.leave_work()
        active.close()
        return DirectoryLower(target / "fs")

    def discard(self, active: Active) -> None:
        """End an active snapshot and what was written to it."""
        active.close()

    def remove(self, identity: str) -> None:
        """Take a committed snapshot away; no stack that is in use may have it."""
        self._scratch.discard(self._snapshots / identity)

    def view(self, lowers: Lowers) -> Filesystem | Bind:
        """The merged root file system, read only."""
        if len(lowers) == 1:
            # the kernel has no overlay of one; and one alone has nothing to hide
            lower = lowers[0]
            return Bind(str(lower.path)) if isinstance(lower, DirectoryLower) else lower_mount(lower)
        return overlay_filesystem(lowers, None, None, features=self._features)

    def _imitate_root(self, active: Active) -> None:
        """The topmost directory gives the merged root its metadata: so the upper's has to be what the root was."""
        with UnionView(active.lowers, userxattr=self._features.rootless, seen=self._seen) as view:
            node = view.lstat("/")
            if node is None:
                return
            fd = os.open(active.upper, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fchown(fd, node.uid, node.gid)
                os.fchmod(fd, stat.S_IMODE(node.mode))
                for name, value in view.xattrs("/").items():
                    with suppress(PermissionError):  # rootless can't set trusted.*, which no layer holds
                        os.setxattr(fd, name, value)
                os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))
            finally:
                os.close(fd)
