"""A directory while a tree of an image is written into it: what it holds so far, and what it takes to add to it.

Everything is done relative to descriptors of directories that this class made itself; names never lead through a symlink.
Directories get their owner, mode, attributes and times at the end (`finish`): until then they are private, so that neither a set-group-id
bit nor a default ACL is inherited, nor an mtime lost.
"""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.errors import LayerError
from imgbuild.hints import Iterable
from imgbuild.layer.diff import overlay_prefix
from imgbuild.layer.tar import TarEntry
from imgbuild.layer.xattrs import Xattrs, is_kept
from imgbuild.light.pathlib import Path
from imgbuild.linux.paths import Root
from imgbuild.linux.removal import remove_below
from imgbuild.values import dataclass

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SECOND = 1_000_000_000
_OPEN_DIRECTORIES = 128
_MOST_NAMED = 512 << 20
_REFUSED_IDS = (errno.EPERM, errno.EINVAL)
_DEVICES = {"char": stat.S_IFCHR, "block": stat.S_IFBLK}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file has beside its content."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: Xattrs = ()

    @classmethod
    def of(cls, entry: TarEntry) -> Metadata:
        """The metadata that a tar gives an entry, without attributes that don't belong to layers."""
        xattrs = tuple((name, value) for name, value in entry.xattrs if is_kept(os.fsdecode(name))) if entry.xattrs else ()
        return cls(entry.mode, entry.uid, entry.gid, entry.mtime * _SECOND + entry.mtime_ns, xattrs)


@dataclass(slots=True)
class Directory:
    """A directory of the tree: what it will have, and whether it hides what the lowers have there."""

    metadata: Metadata
    opaque: bool = False


