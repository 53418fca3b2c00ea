"""Merkle digests of what a tree holds: what goes into a step's key for COPY, ADD and mounts.

An entry's record is its kind, mode, owner, extended attributes, and its body: the digest of a file's bytes, a symlink's target, a
device's number, and for a directory the digest of the names and records of what is in it. Owners, and links between files, do
not count in a local tree; times never do.
"""

from __future__ import annotations

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
    status = tree.lstat(path)
    if status is None:
        return
    pending = [(path, status)]
    while pending:
        here, status = pending.pop()
        yield here, status
        if stat.S_ISDIR(status.mode):
            prefix = "" if here == "/" else here
            pending.extend(reversed([(f"{prefix}/{name}", found) for name, found in tree.entries(here)]))


class TreeDigests:
    """Digests of a tree's entries by their real paths."""

    def __init__(self, tree: Tree, files: FileDigests | None = None) -> None:
        self._tree = tree
        self._files = files or FileDigests(tree)

    def entry(self, path: str) -> str:
        """The digest of an entry, its own metadata included."""
        return _named(self._records(path)[path] + b"\0" + self._links(path))

    def contents(self, path: str) -> str:
        """The digest of what is in a directory, the directory's own metadata left out."""
        return _named(self._records(path)[path].rpartition(b"\0")[2] + b"\0" + self._links(path))

    def listing(self, path: str) -> tuple[tuple[str, str], ...]:
        """Each path below a real path, relative to it, with the digest of its record: to say what differs between two."""
        return tuple((here.removeprefix(path), _named(record)) for here, record in sorted(self._records(path).items()))

    def _records(self, path: str) -> dict[str, bytes]:
        found = list(walk(self._tree, path))
        if not found:
            raise FileNotFoundError(path)
        contents = self._files.of([(here, status) for here, status in found if stat.S_ISREG(status.mode)])
        records: dict[str, bytes] = {}
        inside: dict[str, list[bytes]] = {}
        for here, status in reversed(found):
            if stat.S_ISREG(status.mode):
                body = contents[here].encode()
            elif stat.S_ISDIR(status.mode):
                body = hashlib.sha256(b"".join(reversed(inside.pop(here, ())))).hexdigest().encode()
            elif stat.S_ISLNK(status.mode):
                body = os.fsencode(self._tree.readlink(here))
            else:
                body = b"%d:%d" % (os.major(status.rdev), os.minor(status.rdev))
            record = records[here] = b"%b\0%b" % (self._metadata(here, status), body)
            parent, _, name = here.rpartition("/")
            inside.setdefault(parent or "/", []).append(b"%b\0%b\0" % (os.fsencode(name), record))
        return records

    def _metadata(self, path: str, status: Node) -> bytes:
        kind = _KINDS[stat.S_IFMT(status.mode)]
        mode = 0o777 if stat.S_ISLNK(status.mode) else stat.S_IMODE(status.mode)
        if self._tree.local:
            return b"%b\0%o\0\0" % (kind, mode)
        xattrs = b"".join(b"%b=%b," % (os.fsencode(name).hex().encode(), value.hex().encode()) for name, value in self._tree.xattrs(path).items())
        return b"%b\0%o\0%d:%d\0%b" % (kind, mode, status.uid, status.gid, xattrs)

    def _links(self, path: str) -> bytes:
        """Which files below a path are one file under several names, where that is kept."""
        if self._tree.local:
            return b""
        names: dict[tuple[int, int], list[bytes]] = {}
        for here, status in walk(self._tree, path):
            if status.nlink > 1 and not stat.S_ISDIR(status.mode):
                names.setdefault((status.dev, status.ino), []).append(os.fsencode(here.removeprefix(path)))
        return b"\0\0".join(sorted(b"\0".join(group) for group in names.values() if len(group) > 1))


def _named(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
