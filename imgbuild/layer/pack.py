"""Changes -> tar: the bytes of a layer, a function of the changes and the files' contents alone.

Whiteouts become ``.wh.NAME`` and opaque marks ``.wh..wh..opq`` (image-spec: layer.md, "Whiteouts"), empty files with no owner and
time. A file of the image whose own name begins with ``.wh.`` can't be said in a layer and is refused.
"""

from __future__ import annotations

import os
import stat

from imgbuild.errors import LayerError
from imgbuild.hints import TYPE_CHECKING, Callable, Iterable
from imgbuild.layer import WHITEOUT, sparse
from imgbuild.layer.diff import Change
from imgbuild.layer.failures import explained
from imgbuild.layer.tar import CHUNK, TarEntry, TarWriter
from imgbuild.light.pathlib import Path

if TYPE_CHECKING:
    from imgbuild.linux.paths import Root

_OPAQUE = b".wh..wh..opq"
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def pack(changes: Iterable[Change], root: Path, write: Callable[[bytes], object]) -> int:
    """Write the changes found in the upperdir `root` as a tar; the number of entries. Files are streamed, holes without being read.

    LayerError where a file is not any more what it was when the change was found.
    """
    from imgbuild.linux.paths import Root

    writer = TarWriter(write)
    count = 0
    with explained(root), Root.open_path(root) as top:
        for change in changes:
            count += 1
            writer.add(member(change))
            if change.kind == "file":
                _content(top, change, writer)
        writer.finish()
    return count


def member(change: Change) -> TarEntry:
    """What a layer's tar has for a change."""
    directory, slash, name = change.path.rpartition(b"/")
    if name.startswith(WHITEOUT):
        raise LayerError(
            f"a layer can't hold a file named {os.fsdecode(change.path)!r}", hint="names that begin with .wh. mark deleted files in layers"
        )
    if change.kind == "whiteout":
        return TarEntry(directory + slash + WHITEOUT + name, "file", 0)
    if change.kind == "opaque":
        return TarEntry(change.path + b"/" + _OPAQUE, "file", 0)
    return TarEntry(
        name=change.path or b".",
        kind=change.kind,
        mode=change.mode,
        uid=change.uid,
        gid=change.gid,
        size=change.size,
        mtime=change.mtime,
        link=change.link,
        major=os.major(change.rdev),
        minor=os.minor(change.rdev),
        xattrs=change.xattrs,
    )


def _content(top: Root, change: Change, writer: TarWriter) -> None:
    directory, name = top.open_parent(change.path)
    fd = os.open(name, _FILE, dir_fd=directory)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != change.size:
            raise _changed(change)
        if status.st_blocks * 512 < change.size:
            _sparse_content(fd, change, writer)
            return
        left = change.size
        while left:
            data = os.read(fd, min(left, CHUNK))
            if not data:
                raise _changed(change)
            writer.data(data)
            left -= len(data)
        if os.fstat(fd).st_size != change.size:
            raise _changed(change)
    finally:
        os.close(fd)


def _sparse_content(fd: int, change: Change, writer: TarWriter) -> None:
    """A file with holes: those are written as zeros, but not read."""
    at = 0
    while at < change.size:
        start, end = _next_data(fd, at, change.size)
        for zeros in sparse.zeros(start - at, CHUNK):
            writer.data(zeros)
        at = start
        while at < end:
            data = os.pread(fd, min(end - at, CHUNK), at)
            if not data:
                raise _changed(change)
            writer.data(data)
            at += len(data)


def _next_data(fd: int, at: int, size: int) -> tuple[int, int]:
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:  # ENXIO: no data up to the end
        return size, size
    return min(start, size), min(os.lseek(fd, start, os.SEEK_HOLE), size)


def _changed(change: Change) -> LayerError:
    return LayerError(f"{os.fsdecode(change.path)!r} changed while its layer was written", hint="something still writes to the snapshot")
