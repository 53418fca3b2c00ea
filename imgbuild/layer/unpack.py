"""A layer's tar -> a directory in overlay form, which together with the lowers below it shows what the layer means.

The tar is foreign and may be hostile. Nothing is created through a symlink but where a parent of an entry is one, in the layer or
in the lowers: that is resolved inside the root, as in a container. What the unpackers of the field agree on is done; where they differ
in what they would make of it, LayerError:
- a name twice: the last wins, files and directories replace each other; ``d`` and ``d/`` are one name, ``/`` and ``./`` mean nothing;
- ``..`` in a name or a hard link's target, names that are too long, null bytes, entries below a file: refused;
- a parent that the layer doesn't name is made 0755, or as the lowers have it;
- hard links may come before their targets; one to a file of the lowers copies it up, as the kernel does;
- whiteouts hide only what the lowers have, wherever they stand in the layer: a directory beside its whiteout is opaque;
- ``.wh.`` , ``.wh..`` , ``.wh...`` are refused, and names below a whiteout; what else begins with ``.wh..wh.`` is aufs' own, and skipped;
- an opaque root, which overlay does not know, becomes whiteouts of what the lowers have there;
- 0/0 character devices are skipped: they would be whiteouts by accident; xattrs are filtered as in what we write.
"""

from __future__ import annotations

import os
import stat

