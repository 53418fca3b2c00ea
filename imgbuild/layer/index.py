"""A layer's tar as it is -> the EROFS image that shows it as a lower, with the contents where they are in the tar.

What entries mean is what `unpack` says, and nothing else: an index is made only of a tar that `unpack` would take, and shows what it
would have written. What `unpack` refuses is refused here, LayerError; what needs the lowers below, and the little that such an image
can't say as a file system of this machine would, is NotIndexable, and the caller unpacks.
"""

from __future__ import annotations

import os

from imgbuild.errors import LayerError
from imgbuild.hints import Sequence
from imgbuild.layer import WHITEOUT, erofs
from imgbuild.layer.erofs import Attributes, Child, Directory, FileRecord, Leaf
from imgbuild.layer.erofs_layout import image_of
from imgbuild.layer.headers import show
from imgbuild.layer.names import AUFS, MAX_LINKS, MAX_TARGET, OPAQUE, join, parts_of
from imgbuild.layer.tar import BLOCK, TarEntry
from imgbuild.layer.xattrs import is_kept

_KINDS = {"char": erofs.S_IFCHR, "block": erofs.S_IFBLK, "fifo": erofs.S_IFIFO}
_MOST_NAMED = 512 << 20
_MOST_HELD = 512 << 20
_MOST_ALIKE = 1000
_ENTRY = 300
"""Bytes that an entry takes in memory beside its names."""
_TIMES = range(-(1 << 31), (1 << 33))
"""Seconds that ext4 and XFS keep, too."""
_MAX_NAME = 255
_CAPABILITY, _CAPABILITY_BYTES = b"security.capability", 20
_CAPABILITIES_V2 = (b"\0\0\0\2", b"\1\0\0\2")
"""What the kernel takes as the first bytes of one: the revision, and whether it is effective."""


class NotIndexable(Exception):
    """Only unpacking can make a lower of this tar."""