class UpperTree:
    """The tree. Paths are bytes, relative, and real: every parent is one of `directories`. A context manager.

    What `root` holds already stays where nothing else takes its place; directories are gone on with, symlinks never followed.
    """

    def __init__(self, root: Path, rootless: bool) -> None:
        self._top = Root.open_path(root)
        self._opaque = overlay_prefix(rootless) + "opaque"
        self._rootless = rootless
        self._ids = (os.geteuid(), os.getegid())
        self._open: dict[bytes, int] = {}
        self.directories: dict[bytes, Directory] = {b"": Directory(Metadata())}
        self.symlinks: dict[bytes, bytes] = {}
        self.whiteouts: set[bytes] = set()
        self.size = 0
        self.inodes = 0
        self.placeholders = 0
        self.covers = False
        """Whether any directory is opaque."""
        self._named = 0

    def __enter__(self) -> UpperTree:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        self._top.close()

    def lstat(self, path: bytes) -> os.stat_result | None:
        """What is at a path by now."""
        parent, name = self._parent(path)
        try:
            return os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def directory(self, path: bytes, metadata: Metadata) -> None:
        """Make a directory, or give one new metadata. In the place of a whiteout it becomes opaque."""
        known = self.directories.get(path)
        if known is not None:
            known.metadata = metadata
            return
        opaque = path in self.whiteouts
        parent, name = self._parent(path)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            here = self.lstat(path)
            if here is None or not stat.S_ISDIR(here.st_mode):
                self.remove(path)
                os.mkdir(name, 0o700, dir_fd=parent)
        self.directories[path] = Directory(metadata, opaque)
        self.covers = self.covers or opaque
        self.inodes += 1
        self._named += len(path)
        if self._named > _MOST_NAMED:
            raise LayerError(f"the directories of a layer have paths of more than {_MOST_NAMED >> 20} MiB in all")

    def file(self, path: bytes, metadata: Metadata, size: int, segments: Iterable[tuple[int, bytes]]) -> None:
        """Make a regular file of segments with their offsets; between them it has holes."""
        parent, name = self._parent(path)
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self.remove(path)
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        self.inodes += 1
        try:
            end = 0
            for offset, data in segments:
                end = offset + _write(fd, data, offset)
                self.size += len(data)
            if end < size:
                os.ftruncate(fd, size)
            self._dress(fd, metadata)
        finally:
            os.close(fd)

    def symlink(self, path: bytes, target: bytes, metadata: Metadata) -> None:
        """Make a symlink; its target is kept as it is."""
        parent, name = self._parent(path)
        try:
            os.symlink(target, name, dir_fd=parent)
        except FileExistsError:
            self.remove(path)
            os.symlink(target, name, dir_fd=parent)
        self.symlinks[path] = target
        self.inodes += 1
        if (metadata.uid, metadata.gid) != self._ids:
            self._chown(name, metadata, parent)
        os.utime(name, ns=(metadata.mtime_ns, metadata.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def special(self, path: bytes, kind: str, major: int, minor: int, metadata: Metadata) -> None:
        """Make a device or a FIFO. Who may not make devices gets an empty file in its place, which is counted."""
        parent, name = self._parent(path)
        if self.lstat(path) is not None:
            self.remove(path)
        try:
            if kind == "fifo":
                os.mkfifo(name, 0o600, dir_fd=parent)
            else:
                os.mknod(name, _DEVICES[kind] | 0o600, os.makedev(major, minor), dir_fd=parent)
        except PermissionError:
            if not self._rootless or kind == "fifo":
                raise
            self.placeholders += 1
            self.file(path, metadata, 0, ())
            return
        self.inodes += 1
        if (metadata.uid, metadata.gid) != self._ids:
            self._chown(name, metadata, parent)
        os.chmod(name, metadata.mode, dir_fd=parent)
        os.utime(name, ns=(metadata.mtime_ns, metadata.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def hard_link(self, path: bytes, target: bytes) -> None:
        """Make another name of a file of the tree. FileNotFoundError where there is no target."""
        source = self._parent(target)
        # A copy of the descriptor: looking up the other parent may close the first.
        held = os.dup(source[0])
        try:
            parent, name = self._parent(path)
            try:
                os.link(source[1], name, src_dir_fd=held, dst_dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                here, there = self.lstat(path), os.stat(source[1], dir_fd=held, follow_symlinks=False)
                if here is not None and os.path.samestat(here, there):
                    return
                self.remove(path)
                os.link(source[1], name, src_dir_fd=held, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(held)
        if target in self.symlinks:
            self.symlinks[path] = self.symlinks[target]

    def whiteout(self, path: bytes) -> None:
        """Hide what the lowers have at a path, without touching what the tree itself has there."""
        known = self.directories.get(path)
        if known is not None:
            self.cover(path)
        elif path not in self.whiteouts and self.lstat(path) is None:
            parent, name = self._parent(path)
            os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
            self.whiteouts.add(path)
            self.inodes += 1

    def cover(self, path: bytes) -> None:
        """Hide what the lowers have in a directory of the tree."""
        self.directories[path].opaque = self.covers = True

    def remove(self, path: bytes) -> None:
        """Take away what is at a path, with all that is below it."""
        parent, name = self._parent(path)
        self.symlinks.pop(path, None)
        self.whiteouts.discard(path)
        here = self.lstat(path)
        if here is None or not stat.S_ISDIR(here.st_mode):
            os.unlink(name, dir_fd=parent)
            return
        below = path + b"/"
        for known in [other for other in self.directories if other == path or other.startswith(below)]:
            del self.directories[known]
        self.symlinks = {other: target for other, target in self.symlinks.items() if not other.startswith(below)}
        self.whiteouts = {other for other in self.whiteouts if not other.startswith(below)}
        # The parent's descriptor stays: callers go on with it.
        for known in [other for other in self._open if other == path or other.startswith(below)]:
            os.close(self._open.pop(known))
        if (error := remove_below(parent, os.fsdecode(name)).error) is not None:
            raise error

    def finish(self, *, root: bool = True) -> None:
        """Give the directories what they are to have, those deepest first; the root itself only where `root` says so."""
        for path in sorted(self.directories, reverse=True):
            if not (path or root):
                continue
            directory = self.directories[path]
            fd = self._top.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                if directory.opaque and path:
                    os.setxattr(fd, self._opaque, b"y")
                self._dress(fd, directory.metadata)
            finally:
                os.close(fd)

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        """The descriptor of the directory above, valid until the next call, and the last name."""
        above, _, name = path.rpartition(b"/")
        fd = self._open.get(above)
        if fd is None:
            if len(self._open) >= _OPEN_DIRECTORIES:
                os.close(self._open.pop(next(iter(self._open))))
            fd = self._open[above] = self._top.open(above, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        return fd, name

    def _dress(self, fd: int, metadata: Metadata) -> None:
        """Owner, then mode (chown clears set-id bits), then attributes (it clears capabilities, too), then times."""
        if (metadata.uid, metadata.gid) != self._ids:
            self._chown(fd, metadata, None)
        os.fchmod(fd, metadata.mode)
        for name, value in metadata.xattrs:
            try:
                os.setxattr(fd, name, value)
            except PermissionError:
                if not self._rootless:
                    raise
                self.placeholders += 1
        os.utime(fd, ns=(metadata.mtime_ns, metadata.mtime_ns))

    def _chown(self, name: int | bytes, metadata: Metadata, parent: int | None) -> None:
        try:
            if isinstance(name, int):
                os.fchown(name, metadata.uid, metadata.gid)
            else:
                os.chown(name, metadata.uid, metadata.gid, dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            # A user namespace with one id has no other owners to give.
            if not self._rootless or error.errno not in _REFUSED_IDS:
                raise
            self.placeholders += 1


def _write(fd: int, data: bytes, offset: int) -> int:
    written = os.pwrite(fd, data, offset)
    while written < len(data):
        written += os.pwrite(fd, memoryview(data)[written:], offset + written)
    return written
