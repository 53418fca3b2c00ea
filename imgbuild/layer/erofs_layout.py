"""Where things lie in an EROFS image, and the image as bytes. Pure. The records of the format are `erofs`'s."""

from __future__ import annotations

import struct

from imgbuild.hints import Iterator, Sequence
from imgbuild.layer.erofs import (
    BLOCK,
    DEVICE,
    DIRENT,
    FEATURE_COMPAT_MTIME,
    FEATURE_INCOMPAT_CHUNKED_FILE,
    FEATURE_INCOMPAT_DEVICE_TABLE,
    INLINE,
    INODE,
    INODE_SIZE,
    MAGIC,
    PLAIN,
    S_IFDIR,
    SUPER,
    SUPER_OFFSET,
    TYPES,
    Directory,
    Leaf,
    aligned,
    xattr_body,
    xattr_count,
)
from imgbuild.values import dataclass


def image_of(root: Directory, devices: Sequence[int]) -> bytes:
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
        head = (SUPER_OFFSET + SUPER.size + DEVICE.size * len(self._devices) + BLOCK - 1) & -BLOCK
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
        features = FEATURE_INCOMPAT_CHUNKED_FILE | (FEATURE_INCOMPAT_DEVICE_TABLE if self._devices else 0)
        count = len(self._devices)
        table = (SUPER_OFFSET + SUPER.size) // DEVICE.size if count else 0
        block = SUPER.pack(
            *(MAGIC, 0, FEATURE_COMPAT_MTIME, BLOCK.bit_length() - 1, 0, self._root.nid, self._inodes, 0, 0, self._data_block, 0, 0),
            *(b"", b"", features, 0, count, table, 0, 0, 0, 0),
        )
        head = bytes(SUPER_OFFSET) + block + b"".join(DEVICE.pack(b"", blocks, 0) for blocks in self._devices)
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
        inode, tail = INODE_SIZE + len(xattrs), size % BLOCK
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
                types.append(TYPES[child[5] >> 4])
                nids.append(at >> 5)
                chunks.append(child)
                at += len(child)
                inodes += 1
            elif isinstance(child, Leaf):
                self._at = at
                self._place_leaf(child)
                at = self._at
                types.append(TYPES[child.record[5] >> 4])
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
        if leaf.target and leaf.record[0] == INLINE:
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
        struct.pack_into("<I", record, 44, leaf.kept or leaf.links)
        if leaf.record[0] == INLINE:
            record += leaf.target
        elif leaf.target:
            struct.pack_into("<I", record, 16, self._store(leaf.target))
        self._chunks[leaf.place] = aligned(bytes(record))
        leaf.nid = 0

    def _finish_directory(self, placed: _Placed) -> None:
        data = b"".join(self._entries(placed))
        whole = placed.size & -BLOCK if placed.inline else placed.size
        block = self._store(data[:whole]) if whole else 0
        at, directory = placed.directory.attributes, placed.directory
        record = INODE.pack(
            *(INLINE if placed.inline else PLAIN, xattr_count(placed.xattrs), S_IFDIR | at.mode, 0, placed.size, block, 0),
            *(at.uid, at.gid, at.mtime, at.mtime_ns, directory.kept or directory.links),
        )
        self._chunks[placed.chunk] = aligned(record + placed.xattrs + data[whole:])

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
            while end < last and used + DIRENT + len(names[end]) <= BLOCK:
                offsets.append(used - DIRENT * len(offsets))
                used += DIRENT + len(names[end])
                end += 1
            base = DIRENT * (end - start)
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
        need = DIRENT + len(name)
        used += need
        if used > BLOCK:
            full += BLOCK
            used = need
    return full + used