class TarIndex:
    """The tree that a tar's entries make, in their order. `size` is the bytes of files' contents, `entries` how many were added.

    After NotIndexable or LayerError it is of no use any more.
    """

    def __init__(self) -> None:
        self.size = 0
        self.entries = 0
        self._root = Directory(b"", Attributes())
        self._deferred: dict[bytes, bytes] = {}
        self._records: dict[tuple[int, ...], FileRecord] = {}
        self._named = 0
        self._held = 0
        # Where the last entry's parent was found, while nothing has changed what leads there.
        self._last: tuple[list[bytes], Directory] = ([], self._root)
        self._last_path, self._last_directory = b"", self._root

    def add(self, entry: TarEntry, offset: int | None) -> None:
        """One more entry, whose content starts at this byte of the tar (a multiple of 512); None where it is not in one piece."""
        self._hold(len(entry.name) + len(entry.link) + (sum(map(_taken, entry.xattrs)) if entry.xattrs else 0))
        parts = parts_of(entry.name)
        if not parts:
            if entry.kind != "dir":
                raise LayerError(f"the root of the tar is a {entry.kind}")
            self._root.attributes = attributes_of(entry)
            return
        name = parts.pop()
        if WHITEOUT in entry.name:  # somewhere
            if any(part.startswith(WHITEOUT) for part in parts):
                raise LayerError(f"an entry below a whiteout: {show(entry.name)}")
            if name.startswith(WHITEOUT):
                self._whiteout(parts, name, entry)
                return
        self._plain(self._directory(parts), name, entry, offset)

    def add_file(self, parent: bytes, name: bytes, record: FileRecord, size: int, offset: int) -> None:
        """`add` for one of many regular files that share what `attributes_of` gave. The path is clean, and says nothing of whiteouts."""
        self.expect(offset)
        self.add_records(parent, (name,), (record.of(size, offset >> 9),), size)

    def expect(self, offset: int) -> None:
        """NotIndexable where what starts as far behind can't be said."""
        if offset >> 9 > erofs.MAX_BLOCKS:
            raise NotIndexable("a file that is too far behind")

    def add_records(self, parent: bytes, names: Sequence[bytes], records: Sequence[bytes], size: int) -> None:
        """The same for several files of a directory, of so many bytes in all: their names, which differ, and what `FileRecord` gives."""
        self._hold(len(names) * len(parent) + sum(map(len, names)), len(names))
        self.size += size
        if parent != self._last_path:
            self._last_directory = self._directory(parent.split(b"/") if parent else [])
            self._last_path = parent
        directory = self._last_directory
        if not self._deferred and directory.children.keys().isdisjoint(names):
            directory.children.update(zip(names, records, strict=True))
            return
        for name, record in zip(names, records, strict=True):
            self._deferred.pop(join(directory.path, name), None)
            self._put(directory, name, record)

    def image(self, size: int) -> bytes:
        """The image, for a tar of so many bytes. NotIndexable where something is left that only the lowers can tell."""
        self._finish_links()
        blocks, rest = divmod(size, BLOCK)
        if rest or blocks > erofs.MAX_BLOCKS:
            raise NotIndexable("the tar's size")
        return image_of(self._root, (blocks,))

    def _hold(self, size: int, entries: int = 1) -> None:
        """Count entries. A small blob can be a tar of any number of them; unpacking keeps little of each in memory."""
        self.entries += entries
        self._held += _ENTRY * entries + size
        if self._held > _MOST_HELD:
            raise NotIndexable("more than should be held in memory")

    def _plain(self, parent: Directory, name: bytes, entry: TarEntry, offset: int | None) -> None:
        if self._deferred:
            self._deferred.pop(join(parent.path, name), None)
        kind = entry.kind
        child: Child
        if kind == "file":
            if offset is None or offset % BLOCK or entry.size > erofs.MAX_SIZE or offset // BLOCK > erofs.MAX_BLOCKS:
                raise NotIndexable("a file that is not in one piece, or too large")
            if entry.xattrs:
                child = erofs.file(attributes_of(entry), entry.size, 1, offset // BLOCK)
            else:
                child = self._record(entry).of(entry.size, offset // BLOCK)
            self.size += entry.size
        elif kind == "dir":
            self._make_directory(parent, name, attributes_of(entry))
            return
        elif kind == "symlink":
            if not 0 < len(entry.link) <= MAX_TARGET or b"\0" in entry.link:
                raise LayerError(f"{show(join(parent.path, name))} is a symlink without a possible target")
            child = erofs.symlink(_plain_attributes(entry), entry.link)
        elif kind == "hardlink":
            self._hard_link(parent, name, entry)
            return
        elif kind == "char" and (entry.major, entry.minor) == (0, 0):
            return
        else:
            child = erofs.special(_plain_attributes(entry), _KINDS[kind], entry.major, entry.minor)
        self._put(parent, name, child)

    def _record(self, entry: TarEntry) -> FileRecord:
        """The records of files like this one; made once, as there are mostly many."""
        key = (entry.mode, entry.uid, entry.gid, entry.mtime, entry.mtime_ns)
        known = self._records.get(key)
        if known is None:
            if len(self._records) >= _MOST_ALIKE:
                self._records.clear()
            known = self._records[key] = FileRecord(attributes_of(entry))
        return known

    def _put(self, parent: Directory, name: bytes, child: Child) -> None:
        if not isinstance(parent.children.get(name, b""), bytes):
            self._forget()
        parent.children[name] = child

    def _forget(self) -> None:
        self._last = ([], self._root)
        self._last_path, self._last_directory = b"", self._root

    def _make_directory(self, parent: Directory, name: bytes, attributes: Attributes) -> Directory:
        """A directory, or new attributes for the one that is there. In the place of a whiteout it becomes opaque."""
        here = parent.children.get(name)
        if isinstance(here, Directory):
            here.attributes = attributes
            return here
        made = Directory(join(parent.path, name), attributes, here is erofs.WHITEOUT)
        if here is not None:
            self._forget()
        parent.children[name] = made
        self._named += len(made.path)
        if self._named > _MOST_NAMED:
            raise LayerError(f"the directories of a layer have paths of more than {_MOST_NAMED >> 20} MiB in all")
        return made

    def _whiteout(self, parts: list[bytes], name: bytes, entry: TarEntry) -> None:
        if name == OPAQUE:
            directory = self._directory(parts)
            if directory is self._root:
                raise NotIndexable("an opaque root")
            directory.opaque = True
        elif not name.startswith(AUFS):
            hidden = name[len(WHITEOUT) :]
            if hidden in (b"", b".", b".."):
                raise LayerError(f"a whiteout of nothing: {show(entry.name)}")
            parent = self._directory(parts)
            here = parent.children.get(hidden)
            if isinstance(here, Directory):
                here.opaque = True
            elif here is None:
                parent.children[hidden] = erofs.WHITEOUT

    def _directory(self, parts: list[bytes]) -> Directory:
        """The directory that a name leads to; symlinks of the layer are followed."""
        if parts == self._last[0]:
            return self._last[1]
        stack = [self._root]
        pending = parts[::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name == b"..":
                if len(stack) > 1:
                    stack.pop()
                continue
            child = stack[-1].children.get(name)
            if isinstance(child, Directory):
                stack.append(child)
            elif isinstance(child, Leaf) and child.target:
                links += 1
                if links > MAX_LINKS:
                    raise LayerError(f"symlinks lead in a circle: {show(join(stack[-1].path, name))}")
                _follow(child.target, stack, pending)
            else:
                stack.append(self._imply(stack, name, child))
        self._last = (parts, stack[-1])
        return stack[-1]

    def _imply(self, above: list[Directory], name: bytes, here: Child | None) -> Directory:
        """A directory that the layer uses without naming it: known only where the lowers are hidden."""
        if here is not None and here is not erofs.WHITEOUT:
            raise LayerError(f"an entry below {show(join(above[-1].path, name))}, which is not a directory")
        if here is None and not any(directory.opaque for directory in above):
            raise NotIndexable("a directory that the layer does not name")
        return self._make_directory(above[-1], name, Attributes())

    def _hard_link(self, parent: Directory, name: bytes, entry: TarEntry) -> None:
        parts = parts_of(entry.link)
        path = join(parent.path, name)
        if not parts:
            raise LayerError(f"{show(path)} is a hard link to nothing")
        if not self._link(parent, name, parts):
            self._deferred[path] = b"/".join(parts)

    def _link(self, parent: Directory, name: bytes, parts: list[bytes]) -> bool:
        """Make another name of what `parts` lead to; False where nothing is there yet."""
        holder = self._known(parts)
        target = None if holder is None else holder.children.get(parts[-1])
        if isinstance(target, Directory):
            raise LayerError(f"{show(join(parent.path, name))} is a hard link to a directory")
        if holder is None or target is None or target is erofs.WHITEOUT:
            return False
        if holder is parent and parts[-1] == name:
            return True
        here = parent.children.get(name)
        if isinstance(here, Directory) and (holder.path + b"/").startswith(here.path + b"/"):
            raise NotIndexable("a hard link in the place of the directory that its target is in")
        if isinstance(target, bytes):
            target = holder.children[parts[-1]] = Leaf(target)
        self._put(parent, name, target)
        return True

    def _known(self, parts: list[bytes]) -> Directory | None:
        """The directory that holds a name, without asking what lies below; None where a parent is missing."""
        stack = [self._root]
        pending = parts[-2::-1]
        links = 0
        while pending:
            name = pending.pop()
            if name == b"..":
                if len(stack) > 1:
                    stack.pop()
                continue
            child = stack[-1].children.get(name)
            if isinstance(child, Directory):
                stack.append(child)
            elif isinstance(child, Leaf) and child.target and links < MAX_LINKS:
                links += 1
                _follow(child.target, stack, pending)
            else:
                return None
        return stack[-1]

    def _finish_links(self) -> None:
        """Hard links that came before their targets."""
        progress = True
        while self._deferred and progress:
            progress = False
            for path, raw in list(self._deferred.items()):
                *above, name = path.split(b"/")
                parent = self._root
                for part in above:
                    child = parent.children.get(part)
                    if not isinstance(child, Directory):
                        raise NotIndexable("a hard link whose place is gone")
                    parent = child
                if self._link(parent, name, raw.split(b"/")):
                    del self._deferred[path]
                    progress = True
        if self._deferred:
            raise NotIndexable("a hard link to a file of the lowers")


def _follow(target: bytes, stack: list[Directory], pending: list[bytes]) -> None:
    if target.startswith(b"/"):
        del stack[1:]
    pending.extend(part for part in reversed(target.split(b"/")) if part not in (b"", b"."))


def attributes_of(entry: TarEntry) -> Attributes:
    """What an entry says besides its name and content. NotIndexable where not every file system keeps that as it is."""
    if entry.mtime not in _TIMES:
        raise NotIndexable("a time that file systems don't keep")
    if not entry.xattrs:
        return Attributes(entry.mode, entry.uid, entry.gid, entry.mtime, entry.mtime_ns)
    xattrs = tuple((name, value) for name, value in entry.xattrs if is_kept(os.fsdecode(name)))
    if not all(_as_it_is(name, value) for name, value in xattrs) or sum(map(_taken, xattrs)) > erofs.MAX_XATTRS:
        raise NotIndexable("attributes that the kernel looks at when they are set")
    return Attributes(entry.mode, entry.uid, entry.gid, entry.mtime, entry.mtime_ns, xattrs)


def _plain_attributes(entry: TarEntry) -> Attributes:
    """Only files and directories have xattrs."""
    if entry.mtime not in _TIMES:
        raise NotIndexable("a time that file systems don't keep")
    return Attributes(entry.mode, entry.uid, entry.gid, entry.mtime, entry.mtime_ns)


def _as_it_is(name: bytes, value: bytes) -> bool:
    """Whether any file system keeps an attribute as it is given. ACLs change the mode and each other."""
    if name == _CAPABILITY:
        return len(value) == _CAPABILITY_BYTES and value[:4] in _CAPABILITIES_V2
    return name.startswith(b"user.") and 5 < len(name) <= _MAX_NAME and b"\0" not in name


def _taken(xattr: tuple[bytes, bytes]) -> int:
    return len(xattr[0]) + len(xattr[1]) + 8
