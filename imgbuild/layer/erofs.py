"""EROFS images that hold a tree's metadata, while the files' contents stay where they are, in other files (its devices). Pure.

Kernel: Documentation/filesystems/erofs.rst, and fs/erofs/erofs_fs.h for the names here. The subset: blocks of 512 bytes, as tars have
them; extended inodes, which have mtimes with nanoseconds; each file is one chunk (EROFS_INODE_CHUNK_BASED) in a device of the device
table; directories and symlinks have the end of their data behind the inode (EROFS_INODE_FLAT_INLINE) where it fits into its block.
A nid is an inode's place in the image, in units of 32 bytes: the metadata starts with block 0 (meta_blkaddr).

A leaf without anything to be settled later is the bytes of its inode, so that a hundred thousand of them take little memory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from imgbuild.values import dataclass

BLOCK = 512
MAX_BLOCKS = (1 << 32) - 2
"""The most blocks of a device: erofs_deviceslot.blocks, and the highest startblk but the one that means a hole."""
MAX_SIZE = 1 << 40
"""The largest file: one chunk of the greatest kind (EROFS_CHUNK_FORMAT_BLKBITS_MASK)."""
MAX_XATTRS = 64 << 10
"""The bytes of all xattrs of an inode that are written; more than any file system takes at once."""

Xattrs = Sequence[tuple[bytes, bytes]]

_MAGIC = 0xE0F5E1E2
_SUPER_OFFSET = 1024
_FEATURE_COMPAT_MTIME = 2
_FEATURE_INCOMPAT_CHUNKED_FILE, _FEATURE_INCOMPAT_DEVICE_TABLE = 4, 8
_SUPER = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQ24x")
_DEVICE = struct.Struct("<64sII56x")
_INODE = struct.Struct("<HHHHQIIIIqII16x")
_INODE_SIZE = 64
_CHUNK = struct.Struct("<HHI")
_FILE = struct.Struct("<HHHHQIIIIqII16xHHI24x")
_XATTR_HEADER = bytes(12)
_DIRENT = 12
_PLAIN, _INLINE, _CHUNKED = (1 | layout << 1 for layout in (0, 2, 4))
"""i_format: an extended inode (1) and its data layout."""
_CHUNK_INDEXES = 0x20
_HOLE = 0xFFFFFFFF
S_IFDIR, S_IFREG, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO = 0o040000, 0o100000, 0o120000, 0o020000, 0o060000, 0o010000
# The type in a directory entry (EROFS_FT_*) by the upper four bits of the mode.
_TYPES = (0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6, 0, 0, 0)
_PREFIXES = ((b"user.", 1), (b"trusted.", 4), (b"security.", 6))
_WHOLE = {b"system.posix_acl_access": 2, b"system.posix_acl_default": 3}
_ALIGNED = tuple(bytes(-size % 32) for size in range(32))


@dataclass(frozen=True, slots=True)
class Attributes:
    """What any inode has: permission bits, owner, mtime (seconds and nanoseconds over them) and extended attributes."""

    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    mtime_ns: int = 0
    xattrs: Xattrs = ()


class Leaf:
    """An inode that has several names, or a symlink with its target. One without is bytes alone."""

    __slots__ = ("links", "nid", "place", "record", "target")

    def __init__(self, record: bytes, target: bytes = b"") -> None:
        self.record = record
        self.target = target
        self.links = self.nid = self.place = 0


class Directory:
    """A directory: its children by name, and whether it hides what lies below it. `path` is the caller's."""

    __slots__ = ("attributes", "children", "links", "nid", "opaque", "path")

    def __init__(self, path: bytes, attributes: Attributes, opaque: bool = False) -> None:
        self.path = path
        self.attributes = attributes
        self.opaque = opaque
        self.children: dict[bytes, Child] = {}
        self.nid = self.links = 0


Child = bytes | Leaf | Directory


def file(attributes: Attributes, size: int, device: int, block: int) -> bytes:
    """A regular file, whose content lies in `device` (counted from 1) from `block` on."""
    at = attributes
    xattrs = xattr_body(at.xattrs) if at.xattrs else b""
    if not size:
        record = _INODE.pack(_PLAIN, _count(xattrs), S_IFREG | at.mode, 0, 0, 0, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1)
        return _aligned(record + xattrs)
    chunk = _CHUNK_INDEXES | max(0, (size - 1).bit_length() - 9)
    if not xattrs:
        mode = S_IFREG | at.mode
        return _FILE.pack(_CHUNKED, 0, mode, 0, size, chunk, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1, 0, device, block)
    record = _INODE.pack(
        _CHUNKED, _count(xattrs), S_IFREG | at.mode, 0, size, chunk, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1
    )
    return _aligned(record + xattrs + bytes(-len(xattrs) % 8) + _CHUNK.pack(0, device, block))


def special(attributes: Attributes, kind: int, major: int = 0, minor: int = 0) -> bytes:
    """A device or a FIFO; its number as the kernel's new_encode_dev() has it."""
    at = attributes
    number = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
    return _INODE.pack(_PLAIN, 0, kind | at.mode, 0, 0, number, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1)


