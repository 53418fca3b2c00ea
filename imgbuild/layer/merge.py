"""Images of layers, one above the other -> one image of what overlay shows of them all. Pure.

A deep stack costs each process that mounts it a mount for every layer; merged it is one mount of one image, whose devices are the
layers' tars. It stands at the bottom of a stack: whiteouts and opaque directories have nothing left to hide, and are gone. What can be
seen of the number of a file's names stays as the layer had it, and a directory of several layers has one link, as in an overlay.
"""

from __future__ import annotations

import struct

from imgbuild.hints import Iterator, Sequence
from imgbuild.layer import erofs
from imgbuild.layer.erofs import Attributes, Child, Directory, Leaf
from imgbuild.layer.erofs_layout import image_of

_OPAQUE = (b"trusted.overlay.opaque", b"y")
_NAMES = {1: b"user.", 4: b"trusted.", 6: b"security.", 2: b"system.posix_acl_access", 3: b"system.posix_acl_default"}
_DIRENT = struct.Struct("<QHBx")


def merged(images: Sequence[bytes]) -> bytes:
    """One image of images that `TarIndex` made, lowest first; its devices are theirs, in this order."""
    devices = [blocks for image in images for blocks in erofs.devices(image)]
    base = tree_of(images[0], 1)
    _settle(base)
    for number, image in enumerate(images[1:], 2):
        _put_over(base, tree_of(image, number))
    return image_of(base, devices)


def tree_of(image: bytes, device: int) -> Directory:
    """The tree of an image with one device, which is to be this one."""
    nid = erofs.root_nid(image)
    root, leaves = _directory(image, nid), dict[int, Leaf]()
    pending = [(root, nid)]
    while pending:
        directory, nid = pending.pop()
        for name, below in _entries(image, nid):
            if image[(below << 5) + 5] >> 4 == 4:
                child = _directory(image, below)
                pending.append((child, below))
                directory.children[name] = child
            else:
                directory.children[name] = leaves.get(below) or _leaf(image, below, device, leaves)
    return root


def _put_over(base: Directory, upper: Directory) -> None:
    """What overlay makes of two layers, in the lower one's tree."""
    pending = [(base, upper)]
    while pending:
        lower, upper = pending.pop()
        lower.attributes = upper.attributes
        lower.kept = 1
        for name, child in upper.children.items():
            here = lower.children.get(name)
            if child is erofs.WHITEOUT:
                lower.children.pop(name, None)
            elif isinstance(child, Directory) and isinstance(here, Directory) and not child.opaque:
                pending.append((here, child))
            else:
                if isinstance(child, Directory):
                    _settle(child)
                lower.children[name] = child


def _settle(top: Directory) -> None:
    """Take away what hides things, where nothing is left to be hidden."""
    pending = [top]
    while pending:
        directory = pending.pop()
        directory.opaque = False
        gone = [name for name, child in directory.children.items() if child is erofs.WHITEOUT]
        for name in gone:
            del directory.children[name]
        pending.extend(child for child in directory.children.values() if isinstance(child, Directory))


def _directory(image: bytes, nid: int) -> Directory:
    inode = erofs.inode(image, nid)
    xattrs = tuple(_xattrs(image, (nid << 5) + erofs.INODE_SIZE, inode.xattr_size))
    attributes = Attributes(
        inode.mode & 0o7777, inode.uid, inode.gid, inode.mtime, inode.mtime_ns, tuple(pair for pair in xattrs if pair != _OPAQUE)
    )
    return Directory(b"", attributes, _OPAQUE in xattrs)


def _leaf(image: bytes, nid: int, device: int, leaves: dict[int, Leaf]) -> Child:
    at, inode = nid << 5, erofs.inode(image, nid)
    end = at + erofs.INODE_SIZE + inode.xattr_size
    if inode.mode >> 12 == 2 and not inode.union:
        return erofs.WHITEOUT
    if inode.mode >> 12 == 10:
        start = end if inode.inline else inode.union * erofs.BLOCK
        leaf = Leaf(image[at:end], image[start : start + inode.size])
    else:
        record = erofs.with_device(image, at, end, device) if inode.chunked else erofs.aligned(image[at:end])
        if inode.links == 1:
            return record
        leaf = Leaf(record)
    leaf.kept = inode.links
    leaves[nid] = leaf
    return leaf


def _entries(image: bytes, nid: int) -> Iterator[tuple[bytes, int]]:
    """The names in a directory, but "." and "..", with their nids."""
    inode = erofs.inode(image, nid)
    whole = inode.size & -erofs.BLOCK if inode.inline else inode.size
    tail = (nid << 5) + erofs.INODE_SIZE + inode.xattr_size
    for offset in range(0, inode.size, erofs.BLOCK):
        start = inode.union * erofs.BLOCK + offset if offset < whole else tail
        block = image[start : start + min(erofs.BLOCK, inode.size - offset)]
        first = _DIRENT.unpack_from(block)[1]
        found = list(_DIRENT.iter_unpack(block[:first]))
        ends = [entry[1] for entry in found[1:]] + [len(block)]
        for (below, name_at, _), end in zip(found, ends, strict=True):
            name = block[name_at:end].rstrip(b"\0")
            if name not in (b".", b".."):
                yield name, below


def _xattrs(image: bytes, at: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    end, at = at + size, at + 12
    while at < end:
        length, index, value = struct.unpack_from("<BBH", image, at)
        start = at + 4 + length
        yield _NAMES[index] + image[at + 4 : start], image[start : start + value]
        at += (4 + length + value + 3) & -4
