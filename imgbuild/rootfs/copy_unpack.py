"""ADD's archives: what is one, and extracting it below a destination.

It is the plain tar of a user, not a layer: names of whiteouts mean nothing, devices and fifos are left out, and what stands in the way
is replaced. Names and links are resolved below the destination, as in a chroot there. Contents are judged, never names.
"""

from __future__ import annotations

import os
import posixpath
import stat

from imgbuild.context.tree import Tree
from imgbuild.errors import ContextError, LayerError
from imgbuild.hints import BinaryIO, Iterator
from imgbuild.layer.compress import decompressing
from imgbuild.layer.tar import Reader, TarEntry, read_tar
from imgbuild.layer.xattrs import is_kept
from imgbuild.light.contextlib import contextmanager
from imgbuild.linux.symlinks import resolve_inside
from imgbuild.rootfs.copy_plan import SECOND, Destination, Extract, Metadata, PutLink, PutStream, PutSymlink
from imgbuild.rootfs.copy_write import LayerWriter
from imgbuild.rootfs.users import Owner

_PATH_MAX = 4095


def is_archive(tree: Tree, path: str) -> bool:
    """Whether a regular file is a tar, or one in gzip, bzip2, xz or zstd, with at least one entry."""
    with _opened(tree, path) as file:
        try:
            return next(read_tar(decompressing(file)), None) is not None
        except LayerError:
            return False


def extract(action: Extract, destination: Destination, writer: LayerWriter) -> None:
    """Put an archive's entries into the destination, while it is read. ContextError for one that is damaged or names what is
    outside."""
    unpacking = _Unpacking(action, destination, writer)
    with _opened(action.tree, action.source) as file:
        try:
            for entry, reader in read_tar(decompressing(file)):
                unpacking.add(entry, reader)
        except LayerError as error:
            message = f"can't extract {action.source[1:]!r}: {error.message}"
            raise ContextError(message, hint="COPY copies an archive as it is", detail=error.detail) from None


class _Unpacking:
    def __init__(self, action: Extract, destination: Destination, writer: LayerWriter) -> None:
        self._action = action
        self._base = "" if action.path == "/" else action.path
        self._destination = destination
        self._writer = writer

    def add(self, entry: TarEntry, reader: Reader) -> None:
        path = self._resolved(entry.name)
        if path is None or entry.kind in ("char", "block", "fifo"):
            return
        self._destination.make_directories(path.rpartition("/")[0] or "/", Owner())
        metadata = self._metadata(entry)
        if entry.kind == "dir":
            self._destination.put_directory(path, metadata, settled=True, replace=True)
        elif entry.kind == "symlink":
            self._destination.put(PutSymlink(path, os.fsdecode(entry.link), metadata), replace=True)
        elif entry.kind == "hardlink":
            self._link(path, entry, metadata)
        else:
            self._destination.put(PutStream(path, metadata), replace=True)
        self._writer.perform(self._destination.take())
        if entry.kind == "file":
            self._writer.put_stream(path, reader.segments(), entry.size, metadata)

    def _link(self, path: str, entry: TarEntry, metadata: Metadata) -> None:
        target = self._resolved(entry.link)
        kind = self._destination.kind(target) if target else None
        if target is None or kind not in (stat.S_IFREG, stat.S_IFLNK):
            raise LayerError(f"{os.fsdecode(entry.name)!r} is a link to {os.fsdecode(entry.link)!r}, which is not there")
        if target == path:
            return
        if target.startswith(f"{path}/"):
            raise LayerError(f"{os.fsdecode(entry.name)!r} would replace the directory of the file that it links to")
        if not self._destination.is_new(target):
            if kind == stat.S_IFLNK:
                self._destination.put(PutSymlink(target, self._destination.link(target) or "", metadata))
            else:
                self._destination.copy_up(target)
        self._destination.put(PutLink(path, target, symlink=self._destination.link(target)), replace=True)
        self._writer.perform(self._destination.take())
        if kind == stat.S_IFREG:
            self._writer.set_metadata(path, metadata)

    def _resolved(self, name: bytes) -> str | None:
        """The real path of an archive's name; None for the destination itself."""
        text = os.fsdecode(name)
        if len(name) > _PATH_MAX:
            raise LayerError(f"{text[:60]!r}... is a path of more than {_PATH_MAX} bytes, which Linux has not")
        depth = 0
        for part in text.split("/"):
            depth += -1 if part == ".." else 0 if part in ("", ".") else 1
            if depth < 0:
                raise LayerError(f"{text!r} is outside of the directory that is extracted to")
        try:
            clean = posixpath.normpath("/" + text.lstrip("/"))
            inside = resolve_inside(clean, lambda path: self._destination.link(self._base + path), follow_last=False)
        except OSError as error:
            raise LayerError(f"{text!r}: {error.strerror}") from None
        return self._base + inside if inside != "/" else None

    def _metadata(self, entry: TarEntry) -> Metadata:
        owner = self._action.owner or Owner(entry.uid, entry.gid)
        xattrs = tuple((os.fsdecode(name), value) for name, value in entry.xattrs if is_kept(os.fsdecode(name)))
        if entry.kind not in ("file", "dir", "hardlink"):
            xattrs = ()
        return Metadata(entry.mode, owner, max(0, self._destination.clamped(entry.mtime * SECOND)), xattrs)


@contextmanager
def _opened(tree: Tree, path: str) -> Iterator[BinaryIO]:
    with os.fdopen(tree.open(path), "rb", buffering=1 << 20) as file:
        yield file