WHITEOUT = special(Attributes(mode=0), S_IFCHR)
"""What overlay takes for one: a 0/0 character device. Known by being this very object."""


def symlink(attributes: Attributes, target: bytes) -> Leaf:
    """A symlink; its data's place is found when the image is made."""
    at = attributes
    layout = _INLINE if len(target) <= BLOCK - _INODE_SIZE else _PLAIN
    return Leaf(_INODE.pack(layout, 0, S_IFLNK | 0o777, 0, len(target), 0, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1), target)


def xattr_body(xattrs: Xattrs) -> bytes:
    """erofs_xattr_ibody_header and its entries. ValueError for a name that the format has no prefix for."""
    parts = [_XATTR_HEADER]
    for name, value in sorted(xattrs):
        index, rest = _named(name)
        entry = struct.pack("<BBH", len(rest), index, len(value)) + rest + value
        parts.append(entry + bytes(-len(entry) % 4))
    return b"".join(parts)


def _named(name: bytes) -> tuple[int, bytes]:
    whole = _WHOLE.get(name)
    if whole is not None:
        return whole, b""
    for prefix, index in _PREFIXES:
        if name.startswith(prefix):
            return index, name[len(prefix) :]
    raise ValueError(f"EROFS has no prefix for the attribute {name!r}")


def _count(xattrs: bytes) -> int:
    """i_xattr_icount."""
    return (len(xattrs) - len(_XATTR_HEADER)) // 4 + 1 if xattrs else 0


def _aligned(record: bytes) -> bytes:
    return record + _ALIGNED[len(record) % 32]


def image(root: Directory, devices: Sequence[int]) -> bytes:
    """The image of a tree, whose files lie in devices of so many blocks."""
    return _Image(root, devices).made()


@dataclass(slots=True)
class _Placed:
    """A directory with its inode's place: the entries, where its data's whole blocks are and whether its end is behind the inode."""

    directory: Directory
    parent: Directory
    chunk: int
    xattrs: bytes
    names: list[bytes]
    nids: list[int]
    types: bytearray
    size: int
    inline: bool


