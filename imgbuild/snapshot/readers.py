"""One lower, read: the small Protocol that a union is made of, and what both forms are.

Paths here are relative to the lower ("" is its root) and real in it: whoever asks has seen every parent to be a directory.
"""

from __future__ import annotations

import os
import stat

from imgbuild.hints import Iterator, Protocol
from imgbuild.light.contextlib import contextmanager
from imgbuild.linux.node import Node
from imgbuild.snapshot import DirectoryLower, Lower

OVERLAY_PREFIXES = ("trusted.overlay.", "user.overlay.")
"""Names of the xattrs that are overlay's own: never part of a file."""

_NEAR = 1000
"""Characters of a path that surely has fewer bytes than the kernel takes, 4095."""

_PART = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

HOST_XATTRS = frozenset({"security.selinux", "security.ima", "security.evm"})
"""xattrs that this machine puts on every file: never part of a file either."""


class LowerReader(Protocol):
    """How a union reads one lower. Whiteouts are seen as they are; a missing name is None; OSError only for real trouble."""

    def lstat(self, path: str) -> Node | None: ...

    def opaque(self, path: str) -> bool: ...

    def names(self, path: str) -> list[tuple[str, bool]]:
        """Names in a directory, each with whether it is a whiteout."""
        ...

    def open(self, path: str) -> int: ...

    def readlink(self, path: str) -> str: ...

    def xattrs(self, path: str) -> dict[str, bytes]: ...

    def close(self) -> None: ...


def reader_of(lower: Lower, userxattr: bool) -> LowerReader:
    """The reader for a lower's form."""
    if isinstance(lower, DirectoryLower):
        return DirectoryReader(os.open(lower.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), userxattr)
    from imgbuild.linux.mounts import open_mount
    from imgbuild.snapshot.overlay import lower_mount

    return DirectoryReader(open_mount(lower_mount(lower)), userxattr)


def is_whiteout(status: Node) -> bool:
    """Whether an overlay-form entry says that the name is gone."""
    return stat.S_ISCHR(status.mode) and status.rdev == 0


class DirectoryReader:
    """Form (a), or a mount of form (b), which is there for this reader alone. Everything is relative to one fd of its root, which the
    reader closes; a committed lower never changes, so no component can turn into a symlink between two looks."""

    def __init__(self, root: int, userxattr: bool) -> None:
        self._root = root
        self._opaque = "user.overlay.opaque" if userxattr else "trusted.overlay.opaque"

    def lstat(self, path: str) -> Node | None:
        try:
            if len(path) > _NEAR:
                with self._reached(path) as (directory, name):
                    return Node.of(os.stat(name, dir_fd=directory, follow_symlinks=False))
            return Node.of(os.stat(path or ".", dir_fd=self._root, follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def opaque(self, path: str) -> bool:
        with self._handle(path) as handle:
            try:
                return os.getxattr(handle, self._opaque) == b"y"
            except OSError:
                return False

    def names(self, path: str) -> list[tuple[str, bool]]:
        with self._reached(path) as (directory, name):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            with os.scandir(fd) as entries:
                return [(entry.name, _maybe_device(entry) and is_whiteout(Node.of(entry.stat(follow_symlinks=False)))) for entry in entries]
        finally:
            os.close(fd)

    def open(self, path: str) -> int:
        with self._reached(path) as (directory, name):
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)

    def readlink(self, path: str) -> str:
        with self._reached(path) as (directory, name):
            return os.readlink(name, dir_fd=directory)

    def xattrs(self, path: str) -> dict[str, bytes]:
        with self._handle(path) as handle:
            names = os.listxattr(handle)
            return {name: os.getxattr(handle, name) for name in sorted(names) if _belongs_to_file(name)}

    def close(self) -> None:
        os.close(self._root)

    @contextmanager
    def _handle(self, path: str) -> Iterator[str]:
        """A name by which the entry itself, be it a symlink or a device, can be given to a call that has no dir_fd."""
        with self._reached(path) as (directory, name):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)

    @contextmanager
    def _reached(self, path: str) -> Iterator[tuple[int, str]]:
        """A directory and a path below it that the kernel takes: a longer one is gone along in parts."""
        fd = self._root
        try:
            while len(path) > _NEAR:
                cut = path.rindex("/", 0, _NEAR)
                further = os.open(path[:cut], _PART, dir_fd=fd)
                if fd != self._root:
                    os.close(fd)
                fd, path = further, path[cut + 1 :]
            yield fd, path or "."
        finally:
            if fd != self._root:
                os.close(fd)


def _maybe_device(entry: os.DirEntry[str]) -> bool:
    return not (entry.is_symlink() or entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False))


def _belongs_to_file(name: str) -> bool:
    return not name.startswith(OVERLAY_PREFIXES) and name not in HOST_XATTRS
