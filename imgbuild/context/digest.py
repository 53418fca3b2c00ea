"""Merkle digests of what a tree holds: what goes into a step's key for COPY, ADD and mounts.

An entry's record is its kind, mode, time, owner, extended attributes, and its body: the digest of a file's bytes, a symlink's target,
a device's number, and for a directory the digest of the names and records of what is in it. Owners, times, and links between files
do not count in a local tree. What digests were made of can be kept, to say later in what two trees differ.
"""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.context.stats import FileDigests
from imgbuild.context.tree import Tree
from imgbuild.hints import Iterator, Mapping, NamedTuple, Sequence
from imgbuild.light.operator import itemgetter
from imgbuild.linux.node import Node
from imgbuild.oci.digest import digest_of

_MODE = itemgetter(Node._fields.index("mode"))
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


class _Found(NamedTuple):
    """What is at a real path, and all directories from there down, parents first, with what is in them."""

    path: str
    node: Node
    directories: list[tuple[str, dict[str, Node]]]


class Kept:
    """What digests were made of: texts by their digests (hex). A text is five words for each entry of a directory, each ended by NUL:
    name, kind and mode, owner, extended attributes, body. `roots` are the digests that were asked for; their texts have one entry
    without a name, and perhaps one, "/", that says which files are one. `source` and `name` are the input's: see `copy.InputDigest`;
    `mount` is the number of the mount that reads it, -1 for none."""

    def __init__(self, source: str = "", name: str = "") -> None:
        self.source = source
        self.name = name
        self.mount = -1
        self.roots: list[str] = []
        self.texts: dict[str, str] = {}
        self._entries: dict[str, Mapping[str, Node]] = {}
        self._sizes: dict[str, list[int]] = {}

    def sizes(self, digest: str) -> Sequence[int]:
        """The sizes of the entries that a text speaks of."""
        return self._sizes.get(digest) or [node.size for node in self._entries[digest].values()]

    def add_directory(self, digest: str, text: str, entries: Mapping[str, Node]) -> None:
        self.texts[digest] = text
        self._entries[digest] = entries

    def add_root(self, digest: str, size: int, record: str, links: str) -> None:
        shared = "/\0links\0\0\0" + links.replace("\0", " ") + "\0" if links else ""
        self.roots.append(digest)
        self.texts[digest] = f"\0{record}\0{shared}"
        self._sizes[digest] = [size, 0] if links else [size]