class _Image:
    """Inodes are laid out directory by directory: each with its leaves behind it. Data that is not inline follows them all."""

    def __init__(self, root: Directory, devices: Sequence[int]) -> None:
        self._root = root
        self._devices = devices
        self._chunks: list[bytes] = []
        self._at = 0
        self._inodes = 0
        self._leaves: list[Leaf] = []
        self._placed: list[_Placed] = []
        self._data: list[bytes] = []
        self._data_block = 0

    def made(self) -> bytes:
        head = (_SUPER_OFFSET + _SUPER.size + _DEVICE.size * len(self._devices) + BLOCK - 1) & -BLOCK
        self._append(bytes(head))
        self._place_all()
        self._append(bytes(-self._at % BLOCK))
        self._data_block = self._at // BLOCK
        for leaf in self._leaves:
            self._finish_leaf(leaf)
        for placed in self._placed:
            self._finish_directory(placed)
        self._chunks[0] = self._head(head)
        return b"".join(self._chunks + self._data)

    def _head(self, size: int) -> bytes:
        features = _FEATURE_INCOMPAT_CHUNKED_FILE | (_FEATURE_INCOMPAT_DEVICE_TABLE if self._devices else 0)
        count = len(self._devices)
        table = (_SUPER_OFFSET + _SUPER.size) // _DEVICE.size if count else 0
        block = _SUPER.pack(
            *(_MAGIC, 0, _FEATURE_COMPAT_MTIME, BLOCK.bit_length() - 1, 0, self._root.nid, self._inodes, 0, 0, self._data_block, 0, 0),
            *(b"", b"", features, 0, count, table, 0, 0, 0, 0),
        )
        head = bytes(_SUPER_OFFSET) + block + b"".join(_DEVICE.pack(b"", blocks, 0) for blocks in self._devices)
        return head + bytes(size - len(head))

    def _append(self, data: bytes) -> None:
        self._chunks.append(data)
        self._at += len(data)

    def _place_all(self) -> None:
        level = [(self._root, self._root)]
        self._root.links = 2
        while level:
            following: list[tuple[Directory, Directory]] = []
            for directory, parent in level:
                self._place_directory(directory, parent)
                self._place_leaves(self._placed[-1], following)
            level = following

    def _place_directory(self, directory: Directory, parent: Directory) -> None:
        attributes = directory.attributes
        given = [*attributes.xattrs, (b"trusted.overlay.opaque", b"y")] if directory.opaque else attributes.xattrs
        xattrs = xattr_body(given) if given else b""
        names = sorted([b".", b"..", *directory.children])
        size = _directory_size(names)
        inode, tail = _INODE_SIZE + len(xattrs), size % BLOCK
        inline = False
        if tail:
            start = (self._at + inode) % BLOCK
            if start and start + tail <= BLOCK:
                inline = True
            elif inode + tail <= BLOCK:
                self._append(bytes(-self._at % BLOCK))
                inline = True
        directory.nid = self._at >> 5
        self._placed.append(_Placed(directory, parent, len(self._chunks), xattrs, names, [], bytearray(), size, inline))
        self._append(bytes((inode + (tail if inline else 0) + 31) & -32))
        self._inodes += 1

    def _place_leaves(self, placed: _Placed, following: list[tuple[Directory, Directory]]) -> None:
        children, chunks, nids, types = placed.directory.children, self._chunks, placed.nids, placed.types
        at, inodes = self._at, 0
        for name in placed.names:
            child = children.get(name)
            if type(child) is bytes:
                types.append(_TYPES[child[5] >> 4])
                nids.append(at >> 5)
                chunks.append(child)
                at += len(child)
                inodes += 1
            elif isinstance(child, Leaf):
                self._at = at
                self._place_leaf(child)
                at = self._at
                types.append(_TYPES[child.record[5] >> 4])
                nids.append(child.nid)
            elif isinstance(child, Directory):
                types.append(2)
                nids.append(-1)
                child.links = 2
                placed.directory.links += 1
                following.append((child, placed.directory))
            else:  # "." and ".."
                types.append(2)
                nids.append(-1)
        self._at = at
        self._inodes += inodes

    def _place_leaf(self, leaf: Leaf) -> None:
        if leaf.nid:
            leaf.links += 1
            return
        size = len(leaf.record)
        if leaf.target and leaf.record[0] == _INLINE:
            size += len(leaf.target)
            start = (self._at + len(leaf.record)) % BLOCK
            if start + len(leaf.target) > BLOCK or not start:
                self._append(bytes(-self._at % BLOCK))
        leaf.nid, leaf.links, leaf.place = self._at >> 5, 1, len(self._chunks)
        self._leaves.append(leaf)
        self._append(bytes((size + 31) & -32))
        self._inodes += 1

    def _finish_leaf(self, leaf: Leaf) -> None:
        record = bytearray(leaf.record)
        struct.pack_into("<I", record, 44, leaf.links)
        if leaf.record[0] == _INLINE:
            record += leaf.target
        elif leaf.target:
            struct.pack_into("<I", record, 16, self._store(leaf.target))
        self._chunks[leaf.place] = _aligned(bytes(record))
        leaf.nid = 0

    def _finish_directory(self, placed: _Placed) -> None:
        data = b"".join(self._entries(placed))
        whole = placed.size & -BLOCK if placed.inline else placed.size
        block = self._store(data[:whole]) if whole else 0
        at, directory = placed.directory.attributes, placed.directory
        record = _INODE.pack(
            *(_INLINE if placed.inline else _PLAIN, _count(placed.xattrs), S_IFDIR | at.mode, 0, placed.size, block, 0),
            *(at.uid, at.gid, at.mtime, at.mtime_ns, directory.links),
        )
        self._chunks[placed.chunk] = _aligned(record + placed.xattrs + data[whole:])

    def _entries(self, placed: _Placed) -> Iterator[bytes]:
        """The directory's data: in each block the entries, then their names."""
        children, names, nids, types = placed.directory.children, placed.names, placed.nids, placed.types
        for number, nid in enumerate(nids):
            if nid < 0:
                child = children.get(names[number])
                known = child if isinstance(child, Directory) else placed.directory if names[number] == b"." else placed.parent
                nids[number] = known.nid
        last = len(names)
        start = 0
        while start < last:
            end, used = start, 0
            offsets: list[int] = []
            while end < last and used + _DIRENT + len(names[end]) <= BLOCK:
                offsets.append(used - _DIRENT * len(offsets))
                used += _DIRENT + len(names[end])
                end += 1
            base = _DIRENT * (end - start)
            flat: list[int] = []
            for nid, offset, kind in zip(nids[start:end], offsets, types[start:end], strict=True):
                flat += (nid, base + offset, kind)
            block = struct.pack("<" + "QHBx" * (end - start), *flat) + b"".join(names[start:end])
            yield block + bytes(BLOCK - used) if end < last else block
            start = end

    def _store(self, data: bytes) -> int:
        """Append blocks of data; the first one's number."""
        block = self._data_block
        data += bytes(-len(data) % BLOCK)
        self._data.append(data)
        self._data_block += len(data) // BLOCK
        return block


def _directory_size(names: Sequence[bytes]) -> int:
    full = used = 0
    for name in names:
        need = _DIRENT + len(name)
        used += need
        if used > BLOCK:
            full += BLOCK
            used = need
    return full + used


def root_attributes(head: bytes) -> tuple[int, int, int, bool]:
    """What the first bytes of an image (`HEAD`) say of its root directory: permission bits, owner, whether it has xattrs."""
    nid = struct.unpack_from("<H", head, _SUPER_OFFSET + 14)[0]
    _, count, mode, _, _, _, _, uid, gid, *_ = _INODE.unpack_from(head, nid << 5)
    return mode & 0o7777, uid, gid, bool(count)


HEAD = 64 << 10
"""So many bytes of an image hold its superblock, its device table and its root directory's inode."""
