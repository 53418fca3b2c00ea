"""EROFS images that hold a tree's metadata, while the files' contents stay where they are, in other files (its devices). Pure.

Kernel: Documentation/filesystems/erofs.rst, and fs/erofs/erofs_fs.h for the names here. The subset: blocks of 512 bytes, as tars have
them; extended inodes, which have mtimes with nanoseconds; each file is one chunk (EROFS_INODE_CHUNK_BASED) in a device of the device
table; directories and symlinks have the end of their data behind the inode (EROFS_INODE_FLAT_INLINE) where it fits into its block.
A nid is an inode's place in the image, in units of 32 bytes: the metadata starts with block 0 (meta_blkaddr).

A leaf without anything to be settled later is the bytes of its inode, so that a hundred thousand of them take little memory.
"""

from __future__ import annotations

import struct

from imgbuild.hints import NamedTuple, Sequence
from imgbuild.values import dataclass

BLOCK = 512
MAX_BLOCKS = (1 << 32) - 2
"""The most blocks of a device: erofs_deviceslot.blocks, and the highest startblk but the one that means a hole."""
MAX_SIZE = 1 << 40
"""The largest file: one chunk of the greatest kind (EROFS_CHUNK_FORMAT_BLKBITS_MASK)."""
MAX_XATTRS = 3 << 10
"""The bytes of all xattrs of an inode that are written; not every file system takes more."""

Xattrs = Sequence[tuple[bytes, bytes]]

MAGIC = 0xE0F5E1E2
SUPER_OFFSET = 1024
FEATURE_COMPAT_MTIME = 2
FEATURE_INCOMPAT_CHUNKED_FILE, FEATURE_INCOMPAT_DEVICE_TABLE = 4, 8
SUPER = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQ24x")
DEVICE = struct.Struct("<64sII56x")
INODE = struct.Struct("<HHHHQIIIIqII16x")
INODE_SIZE = 64
_CHUNK = struct.Struct("<HHI")
_FILE = struct.Struct("<HHHHQIIIIqII16xHHI24x")
_SIZE, _UNION, _BLOCK_AND_REST = 8, 16, 28
"""Where in it the size and the union are, and how much the number of the block and what follows it take."""
_MTIME = 32
"""Where i_mtime is."""
_RECORD = struct.Struct("<8sQI48sI24x")
_XATTR_HEADER = bytes(12)
DIRENT = 12
PLAIN, INLINE, _CHUNKED = (1 | layout << 1 for layout in (0, 2, 4))
"""i_format: an extended inode (1) and its data layout."""
_CHUNK_INDEXES = 0x20
S_IFDIR, S_IFREG, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO = 0o040000, 0o100000, 0o120000, 0o020000, 0o060000, 0o010000
# The type in a directory entry (EROFS_FT_*) by the upper four bits of the mode.
TYPES = (0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6, 0, 0, 0)
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
    """An inode that has several names, or a symlink with its target. One without is bytes alone. `kept` is what is said of the number
    of its names, whatever it is; 0 where they are counted."""

    __slots__ = ("kept", "links", "nid", "place", "record", "target")

    def __init__(self, record: bytes, target: bytes = b"") -> None:
        self.record = record
        self.target = target
        self.kept = self.links = self.nid = self.place = 0


class Directory:
    """A directory: its children by name, and whether it hides what lies below it. `path` is the caller's, `kept` as for a `Leaf`."""

    __slots__ = ("attributes", "children", "kept", "links", "nid", "opaque", "path")

    def __init__(self, path: bytes, attributes: Attributes, opaque: bool = False) -> None:
        self.path = path
        self.attributes = attributes
        self.opaque = opaque
        self.children: dict[bytes, Child] = {}
        self.nid = self.links = self.kept = 0


Child = bytes | Leaf | Directory


def file(attributes: Attributes, size: int, device: int, block: int) -> bytes:
    """A regular file, whose content lies in `device` (counted from 1) from `block` on."""
    at = attributes
    xattrs = xattr_body(at.xattrs) if at.xattrs else b""
    if not size:
        record = INODE.pack(PLAIN, xattr_count(xattrs), S_IFREG | at.mode, 0, 0, 0, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1)
        return aligned(record + xattrs)
    chunk = _CHUNK_INDEXES | max(0, (size - 1).bit_length() - 9)
    if not xattrs:
        mode = S_IFREG | at.mode
        return _FILE.pack(_CHUNKED, 0, mode, 0, size, chunk, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1, 0, device, block)
    record = INODE.pack(
        _CHUNKED, xattr_count(xattrs), S_IFREG | at.mode, 0, size, chunk, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1
    )
    return aligned(record + xattrs + bytes(-len(xattrs) % 8) + _CHUNK.pack(0, device, block))


