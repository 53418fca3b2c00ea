"""A root file system out of a foreign tar, in normal form: one entry a path, sorted, parents first, links resolved.

Members may come in any order and more than once (the last one counts), with ``./`` and ``/`` before their names, below a
directory that is a symlink, or without their parents. What leads out of the root, what can't be in a layer, and what no file
system would take is refused. Contents are kept in one spool file; only names and metadata are in memory.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from imgbuild.errors import LayerError
from imgbuild.hints import Callable, Iterator
from imgbuild.layer import WHITEOUT
from imgbuild.layer.tar import CHUNK, Reader, TarEntry, TarWriter
from imgbuild.layer.xattrs import portable
from imgbuild.values import dataclass, field, replace

_MAX_HOPS = 40
_NAME_MAX = 255
_PATH_MAX = 4095
_IMPLICIT = TarEntry(b"", "dir", mode=0o755)


@dataclass(slots=True)
class _Inode:
    """What names stand for. `path` is the first name written of it, `offset` where its content is in the spool."""

    entry: TarEntry
    offset: int = 0
    children: dict[bytes, _Inode] = field(default_factory=dict)
    path: bytes | None = None


class Tree:
    """Takes members, then writes them in order. `newest` is the latest mtime of any member, None before the first."""

    def __init__(self, spool: BinaryIO) -> None:
        self._spool = spool
        self._size = 0
        self._root = _Inode(_IMPLICIT)
        self._has_root = False
        self.newest: int | None = None

    def add(self, entry: TarEntry, content: Reader) -> None:
        """Take one member."""
        parts = _parts(entry.name)
        shown = os.fsdecode(entry.name)
        if entry.kind == "char" and entry.major == 0 and entry.minor == 0:
            raise LayerError(f"{shown!r} is a character device 0:0, which stands for a deleted file in snapshots")
        if parts and parts[-1].startswith(WHITEOUT):
            raise LayerError(f"{shown!r} is a layer's mark of a deleted file; a root file system has none", hint="load it as an image")
        self.newest = entry.mtime if self.newest is None else max(self.newest, entry.mtime)
        xattrs = portable({os.fsdecode(name): value for name, value in entry.xattrs})
        entry = replace(entry, mtime_ns=0, xattrs=xattrs if entry.kind in ("file", "dir") else ())
        if not parts:
            if entry.kind != "dir":
                raise LayerError(f"{shown!r} puts something that is no directory in place of the root")
            self._root.entry, self._has_root = entry, True
            return
        parent = self._directory(parts[:-1], shown)
        name = parts[-1]
        known = parent.children.get(name)
        if known is not None and known.children and entry.kind != "dir":
            raise LayerError(f"{shown!r} takes the place of a directory that has files already")
        if entry.kind == "hardlink":
            parent.children[name] = self._linked(entry, shown)
        elif entry.kind == "dir" and known is not None and known.entry.kind == "dir":
            known.entry = entry
        else:
            parent.children[name] = _Inode(entry, self._keep(entry, content))

    def write(self, writer: TarWriter, epoch: int | None, check: Callable[[], None]) -> None:
        """Write all, with no mtime later than `epoch`. `check` is called now and then, and may raise."""
        if self._has_root:
            writer.add(_clamped(replace(self._root.entry, name=b"."), epoch))
        for path, inode in _walk(self._root, b""):
            check()
            entry = _clamped(replace(inode.entry, name=path), epoch)
            if entry.kind == "file" and inode.path is not None:
                writer.add(replace(entry, kind="hardlink", link=inode.path, size=0, xattrs=()))
                continue
            inode.path = path
            writer.add(entry)
            if entry.kind == "file":
                self._content(inode, writer)

    def _keep(self, entry: TarEntry, content: Reader) -> int:
        """The content at the spool's end; holes are left as holes."""
        start = self._size
        if entry.kind == "file":
            for offset, data in content.segments():
                self._spool.seek(start + offset)
                self._spool.write(data)
            self._size += entry.size
            self._spool.truncate(self._size)
        return start

    def _content(self, inode: _Inode, writer: TarWriter) -> None:
        self._spool.seek(inode.offset)
        left = inode.entry.size
        while left:
            data = self._spool.read(min(CHUNK, left))
            if not data:
                raise LayerError("the spooled content of the tar is cut", hint="something else has written to the store's tmp directory")
            writer.data(data)
            left -= len(data)

    def _linked(self, entry: TarEntry, shown: str) -> _Inode:
        parts = _parts(entry.link)
        parent = self._directory(parts[:-1], shown, make=False) if parts else None
        target = parent.children.get(parts[-1]) if parent is not None else None
        if target is None or target.entry.kind == "dir":
            raise LayerError(f"{shown!r} is a hard link to {os.fsdecode(entry.link)!r}, which is no file before it in the tar")
        return target

    def _directory(self, parts: list[bytes], shown: str, *, make: bool = True) -> _Inode:
        """The directory of that path, through symlinks, never above the root. Missing ones are made with plain metadata."""
        stack = [self._root]
        waiting = list(reversed(parts))
        hops = 0
        while waiting:
            part = waiting.pop()
            if part == b"..":
                if len(stack) > 1:
                    stack.pop()
                continue
            inode = stack[-1].children.get(part)
            if inode is None:
                if not make:
                    return _Inode(_IMPLICIT)
                inode = stack[-1].children[part] = _Inode(_IMPLICIT)
            if inode.entry.kind == "symlink":
                hops += 1
                if hops > _MAX_HOPS:
                    raise LayerError(f"{shown!r} is below symlinks that lead in a circle")
                if inode.entry.link.startswith(b"/"):
                    del stack[1:]
                waiting += [step for step in reversed(inode.entry.link.split(b"/")) if step not in (b"", b".")]
            elif inode.entry.kind == "dir":
                stack.append(inode)
            else:
                raise LayerError(f"{shown!r} is below {os.fsdecode(part)!r}, which is no directory")
        return stack[-1]


def _walk(directory: _Inode, path: bytes) -> Iterator[tuple[bytes, _Inode]]:
    """All below a directory, depth first, siblings sorted; without recursion, which a deep tree would exhaust."""
    waiting = [(path, name, inode) for name, inode in sorted(directory.children.items(), reverse=True)]
    while waiting:
        above, name, inode = waiting.pop()
        here = above + b"/" + name if above else name
        if len(here) > _PATH_MAX:
            raise LayerError(f"{os.fsdecode(here[:60])!r}... is a path of more than {_PATH_MAX} bytes, which Linux has not")
        yield here, inode
        if inode.entry.kind == "dir":
            waiting += [(here, child, below) for child, below in sorted(inode.children.items(), reverse=True)]


def _parts(name: bytes) -> list[bytes]:
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise LayerError(
            f"{os.fsdecode(name)!r} leads out of the root file system by '..'", hint="this tar was not made of a root file system"
        )
    if any(len(part) > _NAME_MAX or b"\0" in part for part in parts):
        raise LayerError(f"{os.fsdecode(name[:60])!r}... has a part that no file system takes")
    return parts


def _clamped(entry: TarEntry, epoch: int | None) -> TarEntry:
    return entry if epoch is None or entry.mtime <= epoch else replace(entry, mtime=epoch)
