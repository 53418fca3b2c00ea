"""Performing a copy's actions in a new directory in overlay form, by descriptors below it and never through a symlink."""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.context.local import CAPABILITY, changed, same_file
from imgbuild.errors import StoreError
from imgbuild.hints import Callable, Iterable, Iterator, Mapping, TracebackType
from imgbuild.layer.diff import overlay_prefix
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.linux.node import Node
from imgbuild.linux.removal import remove_below
from imgbuild.rootfs.copy_plan import SECOND, Action, MakeDirectory, Metadata, PutData, PutFile, PutLink, PutSpecial, PutSymlink, Remove

_BLOCK = 1 << 20
_SPARSE_FROM = 64 << 10
_KEPT_OPEN = 32
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class LayerWriter:
    """Writes below `directory`, which nothing else writes to. A context manager: it holds some descriptors. `check` is called between
    pieces of work, and may raise to end it."""

    def __init__(self, directory: Path, userxattr: bool, check: Callable[[], None] | None = None) -> None:
        self._check = check or _go_on
        self.entries = 0
        self.size = 0
        self._root = os.open(directory, _DIRECTORY)
        self._opaque = overlay_prefix(rootless=userxattr) + "opaque"
        self._open: dict[str, int] = {}
        self._files: dict[tuple[int, int, int], str] = {}

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._forget()
        os.close(self._root)

    def perform(self, actions: Iterable[Action]) -> None:
        """Do the actions in their order, all but those whose content is elsewhere (`Extract`, `PutStream`)."""
        for action in actions:
            self._check()
            match action:
                case MakeDirectory():
                    self._make_directory(action)
                case PutFile():
                    self._put_file(action)
                case PutData():
                    self.put_stream(action.path, [(0, action.data)], len(action.data), action.metadata)
                case PutSymlink():
                    parent, name = self._place(action.path)
                    os.symlink(action.target, name, dir_fd=parent)
                    self._finish_entry(parent, name, action.metadata)
                case PutLink():
                    self._link(action.target, action.path)
                case PutSpecial():
                    parent, name = self._place(action.path)
                    os.mknod(name, action.mode, action.rdev, dir_fd=parent)
                    os.chmod(name, action.metadata.mode, dir_fd=parent)
                    self._finish_entry(parent, name, action.metadata)
                case Remove():
                    self._remove(action.path)

    def put_stream(self, path: str, segments: Iterable[tuple[int, bytes]], size: int, metadata: Metadata) -> None:
        """A regular file of `size` bytes: the data at their offsets, and holes between them."""
        parent, name = self._place(path)
        fd = os.open(name, _NEW, 0o600, dir_fd=parent)
        try:
            os.ftruncate(fd, size)
            for offset, data in segments:
                self._check()
                _write_at(fd, data, offset)
            self._finish(fd, metadata)
        finally:
            os.close(fd)
        self.entries += 1
        self.size += size

    def set_metadata(self, path: str, metadata: Metadata) -> None:
        """Change what a regular file that was put gets."""
        parent, name = self._place(path)
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._finish(fd, metadata)
        finally:
            os.close(fd)

    def finish(self, directories: Mapping[str, Metadata]) -> None:
        """Give the directories their metadata, deepest first, so that no write comes after a time or a mode is set."""
        for path, metadata in reversed(list(directories.items())):
            self._finish(self._directory(path), metadata)

    def _make_directory(self, action: MakeDirectory) -> None:
        parent, name = self._place(action.path)
        os.mkdir(name, 0o700, dir_fd=parent)
        self.entries += 1
        if action.opaque:
            os.setxattr(self._directory(action.path), self._opaque, b"y")

    def _put_file(self, action: PutFile) -> None:
        first = self._files.get(action.same_file) if action.same_file else None
        if first is not None:
            self._link(first, action.path)
            return
        source = action.tree.open(action.source)
        try:
            parent, name = self._place(action.path)
            fd = os.open(name, _NEW, 0o600, dir_fd=parent)
            try:
                copied = _copy(source, fd, action.node.size, self._check)
                if copied != action.node.size or (action.tree.local and not same_file(action.node, Node.of(os.fstat(source)))):
                    raise changed(action.source)
                metadata = action.metadata
                if action.tree.local:
                    with suppress(OSError):
                        capability = os.getxattr(source, CAPABILITY)
                        metadata = Metadata(metadata.mode, metadata.owner, metadata.mtime, ((CAPABILITY, capability),))
                self._finish(fd, metadata)
            finally:
                os.close(fd)
        finally:
            os.close(source)
        if action.same_file:
            self._files[action.same_file] = action.path
        self.entries += 1
        self.size += copied

    def _link(self, target: str, path: str) -> None:
        there, old = self._place(target)
        here, new = self._place(path, keep=target)
        os.link(old, new, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
        self.entries += 1

    def _remove(self, path: str) -> None:
        parent, name = self._place(path)
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if (error := remove_below(parent, name).error) is not None:
                raise error
            self._forget()
        else:
            os.unlink(name, dir_fd=parent)
        self._files = {key: first for key, first in self._files.items() if first != path and not first.startswith(f"{path}/")}

    def _finish_entry(self, parent: int, name: str, metadata: Metadata) -> None:
        """Owner and time of what can't be opened."""
        with _owner_allowed(metadata):
            os.chown(name, metadata.owner.uid, metadata.owner.gid, dir_fd=parent, follow_symlinks=False)
        if stat.S_IMODE(metadata.mode) & 0o7000:
            os.chmod(name, metadata.mode, dir_fd=parent)
        os.utime(name, ns=(metadata.mtime * SECOND,) * 2, dir_fd=parent, follow_symlinks=False)
        self.entries += 1

    def _finish(self, fd: int, metadata: Metadata) -> None:
        # in this order: chown takes set-id bits and capabilities away
        with _owner_allowed(metadata):
            os.fchown(fd, metadata.owner.uid, metadata.owner.gid)
        os.fchmod(fd, metadata.mode)
        for name, value in metadata.xattrs:
            os.setxattr(fd, name, value)
        os.utime(fd, ns=(metadata.mtime * SECOND,) * 2)

    def _place(self, path: str, keep: str = "") -> tuple[int, str]:
        """A descriptor of the directory that holds `path`, and the name in it."""
        parent, _, name = path.rpartition("/")
        return self._directory(parent or "/", keep.rpartition("/")[0] or "/"), name

    def _directory(self, path: str, keep: str = "/") -> int:
        """A descriptor of a directory of this layer; good until the next call, and that of `keep` with it."""
        missing: list[str] = []
        while path != "/" and path not in self._open:
            path, _, name = path.rpartition("/")
            path = path or "/"
            missing.append(name)
        fd = self._root if path == "/" else self._open.pop(path)
        if path != "/":
            self._open[path] = fd  # the one that was used last
        while missing:
            name = missing.pop()
            path = f"{path}/{name}" if path != "/" else f"/{name}"
            fd = os.open(name, _DIRECTORY, dir_fd=fd)
            if len(self._open) >= _KEPT_OPEN:
                oldest = next(other for other in self._open if other != keep)
                os.close(self._open.pop(oldest))
            self._open[path] = fd
        return fd

    def _forget(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


@contextmanager
def _owner_allowed(metadata: Metadata) -> Iterator[None]:
    """Without the ids that the image needs, its bytes would be others than everywhere else: better to say so."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EPERM):
            raise
        owner = f"{metadata.owner.uid}:{metadata.owner.gid}"
        raise StoreError(
            f"can't give a file to {owner}: {error.strerror}", hint="rootless needs a range of ids in /etc/subuid and /etc/subgid"
        ) from None


def _go_on() -> None:
    """Nothing ends the work."""


def _copy(source: int, target: int, size: int, check: Callable[[], None]) -> int:
    """Copy a file's bytes and holes; at most one byte more than `size`, so that a growing file is noticed."""
    if size >= _SPARSE_FROM and os.lseek(source, 0, os.SEEK_HOLE) < size:
        return _copy_sparse(source, target, size, check)
    copied = 0
    in_kernel = size >= _SPARSE_FROM
    while True:
        want = min(_BLOCK * 64 if in_kernel else _BLOCK, size + 1 - copied)
        if want <= 0:
            return copied
        check()
        if in_kernel:
            try:
                done = os.copy_file_range(source, target, want, copied, copied)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise
                in_kernel = False
                continue
        else:
            data = os.pread(source, want, copied)
            _write_at(target, data, copied)
            done = len(data)
        copied += done
        if not done or (copied == size and done < want):
            return copied


def _copy_sparse(source: int, target: int, size: int, check: Callable[[], None]) -> int:
    os.ftruncate(target, size)
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        while start < end:
            check()
            data = os.pread(source, min(_BLOCK, end - start), start)
            if not data:
                return start
            _write_at(target, data, start)
            start += len(data)
        position = end
    return os.fstat(source).st_size


def _write_at(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view = view[done:]
        offset += done