class TreeDigests:
    """Digests of a tree's entries by their real paths; `kept` is told what they were made of."""

    def __init__(self, tree: Tree, files: FileDigests | None = None, kept: Kept | None = None) -> None:
        self._tree = tree
        self._files = files or FileDigests(tree)
        self._kept = kept
        self._metadata_by_mode: dict[int, str] = {}

    def entry(self, path: str) -> str:
        """The digest of an entry, its own metadata included."""
        found = self._found(path)
        return self._root(found, self._records(found)[path])

    def contents(self, path: str) -> str:
        """The digest of what is in a directory, the directory's own metadata left out."""
        found = self._found(path)
        return self._root(found, self._records(found)[path].rpartition("\0")[2], "directory\0\0\0")

    def _root(self, found: _Found, record: str, metadata: str = "") -> str:
        links = self._links(found)
        digest = _hash(f"{record}\0{links}")
        if self._kept is not None:
            self._kept.add_root(digest, found.node.size, metadata + record, links)
        return f"sha256:{digest}"

    def listing(self, path: str) -> tuple[tuple[str, str], ...]:
        """Each path from a real path down, relative to it, with the digest of its record: to say in what two trees differ."""
        records = self._records(self._found(path), every=True)
        return tuple((here[len(path) :].lstrip("/"), _named(records[here])) for here in sorted(records, key=_as_listed))

    def _found(self, path: str) -> _Found:
        node = self._tree.lstat(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        directories: list[tuple[str, dict[str, Node]]] = []
        pending, is_directory = [path] if stat.S_ISDIR(node.mode) else [], stat.S_ISDIR
        while pending:
            here = pending.pop()
            entries = dict(self._tree.entries(here))
            directories.append((here, entries))
            prefix = "" if here == "/" else here
            pending += [f"{prefix}/{name}" for name, inside in entries.items() if is_directory(inside.mode)]
        return _Found(path, node, directories)

    def _records(self, found: _Found, *, every: bool = False) -> dict[str, str]:
        """The record of what was found first, or of all of it."""
        path, node, directories = found
        if stat.S_ISREG(node.mode):
            parent, _, name = path.rpartition("/")
            return {path: f"{self._metadata(path, node)}\0{self._files.of([(parent or '/', {name: node})])[0][0]}"}
        regular = [_regular(entries) for _, entries in directories]
        contents = self._files.of([(here, files) for (here, _), files in zip(directories, regular, strict=True) if files])
        records: dict[str, str] = {}
        bodies: dict[str, str] = {}
        for (here, entries), files in zip(reversed(directories), reversed(regular), strict=True):
            texts = contents.pop() if files else ()
            if len(files) == len(entries) and self._tree.local and not every:
                inside = self._plain(here, entries, texts)
            else:
                inside = self._mixed(here, entries, texts, bodies, records if every else None)
            text = "".join(inside)
            body = bodies[here] = _hash(text)
            if self._kept is not None:
                self._kept.add_directory(body, text, entries)
        if not directories:
            body = self._body(path, node)
        records[path] = f"{self._metadata(path, node)}\0{body}"
        return records

    def _plain(self, here: str, entries: Mapping[str, Node], texts: Sequence[str]) -> list[str]:
        """The names and records in a directory of a local tree that holds nothing but files."""
        one_of_each = {node.mode: node for node in entries.values()}
        by_mode = {mode: self._metadata(here, node) for mode, node in one_of_each.items()}
        return [f"{name}\0{by_mode[node.mode]}\0{text}\0" for (name, node), text in zip(entries.items(), texts, strict=True)]

    def _mixed(
        self, here: str, entries: Mapping[str, Node], texts: Sequence[str], bodies: dict[str, str], records: dict[str, str] | None
    ) -> list[str]:
        """The same of any directory. `bodies`: of those in it, which are no longer wanted then; `records` takes the records."""
        following, prefix = iter(texts), "" if here == "/" else here
        inside = []
        for name, node in entries.items():
            path = f"{prefix}/{name}"
            if stat.S_ISREG(node.mode):
                body = next(following)
            elif stat.S_ISDIR(node.mode):
                body = bodies.pop(path)
            else:
                body = self._body(path, node)
            record = f"{self._metadata(path, node)}\0{body}"
            if records is not None:
                records[path] = record
            # unambiguous: a name and the four fields of a record hold no NUL
            inside.append(f"{name}\0{record}\0")
        return inside

    def _body(self, path: str, node: Node) -> str:
        """That of what is neither a file nor a directory."""
        if stat.S_ISLNK(node.mode):
            return self._tree.readlink(path)
        return f"{os.major(node.rdev)}:{os.minor(node.rdev)}"

    def _metadata(self, path: str, node: Node) -> str:
        if self._tree.local and (known := self._metadata_by_mode.get(node.mode)) is not None:
            return known
        mode = 0o777 if stat.S_ISLNK(node.mode) else stat.S_IMODE(node.mode)
        metadata = f"{_KINDS[stat.S_IFMT(node.mode)]} {mode:o}"
        if self._tree.local:
            return self._metadata_by_mode.setdefault(node.mode, f"{metadata}\0\0")
        xattrs = ",".join(f"{os.fsencode(name).hex()}={value.hex()}" for name, value in self._tree.xattrs(path).items())
        # Times of a stage's files get into what is copied from it, so they count.
        return f"{metadata} {node.mtime_ns // 1_000_000_000}\0{node.uid}:{node.gid}\0{xattrs}"

    def _links(self, found: _Found) -> str:
        """Which files below a path are one file under several names, where that is kept."""
        names: dict[tuple[int, int], list[str]] = {}
        for here, node in () if self._tree.local else _several(found):
            names.setdefault((node.dev, node.ino), []).append(here[len(found.path) :])
        return "\0\0".join("\0".join(group) for group in names.values() if len(group) > 1)


def _several(found: _Found) -> list[tuple[str, Node]]:
    """The files that have several names, in the order of `walk`."""
    several = [
        (f"{here if here != '/' else ''}/{name}", node)
        for here, entries in found.directories
        for name, node in entries.items()
        if node.nlink > 1 and not stat.S_ISDIR(node.mode)
    ]
    return sorted(several, key=lambda item: _as_listed(item[0]))


def _as_listed(path: str) -> bytes:
    """What paths are sorted by, so that they are in the order of `walk`."""
    return os.fsencode(path).replace(b"/", b"\0")


def _regular(entries: dict[str, Node]) -> dict[str, Node]:
    """The regular files in a directory."""
    is_file = stat.S_ISREG
    if all(map(is_file, map(_MODE, entries.values()))):
        return entries
    return {name: node for name, node in entries.items() if is_file(node.mode)}


def _hash(text: str) -> str:
    return digest_of(text.encode("utf-8", "surrogateescape")).removeprefix("sha256:")


def _named(text: str) -> str:
    return f"sha256:{_hash(text)}"
