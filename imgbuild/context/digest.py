"""Merkle digests of what a tree holds: what goes into a step's key for COPY, ADD and mounts.

An entry's record is its kind, mode, time, owner, extended attributes, and its body: the digest of a file's bytes, a symlink's target,
a device's number, and for a directory the digest of the names and records of what is in it. Owners, times, and links between files
do not count in a local tree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from imgbuild.context.stats import FileDigests
from imgbuild.context.tree import Tree
from imgbuild.linux.node import Node
from imgbuild.oci.digest import digest_of

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
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
        self._metadata_by_mode: dict[int, str] = {}

    def entry(self, path: str) -> str:
        """The digest of an entry, its own metadata included."""
        found = self._found(path)
        return _named(f"{self._records(found)[path]}\0{self._links(path, found)}")

    def contents(self, path: str) -> str:
        """The digest of what is in a directory, the directory's own metadata left out."""
        found = self._found(path)
        return _named(f"{self._records(found)[path].rpartition(chr(0))[2]}\0{self._links(path, found)}")

    def listing(self, path: str) -> tuple[tuple[str, str], ...]:
        """Each path from a real path down, relative to it, with the digest of its record: to say in what two trees differ."""
        found = self._found(path)
        records = self._records(found, every=True)
        return tuple((here[len(path) :].lstrip("/"), _named(records[here])) for here, _ in found)

    def _found(self, path: str) -> list[tuple[str, Node]]:
        found = list(walk(self._tree, path))
        if not found:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def _records(self, found: list[tuple[str, Node]], *, every: bool = False) -> dict[str, str]:
        """The record of what was found first, or of all of it."""
        contents = self._files.of([item for item in found if stat.S_ISREG(item[1].mode)])
        records: dict[str, str] = {}
        inside: dict[str, list[str]] = {}
        by_mode, is_file, record = self._metadata_by_mode, stat.S_ISREG, ""
        for path, node in reversed(found):
            mode = node.mode
            if is_file(mode):
                body = contents[path]
            elif stat.S_ISDIR(mode):
                body = _hash("".join(reversed(inside.pop(path, []))))
            elif stat.S_ISLNK(mode):
                body = self._tree.readlink(path)
            else:
                body = f"{os.major(node.rdev)}:{os.minor(node.rdev)}"
            record = f"{by_mode.get(mode) or self._metadata(path, node)}\0{body}"
            if every:
                records[path] = record
            parent, _, name = path.rpartition("/")
            siblings = inside.get(parent or "/")
            if siblings is None:
                siblings = inside[parent or "/"] = []
            # unambiguous: a name and the four fields of a record hold no NUL
            siblings.append(f"{name}\0{record}\0")
        records[found[0][0]] = record
        return records

    def _metadata(self, path: str, node: Node) -> str:
        mode = 0o777 if stat.S_ISLNK(node.mode) else stat.S_IMODE(node.mode)
        metadata = f"{_KINDS[stat.S_IFMT(node.mode)]} {mode:o}"
        if self._tree.local:
            return self._metadata_by_mode.setdefault(node.mode, f"{metadata}\0\0")
        xattrs = ",".join(f"{os.fsencode(name).hex()}={value.hex()}" for name, value in self._tree.xattrs(path).items())
        # Times of a stage's files get into what is copied from it, so they count.
        return f"{metadata} {node.mtime_ns // 1_000_000_000}\0{node.uid}:{node.gid}\0{xattrs}"

    def _links(self, path: str, found: list[tuple[str, Node]]) -> str:
        """Which files below a path are one file under several names, where that is kept."""
        names: dict[tuple[int, int], list[str]] = {}
        for here, node in () if self._tree.local else found:
            if node.nlink > 1 and not stat.S_ISDIR(node.mode):
                names.setdefault((node.dev, node.ino), []).append(here[len(path) :])
        return "\0\0".join("\0".join(group) for group in names.values() if len(group) > 1)


def _hash(text: str) -> str:
    return digest_of(text.encode("utf-8", "surrogateescape")).removeprefix("sha256:")


def _named(text: str) -> str:
    return f"sha256:{_hash(text)}"