from imgbuild.errors import LayerError
from imgbuild.hints import Iterator
from imgbuild.layer import WHITEOUT, ParentView
from imgbuild.layer.failures import explained
from imgbuild.layer.headers import show
from imgbuild.layer.names import AUFS, MAX_LINKS, MAX_TARGET, OPAQUE, join, parts_of
from imgbuild.layer.tar import CHUNK, Reader, Stream, TarEntry, read_tar
from imgbuild.layer.upper import Metadata, UpperTree
from imgbuild.layer.xattrs import portable
from imgbuild.light.pathlib import Path
from imgbuild.linux.node import Node
from imgbuild.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came of a layer: bytes of content, files made, and whether the directory is right on these lowers only (`stacked`).

    `placeholders` counts devices, owners and attributes that a rootless user could not be given; `skipped` entries that mean nothing here.
    """

    size: int
    inodes: int
    stacked: bool = False
    placeholders: int = 0
    skipped: int = 0


def unpack(
    stream: Stream,
    directory: Path,
    *,
    lowers_view: ParentView | None = None,
    rootless: bool = False,
) -> Unpacked:
    """Write what a tar says into `directory`, which exists and is empty; LayerError or StoreError leaves it half done.

    Reads to the end marker only. `lowers_view` is what the layer lies on, None for nothing; what it raises comes through.
    """
    with explained("unpacking a layer"), UpperTree(directory, rootless) as tree:
        unpacker = _Unpacker(tree, lowers_view)
        for entry, content in read_tar(stream):
            unpacker.apply(entry, content)
        unpacker.finish()
        return Unpacked(tree.size, tree.inodes, unpacker.stacked, tree.placeholders, unpacker.skipped)


class _Unpacker:
    """Says what entries mean, in terms of the tree and of what lies below it."""

    def __init__(self, tree: UpperTree, lowers: ParentView | None) -> None:
        self._tree = tree
        self._lowers = lowers
        self._deferred: dict[bytes, bytes] = {}
        self._opaque_root = False
        self._root_named = False
        self.stacked = False
        self.skipped = 0

    def apply(self, entry: TarEntry, content: Reader) -> None:
        """Do what one entry says."""
        parts = parts_of(entry.name)
        if not parts:
            if entry.kind != "dir":
                raise LayerError(f"the root of the tar is a {entry.kind}")
            self._root_named = True
            self._tree.directory(b"", Metadata.of(entry))
            return
        name = parts.pop()
        if any(part.startswith(WHITEOUT) for part in parts):
            raise LayerError(f"an entry below a whiteout: {show(entry.name)}")
        if name.startswith(WHITEOUT):
            self._whiteout(parts, name, entry)
        else:
            self._plain(join(self._directory(parts), name), entry, content)

    def finish(self) -> None:
        """Do what had to wait for the last entry."""
        if not self._root_named:
            self._imply_root()
        self._finish_links()
        if self._opaque_root:
            self._hide_root()
        self._tree.finish()

    def _plain(self, path: bytes, entry: TarEntry, content: Reader) -> None:
        metadata = Metadata.of(entry)
        self._deferred.pop(path, None)
        if entry.kind == "file":
            self._tree.file(path, metadata, entry.size, content.segments())
        elif entry.kind == "dir":
            self._tree.directory(path, metadata)
        elif entry.kind == "symlink":
            if not 0 < len(entry.link) <= MAX_TARGET or b"\0" in entry.link:
                raise LayerError(f"{show(path)} is a symlink without a possible target")
            self._tree.symlink(path, entry.link, metadata)
        elif entry.kind == "hardlink":
            self._hard_link(path, entry)
        elif entry.kind == "char" and (entry.major, entry.minor) == (0, 0):
            self.skipped += 1
        else:
            self._tree.special(path, entry.kind, entry.major, entry.minor, metadata)

    def _whiteout(self, parts: list[bytes], name: bytes, entry: TarEntry) -> None:
        if name == OPAQUE:
            path = self._directory(parts)
            self._tree.cover(path)
            self._opaque_root = self._opaque_root or not path
        elif name.startswith(AUFS):
            self.skipped += 1
        else:
            hidden = name[len(WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise LayerError(f"a whiteout of nothing: {show(entry.name)}")
            self._tree.whiteout(join(self._directory(parts), hidden))

    def _directory(self, parts: list[bytes]) -> bytes:
        """The real path of a directory, made where it is missing; symlinks followed in the layer and in what lies below it."""
        tree = self._tree
        done = b"/".join(parts)
        if done in tree.directories:
            return done
        done = b""
        pending = parts[::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name == b"..":
                done = done.rpartition(b"/")[0]
                continue
            path = join(done, name)
            if path not in tree.directories:
                target = self._symlink(path)
                if target is not None:
                    links += 1
                    if links > MAX_LINKS:
                        raise LayerError(f"symlinks lead in a circle: {show(path)}")
                    done = b"" if target.startswith(b"/") else done
                    pending.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))
                    continue
                self._imply(path)
            done = path
        return done

    def _symlink(self, path: bytes) -> bytes | None:
        """The target of a symlink in the layer, or below it where the layer has nothing."""
        target = self._tree.symlinks.get(path)
        if target is not None or self._tree.lstat(path) is not None:
            return target
        status = self._below(path)
        if status is None or self._lowers is None or not stat.S_ISLNK(status.mode):
            return None
        return os.fsencode(self._lowers.readlink(_absolute(path)))

    def _imply(self, path: bytes) -> None:
        """Make a directory that the layer uses without naming it."""
        if path in self._tree.whiteouts:
            self._tree.directory(path, Metadata())
            return
        here = self._tree.lstat(path)
        below = None if here is not None else self._below(path)
        if here is not None or (below is not None and not stat.S_ISDIR(below.mode)):
            raise LayerError(f"an entry below {show(path)}, which is not a directory")
        self._tree.directory(path, Metadata() if below is None else self._metadata_below(path, below))

    def _imply_root(self) -> None:
        """Overlay shows the topmost lower's root: one that the layer doesn't name must be as it is below, where that is not the usual."""
        status = self._lowers.lstat("/") if self._lowers is not None else None
        if status is None:
            return
        below = replace(self._metadata_below(b"", status), mtime_ns=0)
        if below != Metadata():
            self.stacked = True
            self._tree.directory(b"", below)

    def _below(self, path: bytes) -> Node | None:
        """What shows through from below at a path that the layer has nothing at."""
        self.stacked = True
        if self._lowers is None:
            return None
        above = path if self._tree.covers else b""
        while above:
            above = above.rpartition(b"/")[0]
            if self._tree.directories[above].opaque:
                return None
        return self._lowers.lstat(_absolute(path))

    def _metadata_below(self, path: bytes, status: Node) -> Metadata:
        assert self._lowers is not None
        xattrs = portable(self._lowers.xattrs(_absolute(path)))
        return Metadata(stat.S_IMODE(status.mode), status.uid, status.gid, status.mtime_ns, xattrs)

    def _hard_link(self, path: bytes, entry: TarEntry) -> None:
        parts = parts_of(entry.link)
        if not parts:
            raise LayerError(f"{show(path)} is a hard link to nothing")
        target = self._known(parts)
        if target in self._tree.directories:
            raise LayerError(f"{show(path)} is a hard link to a directory")
        if target is None or target in self._tree.whiteouts or self._tree.lstat(target) is None:
            self._deferred[path] = b"/".join(parts)
        elif target != path:
            self._tree.hard_link(path, target)

    def _known(self, parts: list[bytes]) -> bytes | None:
        """The real path of what is in the tree by now, without asking what lies below; None where a parent is missing."""
        done = b""
        pending = parts[-2::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name == b"..":
                done = done.rpartition(b"/")[0]
                continue
            path = join(done, name)
            target = self._tree.symlinks.get(path)
            if target is not None and links < MAX_LINKS:
                links += 1
                done = b"" if target.startswith(b"/") else done
                pending.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))
            elif path in self._tree.directories:
                done = path
            else:
                return None
        return join(done, parts[-1])

    def _finish_links(self) -> None:
        """Hard links that came before their targets, then those whose targets are in the lowers."""
        progress = True
        while self._deferred and progress:
            progress = False
            for path, raw in list(self._deferred.items()):
                target = self._known(raw.split(b"/"))
                if target is None or target == path or target in self._tree.whiteouts or self._tree.lstat(target) is None:
                    continue
                del self._deferred[path]
                self._tree.hard_link(path, target)
                progress = True
        waiting = dict(self._deferred)
        for path, raw in waiting.items():
            self._link_below(path, raw)

    def _link_below(self, path: bytes, raw: bytes) -> None:
        """A hard link to a file of the lowers: the file is copied up, and is then one with its new name."""
        *parts, name = raw.split(b"/")
        target = join(self._directory(parts), name)
        if target in self._tree.directories or target == path:
            raise LayerError(f"{show(path)} is a hard link to a directory" if target != path else f"{show(path)} is a hard link to itself")
        if target in self._tree.whiteouts:
            raise LayerError(f"{show(path)} is a hard link to {show(target)}, which the layer deletes")
        if self._tree.lstat(target) is None:
            status = self._below(target)
            if status is None or self._lowers is None or not stat.S_ISREG(status.mode):
                raise LayerError(f"{show(path)} is a hard link to {show(target)}, which does not exist as a file")
            fd = self._lowers.open(_absolute(target))
            try:
                self._tree.file(target, self._metadata_below(target, status), status.size, _segments(fd))
            finally:
                os.close(fd)
        self._tree.hard_link(path, target)

    def _hide_root(self) -> None:
        self.stacked = True
        self._tree.directories[b""].opaque = False
        if self._lowers is not None:
            for name in self._lowers.listdir("/"):
                self._tree.whiteout(os.fsencode(name))


def _segments(fd: int) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while data := os.read(fd, CHUNK):
        yield offset, data
        offset += len(data)


def _absolute(path: bytes) -> str:
    return "/" + os.fsdecode(path)
