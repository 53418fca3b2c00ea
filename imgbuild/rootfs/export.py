"""A merged root file system -> a plain directory, or one tar. Without whiteouts: what a container would see.

The directory may exist and hold something: files of the image take the place of what has their names, directories are gone on with,
and symlinks that are there are replaced, never followed.
"""

from __future__ import annotations

import os
import stat

from imgbuild.hints import Callable, Iterable, Iterator
from imgbuild.layer.failures import explained
from imgbuild.layer.sparse import zeros
from imgbuild.layer.tar import CHUNK, Kind, TarEntry, TarWriter
from imgbuild.layer.upper import Metadata, UpperTree
from imgbuild.layer.xattrs import Xattrs, portable
from imgbuild.light.pathlib import Path
from imgbuild.linux.node import KINDS
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass, replace

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Exported:
    """`placeholders` counts owners, devices and attributes that this user could not give."""

    size: int
    inodes: int
    placeholders: int = 0


def export_tree(view: UnionView, directory: Path, *, unprivileged: bool = False) -> Exported:
    """Write the root file system into `directory`, which is made where it is missing; one that was there keeps its own metadata.

    `unprivileged`: what only root may set is left out and counted, instead of being an error.
    """
    with explained(directory):
        existed = directory.is_dir()
        directory.mkdir(parents=True, exist_ok=True)
        with UpperTree(directory, unprivileged) as tree:
            for entry, path in entries_below(view):
                put_entry(tree, view, entry, path)
            tree.finish(root=not existed)
            return Exported(tree.size, tree.inodes, tree.placeholders)


def export_tar(view: UnionView, write: Callable[[bytes], object]) -> int:
    """Write the root file system as a tar, the root itself as ``./`` first; the number of entries."""
    return export_trees([("", view)], write)


def export_trees(views: Iterable[tuple[str, UnionView]], write: Callable[[bytes], object]) -> int:
    """Write root file systems as one tar, each in the directory that it is given with; "" for none."""
    writer = TarWriter(write)
    count = 0
    with explained("exporting a root file system"):
        for directory, view in views:
            for entry, path in entries_below(view):
                writer.add(named_below(directory, entry))
                count += 1
                if entry.kind == "file":
                    _write_file(writer, view, path, entry.size)
        writer.finish()
    return count


def export_subtree(view: UnionView, path: str, name: str, write: Callable[[bytes], object]) -> int:
    """Write what is at a real path as a tar, by that name; "" for a directory's contents. The number of entries."""
    writer = TarWriter(write)
    count = 0
    with explained(f"exporting {path}"):
        for entry, at in entries_below(view, path):
            writer.add(named_below(name, entry))
            count += 1
            if entry.kind == "file":
                _write_file(writer, view, at, entry.size)
        writer.finish()
    return count


def named_below(directory: str, entry: TarEntry) -> TarEntry:
    """The entry as one below a directory; the one of the top as that directory."""
    if not directory:
        return entry
    top = os.fsencode(directory)
    name = top if entry.name == b"." else top + b"/" + entry.name
    return replace(entry, name=name, link=top + b"/" + entry.link if entry.kind == "hardlink" else entry.link)


def _write_file(writer: TarWriter, view: UnionView, path: str, size: int) -> None:
    position = 0
    for offset, data in _segments(view, path):
        for hole in zeros(offset - position, CHUNK):
            writer.data(hole)
        writer.data(data)
        position = offset + len(data)
    for hole in zeros(size - position, CHUNK):
        writer.data(hole)


def entries_below(view: UnionView, top: str = "/") -> Iterator[tuple[TarEntry, str]]:
    """All that is in the view at a real path and below as tar entries, named from there, with their paths: parents first, siblings by
    their bytes. The first name of a file that has several is the file, the others are links to it."""
    links: dict[tuple[int, int], bytes] = {}
    for path, status in view.walk(top):
        seen = KINDS.get(stat.S_IFMT(status.mode))
        if seen is None or seen == "socket":  # tar has no word for it
            continue
        kind: Kind = seen
        name = os.fsencode(path[len(top) :]).lstrip(b"/") or b"."
        link = b""
        xattrs: Xattrs = ()
        if kind == "file" and status.nlink > 1:
            link = links.setdefault((status.dev, status.ino), name)
            kind, link = ("hardlink", link) if link != name else ("file", b"")
        if kind == "symlink":
            link = os.fsencode(view.readlink(path))
        if kind in ("file", "dir"):
            xattrs = portable(view.xattrs(path))
        device = status.rdev if kind in ("char", "block") else 0
        entry = TarEntry(
            name=name,
            kind=kind,
            mode=stat.S_IMODE(status.mode),
            uid=status.uid,
            gid=status.gid,
            size=status.size if kind == "file" else 0,
            mtime=status.mtime_ns // _SECOND,
            mtime_ns=status.mtime_ns % _SECOND,
            link=link,
            major=os.major(device),
            minor=os.minor(device),
            xattrs=xattrs,
        )
        yield entry, path


def put_entry(tree: UpperTree, view: UnionView, entry: TarEntry, path: str) -> None:
    """Write what the view has at `path` into the tree as the entry says."""
    name = b"" if entry.name == b"." else entry.name
    metadata = Metadata.of(entry)
    if entry.kind == "dir":
        tree.directory(name, metadata)
    elif entry.kind == "file":
        tree.file(name, metadata, entry.size, _segments(view, path))
    elif entry.kind == "hardlink":
        tree.hard_link(name, entry.link)
    elif entry.kind == "symlink":
        tree.symlink(name, entry.link, metadata)
    else:
        tree.special(name, entry.kind, entry.major, entry.minor, metadata)


def _segments(view: UnionView, path: str) -> Iterator[tuple[int, bytes]]:
    """A file's data with its offsets; holes are not read."""
    fd = view.open(path)
    try:
        offset = 0
        while True:
            try:
                offset = os.lseek(fd, offset, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole is left
                return
            end = os.lseek(fd, offset, os.SEEK_HOLE)
            while offset < end and (data := os.pread(fd, min(end - offset, CHUNK), offset)):
                yield offset, data
                offset += len(data)
    finally:
        os.close(fd)