class FileRecord:
    """`file` for many that share their attributes, which are no xattrs, in the first device."""

    def __init__(self, attributes: Attributes) -> None:
        like = file(attributes, 1, 1, 0)
        self._head, self._middle = like[:_SIZE], like[_UNION + 4 : -_BLOCK_AND_REST]
        self._empty = file(attributes, 0, 1, 0)

    def of(self, size: int, block: int) -> bytes:
        """The record of a file of this size, whose content starts at this block."""
        if not size:
            return self._empty
        return _RECORD.pack(self._head, size, _CHUNK_INDEXES | max(0, (size - 1).bit_length() - 9), self._middle, block)


def special(attributes: Attributes, kind: int, major: int = 0, minor: int = 0) -> bytes:
    """A device or a FIFO; its number as the kernel's new_encode_dev() has it."""
    at = attributes
    number = minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
    return INODE.pack(PLAIN, 0, kind | at.mode, 0, 0, number, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1)


WHITEOUT = special(Attributes(mode=0), S_IFCHR)
"""What overlay takes for one: a 0/0 character device. Known by being this very object."""


def symlink(attributes: Attributes, target: bytes) -> Leaf:
    """A symlink; its data's place is found when the image is made."""
    at = attributes
    layout = INLINE if len(target) <= BLOCK - INODE_SIZE else PLAIN
    return Leaf(INODE.pack(layout, 0, S_IFLNK | 0o777, 0, len(target), 0, 0, at.uid, at.gid, at.mtime, at.mtime_ns, 1), target)


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


def xattr_count(xattrs: bytes) -> int:
    """i_xattr_icount."""
    return (len(xattrs) - len(_XATTR_HEADER)) // 4 + 1 if xattrs else 0


def aligned(record: bytes) -> bytes:
    """With zeros up to where the next inode may start."""
    return record + _ALIGNED[len(record) % 32]


class Inode(NamedTuple):
    """An inode of an image, as far as it is not known from its being one of ours."""

    layout: int
    xattr_size: int
    mode: int
    size: int
    union: int
    uid: int
    gid: int
    mtime: int
    mtime_ns: int
    links: int

    @property
    def inline(self) -> bool:
        return self.layout == INLINE

    @property
    def chunked(self) -> bool:
        return self.layout == _CHUNKED


def inode(image: bytes, nid: int) -> Inode:
    """What an image says of a nid."""
    layout, count, mode, _, size, union, _, uid, gid, mtime, mtime_ns, links = INODE.unpack_from(image, nid << 5)
    return Inode(layout, len(_XATTR_HEADER) + 4 * (count - 1) if count else 0, mode, size, union, uid, gid, mtime, mtime_ns, links)


def with_mtime(record: bytes, mtime: int) -> bytes:
    """An inode as of another time, in seconds."""
    return record[:_MTIME] + struct.pack("<q", mtime) + record[_MTIME + 8 :]


def with_device(image: bytes, start: int, end: int, device: int) -> bytes:
    """The inode of a file (its xattrs end at `end`), with its content in another device."""
    end += -(end - start) % 8
    _, _, block = _CHUNK.unpack_from(image, end)
    return aligned(image[start:end] + _CHUNK.pack(0, device, block))


def devices(image: bytes) -> tuple[int, ...]:
    """The sizes of an image's devices, in blocks."""
    count = struct.unpack_from("<H", image, SUPER_OFFSET + 86)[0]
    return tuple(DEVICE.unpack_from(image, SUPER_OFFSET + SUPER.size + number * DEVICE.size)[1] for number in range(count))


def root_nid(head: bytes) -> int:
    """Where the first bytes of an image say that its root directory is."""
    nid: int = struct.unpack_from("<H", head, SUPER_OFFSET + 14)[0]
    return nid


def root_attributes(head: bytes) -> tuple[int, int, int, bool]:
    """What the first bytes of an image (`HEAD`) say of its root directory: permission bits, owner, whether it has xattrs."""
    root = inode(head, root_nid(head))
    return root.mode & 0o7777, root.uid, root.gid, bool(root.xattr_size)


HEAD = 64 << 10
"""So many bytes of an image hold its superblock, its device table and its root directory's inode."""
