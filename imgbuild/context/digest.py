"""Merkle digests of what a tree holds: what goes into a step's key for COPY, ADD and mounts.

An entry's record is its kind, mode, owner, extended attributes, and its body: the digest of a file's bytes, a symlink's target, a
device's number, and for a directory the digest of the names and records of what is in it. Owners, and links between files, do
not count in a local tree; times never do.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator

from imgbuild.context.stats import FileDigests
from imgbuild.context.tree import Tree
from imgbuild.linux.node import Node

_KINDS = {
    stat.S_IFREG: b"file",
    stat.S_IFDIR: b"directory",
    stat.S_IFLNK: b"symlink",
    stat.S_IFCHR: b"character",
    stat.S_IFBLK: b"block",
    stat.S_IFIFO: b"fifo",
    stat.S_IFSOCK: b"socket",
}


def walk(tree: Tree, path: str) -> Iterator[tuple[str, Node]]:
    """The entry at a real path and all below it, parents first, names sorted by their bytes."""
    node = tree.lstat(path)
    if node is None:
        return
    pending = [(path, node)]
    while pending:
        here, node = pending.pop()
        yield here, node
        if stat.S_ISDIR(node.mode):
            prefix = "" if here == "/" else here
            pending.extend(reversed([(f"{prefix}/{name}", inside) for name, inside in tree.entries(here)]))


class TreeDigests:
    """Digests of a tree's entries by their real paths."""

    def __init__(self, tree: Tree, files: FileDigests | None = None) -> None:
        self._tree = tree
        self._files = files or FileDigests(tree)

    def entry(self, path: str) -> str:
        """The digest of an entry, its own metadata included."""
        found = self._found(path)
        return _named(self._records(found)[path] + b"\0" + self._links(path, found))

    def contents(self, path: str) -> str:
        """The digest of what is in a directory, the directory's own metadata left out."""
        found = self._found(path)
        return _named(self._records(found)[path].rpartition(b"\0")[2] + b"\0" + self._links(path, found))

    def listing(self, path: str) -> tuple[tuple[str, str], ...]:
        """Each path from a real path down, relative to it, with the digest of its record: to say in what two trees differ."""
        found = self._found(path)
        records = self._records(found)
        return tuple((here[len(path) :].lstrip("/"), _named(records[here])) for here, _ in found)

    def _found(self, path: str) -> list[tuple[str, Node]]:
        found = list(walk(self._tree, path))
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def _records(self, found: list[tuple[str, Node]]) -> dict[str, bytes]:
        contents = self._files.of([(path, node) for path, node in found if stat.S_ISREG(node.mode)])
        records: dict[str, bytes] = {}
        inside: dict[str, list[bytes]] = {}
        for path, node in reversed(found):
            if stat.S_ISREG(node.mode):
                body = contents[path].encode()
            elif stat.S_ISDIR(node.mode):
                body = hashlib.sha256(b"".join(reversed(inside.pop(path, [])))).hexdigest().encode()
            elif stat.S_ISLNK(node.mode):
                body = os.fsencode(self._tree.readlink(path))
            else:
                body = b"%d:%d" % (os.major(node.rdev), os.minor(node.rdev))
            record = records[path] = b"%b\0%b" % (self._metadata(path, node), body)
            parent, _, name = path.rpartition("/")
            # unambiguous: a name and the five fields of a record hold no NUL
            inside.setdefault(parent or "/", []).append(b"%b\0%b\0" % (os.fsencode(name), record))
        return records

    def _metadata(self, path: str, node: Node) -> bytes:
        kind = _KINDS[stat.S_IFMT(node.mode)]
        mode = 0o777 if stat.S_ISLNK(node.mode) else stat.S_IMODE(node.mode)
        if self._tree.local:
            return b"%b\0%o\0\0" % (kind, mode)
        xattrs = ",".join(f"{os.fsencode(name).hex()}={value.hex()}" for name, value in self._tree.xattrs(path).items())
        return b"%b\0%o\0%d:%d\0%b" % (kind, mode, node.uid, node.gid, xattrs.encode())

    def _links(self, path: str, found: list[tuple[str, Node]]) -> bytes:
        """Which files below a path are one file under several names, where that is kept."""
        names: dict[tuple[int, int], list[bytes]] = {}
        for here, node in () if self._tree.local else found:
            if node.nlink > 1 and not stat.S_ISDIR(node.mode):
                names.setdefault((node.dev, node.ino), []).append(os.fsencode(here[len(path) :]))
        return b"\0\0".join(sorted(b"\0".join(group) for group in names.values() if len(group) > 1))


def _named(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
