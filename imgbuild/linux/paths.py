"""Safe paths below an untrusted root: everything is resolved inside it, by descriptors, as if it were chroot'ed.

`Root` is a directory descriptor. Symlinks of the root are followed with the root as "/"; ".." stops at it; magic links of
/proc are refused. openat2(RESOLVE_IN_ROOT) where there is one (Linux 5.6), else a walk component by component, which is
as safe against hostile content, but not against somebody who renames directories during the walk.

Paths are bytes or str (surrogateescape), absolute or not: they always start at the root.
"""

from __future__ import annotations

import errno
import os

from imgbuild.hints import Iterator, TracebackType
from imgbuild.light.contextlib import contextmanager
from imgbuild.linux import syscalls

_RESOLVE = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_MAX_LINKS = 40
_LONGEST = 4095
"""The longest path that the kernel takes, in bytes. A longer one is gone along in parts."""

AnyPath = str | bytes


class Root:
    """A directory as "/". Owns `fd` (an O_PATH or readable directory descriptor) and its cached parents; close it, or use `with`.

    Not for several threads at once: the cache of parents closes descriptors that it handed out earlier (`open_parent`).
    """

    def __init__(self, fd: int, *, openat2: bool = True, cache: int = 64) -> None:
        self.fd = fd
        self._openat2 = openat2
        self._cache: dict[bytes, int] = {}
        self._cache_size = cache

    @classmethod
    def open_path(cls, path: str | bytes | os.PathLike[str], *, openat2: bool = True) -> Root:
        """The root at a path of the host."""
        return cls(os.open(path, _DIRECTORY | os.O_CLOEXEC), openat2=openat2)

    def __enter__(self) -> Root:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the root and all cached parents."""
        self.forget()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def forget(self) -> None:
        """Drop the cached parents: needed after a directory or symlink on their way was replaced."""
        for fd in self._cache.values():
            os.close(fd)
        self._cache.clear()

    def open(self, path: AnyPath, flags: int = os.O_RDONLY, mode: int = 0) -> int:
        """Open a path; the caller closes it. With O_NOFOLLOW the last component may be a symlink only with O_PATH; O_CREAT
        creates inside the root, also through a dangling symlink. FIFOs and devices open as flags say: add O_NONBLOCK."""
        encoded = _relative(path)
        if self._openat2:
            creates = flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE
            if len(encoded) <= _LONGEST:
                return syscalls.openat2(self.fd, encoded or b".", flags, _RESOLVE, mode if creates else 0)
            try:
                return self._open_far(encoded, flags, mode if creates else 0)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.EXDEV):
                    raise
        return self._walk(encoded, flags, mode)

    @contextmanager
    def opened(self, path: AnyPath, flags: int = os.O_RDONLY, mode: int = 0) -> Iterator[int]:
        """`open` for the time of a with."""
        fd = self.open(path, flags, mode)
        try:
            yield fd
        finally:
            os.close(fd)

    def lstat(self, path: AnyPath) -> os.stat_result:
        """Status of a path, of a symlink itself where the last component is one."""
        with self.opened(path, os.O_PATH | os.O_NOFOLLOW) as fd:
            return os.fstat(fd)

    def exists(self, path: AnyPath, *, follow: bool = True) -> bool:
        """Whether a path leads to something inside the root."""
        try:
            with self.opened(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW)):
                return True
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise

    def open_parent(self, path: AnyPath, create: bool = False, mode: int = 0o755) -> tuple[int, bytes]:
        """The directory that holds a path's last component, and that component's name, to be used as `dir_fd` and name.

        Symlinks on the way are followed inside the root, the last component is not looked at. The descriptor belongs to the
        cache: it is valid until the next `open_parent`, `forget` or `close`; don't close it. With `create` missing parents are
        made. The root itself has no parent: ValueError, as for a name of ".." .
        """
        parent, _, name = _relative(path).rpartition(b"/")
        if name in (b"", b".", b".."):
            raise ValueError(f"no name in its directory: {path!r}")
        fd = self._cache.get(parent)
        if fd is None:
            fd = self.makedirs(parent, mode) if create else self.open(parent, _DIRECTORY)
            if len(self._cache) >= self._cache_size:
                os.close(self._cache.pop(next(iter(self._cache))))
            self._cache[parent] = fd
        return fd, name

    def makedirs(self, path: AnyPath, mode: int = 0o755) -> int:
        """Open a directory, making what is missing of it; the caller closes it. A dangling symlink on the way is followed,
        its target made; a file on the way is NotADirectoryError."""
        encoded = _relative(path)
        try:
            return self.open(encoded, _DIRECTORY)
        except FileNotFoundError:
            pass
        done: list[bytes] = []
        pending = _split(encoded)
        links = 0
        while pending:
            name = pending.pop(0)
            if name == b".":
                continue
            if name == b"..":
                # What is done has no symlinks in it, so that its parent is its prefix.
                done = done[:-1]
                continue
            with self.opened(b"/".join(done), _DIRECTORY) as parent:
                target = _make_directory(parent, name, mode)
            if target is None:
                done.append(name)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
            if target.startswith(b"/"):
                done = []
            pending = _split(target) + pending
        return self.open(b"/".join(done), _DIRECTORY)

    def _open_far(self, path: bytes, flags: int, mode: int) -> int:
        """A path of any length, in parts. ELOOP or EXDEV where it may lead through a symlink or upwards: that is for `_walk`."""
        resolve = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
        here = os.dup(self.fd)
        try:
            while len(path) > _LONGEST and (cut := path.rfind(b"/", 0, _LONGEST)) > 0:
                further = syscalls.openat2(here, path[:cut], _DIRECTORY, resolve, 0)
                os.close(here)
                here, path = further, path[cut + 1 :]
            return syscalls.openat2(here, path, flags, resolve, mode)
        finally:
            os.close(here)

    def _walk(self, path: bytes, flags: int, mode: int) -> int:
        """Resolution without openat2, and of paths of any length: each directory is opened O_NOFOLLOW below the one before."""
        here = os.open(".", _DIRECTORY | os.O_CLOEXEC, dir_fd=self.fd)
        depth = 0
        pending = _split(path)[::-1]
        follow_last = not flags & os.O_NOFOLLOW and (flags & (os.O_CREAT | os.O_EXCL)) != os.O_CREAT | os.O_EXCL
        links = 0
        try:
            while pending:
                name = pending.pop()
                if name == b".":
                    continue
                if name == b"..":
                    if depth:
                        here, depth = _stepped(here, ".."), depth - 1
                    continue
                last = not pending
                link = _read_link(here, name)
                if link is not None and (not last or follow_last):
                    links += 1
                    if links > _MAX_LINKS or link == b"":
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(path))
                    if link.startswith(b"/"):
                        os.dup2(self.fd, here, inheritable=False)
                        depth = 0
                    pending.extend(reversed(_split(link)))
                    continue
                if last:
                    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=here)
                here, depth = _stepped(here, name), depth + 1
            return os.open(".", (flags & ~(os.O_CREAT | os.O_EXCL)) | os.O_CLOEXEC, dir_fd=here)
        finally:
            os.close(here)


def _relative(path: AnyPath) -> bytes:
    encoded = os.fsencode(path).strip(b"/")
    if b"\0" in encoded:
        raise ValueError(f"null byte in a path: {path!r}")
    return encoded


def _split(path: bytes) -> list[bytes]:
    """The components. A last "." stays, also for a last slash: what is before it has to be a directory (path_resolution(7))."""
    names = path.split(b"/")
    return [name for name in names if name not in (b"", b".")] + ([b"."] if names[-1] in (b"", b".") else [])


def _stepped(directory: int, name: bytes | str) -> int:
    """A directory next to another, whose descriptor is closed where that was opened."""
    fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    os.close(directory)
    return fd


def _read_link(directory: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


def _make_directory(parent: int, name: bytes, mode: int) -> bytes | None:
    """Make sure that `name` is a directory below `parent`; the link's target where it is a symlink instead."""
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        return _read_link(parent, name)
    return None


@contextmanager
def working_directory(path: str) -> Iterator[None]:
    """Be there for a while; "": nowhere else than before."""
    if not path:
        yield
        return
    back = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(back)
        os.close(back)
