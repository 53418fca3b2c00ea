"""What is on its way in (``tmp/``) and on its way out (``trash/``), and the space that is held back for the latter (``reserve``).

A temporary directory is under a flock of its owner: when the owner dies, however it dies and in whichever pid namespace it
lived, the lock goes, and the next `sweep` takes the directory for trash. Its name holds the owner's pid for people only.
What is thrown away is renamed into the trash, which costs nothing; emptying it is work for quiet moments.
"""

from __future__ import annotations

import errno
import fcntl
import os

from imgbuild.errors import StoreError
from imgbuild.hints import Callable, Iterator, Sequence
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.failures import explained
from imgbuild.store.locks import is_still, try_flock

_SWEEP_AT_ONCE = 256
_RESERVE = 1 << 20
_AT_ONCE = 16


def locked_file(directory: Path, prefix: str, mode: int = 0o644) -> tuple[Path, int]:
    """A new file for writing, under a flock for as long as its descriptor is open: no sweep takes it meanwhile."""
    while True:
        path = directory / f"{prefix}-{os.getpid()}-{os.urandom(8).hex()}"
        with explained(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        if try_flock(descriptor, fcntl.LOCK_EX) and is_still(path, descriptor):
            return path, descriptor
        os.close(descriptor)  # a sweep was quicker than our flock


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data` to a new file. On a disk that fills up write(2) first takes a part of it, and only then refuses: who
    doesn't go on takes the part for the whole. OSError where the file does not have all of it then."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    if os.fstat(descriptor).st_size != len(data):
        raise OSError(errno.EIO, "not all that was written is there")


def write_durably(path: Path, data: bytes, temporary: Path, *, mode: int = 0o644) -> None:
    """Replace a file as a whole, by way of the directory `temporary`: it has the old or the new bytes, at every instant and
    after a power cut."""
    replace_file(path, data, temporary, mode=mode)
    sync(path.parent)


def replace_file(path: Path, data: bytes, temporary: Path, *, mode: int = 0o644, settle: Callable[[Path], object] | None = None) -> None:
    """The same, but that a power cut may bring the old file back until its directory is on disk (`sync`). `settle` is told where the new
    bytes are, and brings them to disk; with what else has to be there before the file says so."""
    new, descriptor = locked_file(temporary, path.name, mode)
    try:
        with explained(new):
            rest = memoryview(data)
            while rest:  # on a nearly full disk a write may be a short one
                rest = rest[os.write(descriptor, rest) :]
        (settle or sync)(new)
        with explained(new):
            os.rename(new, path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Bring a file, or what a directory lists, to disk; one that is not there is passed over."""
    sync_all((path,))


def sync_all(paths: Sequence[Path], meanwhile: Callable[[], object] | None = None) -> None:
    """The same, of several: the kernel writes all of them while the first is waited for. `meanwhile` is called when they are on their
    way."""
    from imgbuild.linux.writing import Syncing, begin_writeback

    for start in range(0, len(paths), _AT_ONCE):
        opened: list[tuple[Path, int]] = []
        try:
            for path in paths[start : start + _AT_ONCE]:
                with explained(path), suppress(FileNotFoundError):
                    opened.append((path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)))
                    begin_writeback(opened[-1][1])
            if meanwhile is not None:
                with explained(paths[start]):
                    syncing = Syncing([descriptor for _, descriptor in opened])
                meanwhile()
                for (path, _), error in zip(opened, syncing.wait(), strict=True):
                    if error is not None:
                        with explained(path):
                            raise error
                continue
            for path, descriptor in opened:
                with explained(path):
                    os.fsync(descriptor)
        finally:
            for _, descriptor in opened:
                os.close(descriptor)


def make_reserve(root: Path) -> None:
    """Hold some space back, for `without_reserve`; as far as there is any. Where it is held already, that is seen at a glance."""
    with suppress(OSError):
        if os.stat(root / "reserve").st_size >= _RESERVE:
            return
    with suppress(OSError):
        with open(root / "reserve", "ab") as stream:
            os.posix_fallocate(stream.fileno(), 0, _RESERVE)


@contextmanager
def without_reserve(root: Path) -> Iterator[None]:
    """Give the reserve up for a while: on a full disk, even forgetting needs a little space."""
    with suppress(OSError):
        (root / "reserve").unlink()
    try:
        yield
    finally:
        make_reserve(root)


class Scratch:
    """The two directories, ``tmp`` and ``trash``, of one store."""

    def __init__(self, root: Path) -> None:
        self.temporary = root / "tmp"
        self.trash = root / "trash"

    @contextmanager
    def directory(self, prefix: str) -> Iterator[Path]:
        """A new directory that goes away with the context, or with this process. What is moved out of it stays."""
        path, descriptor = self._create(prefix)
        try:
            yield path
        finally:
            try:
                self.discard(path)
            finally:
                os.close(descriptor)

    def discard(self, path: Path) -> None:
        """Make `path` (a tree or a file of the store's file system) disappear at once. Not being there is fine."""
        with suppress(OSError):
            path.rmdir()  # the common case: everything was moved out
            return
        with explained(path):
            try:
                os.rename(path, self._trashed())
            except FileNotFoundError:
                if path.is_symlink() or path.exists():
                    raise

    def sweep(self) -> tuple[str, ...]:
        """Take what dead owners left in ``tmp`` for trash; returns their names. Bounded work: at most a few hundred entries."""
        with explained(self.temporary):
            names = os.listdir(self.temporary)
        swept = []
        for name in names[:_SWEEP_AT_ONCE]:
            with suppress(OSError):
                if self._sweep_one(self.temporary / name):
                    swept.append(name)
        return tuple(swept)

    def empty(self, *, deadline: float | None = None) -> int:
        """Delete what is in the trash, until `deadline` (time.monotonic): the bytes given back. Goes on where one tree
        can't be removed, and raises the first StoreError at the end."""
        freed, failure = 0, None
        with explained(self.trash):
            names = sorted(os.listdir(self.trash))
        if not names:
            return 0
        from imgbuild.store.removal import remove_tree

        for name in names:
            try:
                count, finished = remove_tree(self.trash / name, deadline=deadline)
            except StoreError as error:
                failure = failure or error
                continue
            freed += count
            if not finished:
                break
        if failure is not None:
            raise failure
        return freed

    def _create(self, prefix: str) -> tuple[Path, int]:
        while True:
            path = self.temporary / f"{prefix}-{os.getpid()}-{os.urandom(8).hex()}"
            with explained(path):
                path.mkdir(mode=0o700)
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # swept before it was locked
            if try_flock(descriptor, fcntl.LOCK_EX) and is_still(path, descriptor):
                return path, descriptor
            os.close(descriptor)

    def _sweep_one(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ELOOP:
                path.unlink()
            raise
        try:
            if not try_flock(descriptor, fcntl.LOCK_EX):
                return False
            os.rename(path, self._trashed())
            return True
        finally:
            os.close(descriptor)

    def _trashed(self) -> Path:
        return self.trash / f"{os.getpid()}-{os.urandom(8).hex()}"
