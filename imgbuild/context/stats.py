"""Digests of files' contents, remembered by what stat says of them, so that an unchanged context costs one walk.

A file that changed so shortly before it was looked at that its clock could not tell another change is not remembered: the
next build reads it again.
"""

from __future__ import annotations

import os
from itertools import islice

from imgbuild.context.held import SMALL, Area, Held
from imgbuild.context.rows import Rows, Statuses, status_of
from imgbuild.context.tree import Tree
from imgbuild.errors import ContextError
from imgbuild.hints import TYPE_CHECKING, AbstractSet, Callable, Iterator, Mapping, NamedTuple, Protocol, Sequence
from imgbuild.light.operator import itemgetter
from imgbuild.linux.node import Node
from imgbuild.oci.digest import Sha256, sha256

if TYPE_CHECKING:
    from imgbuild.oci.digest import Hash

_RACY_NS = 2_000_000_000
"""The coarsest clock of a file system in use (FAT, 2 s)."""

_BLOCK = 1 << 20
_THREADS = 16
_FEW_FILES = 200
"""Files that are read before OpenSSL is worth its loading."""
_MANY = 2000
"""From so many small files on, other processes that read some of them are worth their start."""
_SHA256 = "sha256:"
_MTIME, _CTIME = (itemgetter(Node._fields.index(name)) for name in ("mtime_ns", "ctime_ns"))

LoadInto = Callable[[str, Sequence[tuple[str, Node]], memoryview], Iterator[tuple[memoryview, bytes]]]
"""Reads some files of a directory to where they belong in a `held.Laid`: what was read of each, and its capability."""


class Files(NamedTuple):
    """Some regular files of the directory at a real path."""

    directory: str
    files: Sequence[tuple[str, Node]]


class StatCache(Protocol):
    """What is remembered of the directories below `root` that hold files, by their paths with a slash at the end ("" for the root), as
    `Rows.pack` gave it. `record_stats` takes what is new, or None for what is to be forgotten."""

    def stats(self, root: str) -> Mapping[str, tuple[bytes, bytes]]: ...

    def record_stats(self, root: str, changes: Mapping[str, tuple[bytes, bytes] | None]) -> None: ...


class FileDigests:
    """Digests of a tree's regular files, each taken once: of their bytes, and of their capabilities where the tree is local. `known` are
    digests by their paths that need not be taken. What is read of a local tree's small files, by `load`, goes to `held`."""

    def __init__(
        self,
        tree: Tree,
        cache: StatCache | None = None,
        root: str = "",
        clock: Callable[[], int] = lambda: 0,
        known: Mapping[str, str] | None = None,
        held: Held | None = None,
        load: LoadInto | None = None,
    ) -> None:
        self._tree = tree
        self._cache = cache
        self._root = root
        self._clock = clock
        self._rows: dict[str, Rows] | None = None
        self._statuses = Statuses()
        self._known: dict[str, str] = dict(known or {})
        self._dirty: set[str] = set()
        self._held = held
        self._load = load
        self._asked: list[tuple[str, Mapping[str, Node]]] = []

    def of(self, directories: Sequence[tuple[str, Mapping[str, Node]]]) -> list[Sequence[str]]:
        """The digests of regular files by the real paths of their directories and their names, in the same order."""
        self._asked += directories
        rows = self._remembered()
        results: list[Sequence[str]] = []
        missing: list[Files] = []
        for directory, files in directories:
            found = rows.get(_key(directory))
            if found is not None and self._is(found, files):
                results.append(found.texts())
                continue
            texts = self._texts(directory, files, found)
            results.append(texts)
            lacking = [item for item, text in zip(files.items(), texts, strict=True) if not text] if any(texts) else list(files.items())
            if lacking:
                missing.append(Files(directory, lacking))
        if missing:
            taken = self._taken(missing)
            for number, (directory, files) in enumerate(directories):
                fresh = taken.pop(directory, None)
                if fresh is not None:
                    old, new = results[number], iter(fresh)
                    results[number] = fresh if len(fresh) == len(files) else [text or next(new) for text in old]
        return results

    def asked(self) -> Mapping[str, AbstractSet[str]]:
        """The names of the files whose digests were wanted, by the real paths of their directories."""
        names: dict[str, set[str]] = {}
        for directory, files in self._asked:
            names.setdefault(directory, set()).update(files)
        return names

    def save(self) -> None:
        """Hand what was learned to the cache, once, when nothing more is asked."""
        if self._cache is None or not self._dirty or self._rows is None:
            return
        changes: dict[str, tuple[bytes, bytes] | None] = {}
        for key in self._dirty:
            rows = self._rows.get(key)
            changes[key] = None if rows is None else rows.pack()
        self._cache.record_stats(self._root, changes)
        self._dirty.clear()

    def _remembered(self) -> dict[str, Rows]:
        rows = self._rows
        if rows is None:
            packed = self._cache.stats(self._root) if self._cache else {}
            unpacked = ((key, Rows.unpack(*value)) for key, value in packed.items())
            rows = self._rows = {key: found for key, found in unpacked if found is not None}
        return rows

    def _is(self, rows: Rows, files: Mapping[str, Node]) -> bool:
        """Whether these are the files, unchanged."""
        return rows.names == "\0".join(files) and rows.statuses == self._statuses.of_all(files.values(), len(files))

    def _texts(self, directory: str, files: Mapping[str, Node], rows: Rows | None) -> list[str]:
        """The digest of each file that is known, else ""."""
        known, prefix = self._known, _prefix(directory)
        each = rows.each() if rows is not None else {}
        if not each and not known:
            return [""] * len(files)
        texts = []
        for name, node in files.items():
            row = each.get(name)
            if row is not None and row[0] == status_of(node):
                texts.append(_SHA256 + row[1].hex())
            else:
                texts.append(known.get(f"{prefix}/{name}", ""))
        return texts

    def _taken(self, missing: Sequence[Files]) -> dict[str, list[str]]:
        """Digests that are not known, by directories; noted for the next time."""
        started = self._clock()
        taken = {}
        for group, digests in zip(missing, self._read(missing), strict=True):
            found = Rows("", b"", b"".join(digests)).texts()
            self._note(group, digests, found, started - _RACY_NS)
            taken[group.directory] = found
        return taken

    def _note(self, group: Files, digests: Sequence[bytes], texts: Sequence[str], trusted: int) -> None:
        """Note digests that were taken: for the next time where the files are old enough."""
        directory, files = group
        rows, key, prefix = self._remembered(), _key(directory), _prefix(directory)
        before = rows.get(key)
        self._dirty.add(key)
        nodes = [node for _, node in files]
        if before is None and max(map(_MTIME, nodes)) < trusted and max(map(_CTIME, nodes)) < trusted:
            rows[key] = Rows("\0".join([name for name, _ in files]), self._statuses.of_all(nodes, len(nodes)), b"".join(digests))
            return
        fresh = dict(zip([name for name, _ in files], digests, strict=True))
        # Files that are not there any more are forgotten.
        kept = {
            name: row
            for name, row in (before.each().items() if before is not None else ())
            if name not in fresh and self._tree.lstat(f"{prefix}/{name}") is not None
        }
        for (name, node), text in zip(files, texts, strict=True):
            if node.mtime_ns < trusted and node.ctime_ns < trusted:
                kept[name] = (status_of(node), fresh[name])
            else:
                self._known[f"{prefix}/{name}"] = text
        if kept:
            # in the order in which a directory is listed, so that it may be compared as a whole
            rows[key] = Rows.of([(name, *kept[name]) for name in sorted(kept, key=os.fsencode)])
        else:
            rows.pop(key, None)

    def _read(self, missing: Sequence[Files]) -> list[Sequence[bytes]]:
        """The digests of files, in their order."""
        large = [(directory, name, node) for directory, files in missing for name, node in files if node.size > SMALL]
        small = missing if not large else [Files(of, [file for file in files if file[1].size <= SMALL]) for of, files in missing]
        digests = list(self._read_small([group for group in small if group.files]))
        if len(large) > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(len(large), os.cpu_count() or 1, _THREADS), "digest") as pool:
                whole = list(pool.map(lambda file: self._digest(*file), large))
        else:
            whole = [self._digest(*file) for file in large]
        of_small, of_large = iter(digests), iter(whole)
        if not large:
            return [list(islice(of_small, len(files))) for _, files in missing]
        return [[next(of_small if node.size <= SMALL else of_large) for _, node in files] for _, files in missing]

    def _read_small(self, groups: Sequence[Files]) -> Iterator[bytes]:
        if self._held is None or self._load is None:
            return self._one_by_one(groups)
        count = sum(len(files) for _, files in groups)
        self._held.expect(count)
        # here, since most builds read few files, or none
        if count >= _MANY:
            from imgbuild.context.beside import digests_of_many

            return digests_of_many(groups, self._load, self._held)
        from imgbuild.context.laying import digests_here, laid_out

        memory = self._held.memory
        runs = laid_out(groups, memory, lambda size: Area(size, lambda size: memoryview(bytearray(size)), memory))
        return iter(digests_here(runs, self._load, self._held))

    def _one_by_one(self, groups: Sequence[Files]) -> Iterator[bytes]:
        hashed = hashing(sum(len(files) for _, files in groups))
        for directory, files in groups:
            prefix = _prefix(directory)
            for name, node in files:
                data, capability = self._tree.load(f"{prefix}/{name}", node)
                if len(data) != node.size:
                    raise _changed(f"{prefix}/{name}")
                digest = hashed(data).digest()
                yield hashed(digest + capability).digest() if capability else digest

    def _digest(self, directory: str, name: str, node: Node) -> bytes:
        path = f"{_prefix(directory)}/{name}"
        content: Sha256 | Hash = Sha256()
        size = 0
        fd = self._tree.open(path)
        try:
            while block := os.read(fd, min(_BLOCK, node.size - size + 1)):
                content.update(block)
                size += len(block)
                if size > node.size:
                    break
            after = Node.of(os.fstat(fd))
        finally:
            os.close(fd)
        if size != node.size or (self._tree.local and _identity(after) != _identity(node)):
            raise _changed(path)
        capabilities = self._tree.xattrs(path) if self._tree.local else {}
        if capabilities:
            content = sha256(content.digest() + b"".join(capabilities.values()))
        return content.digest()


def hashing(files: int) -> Callable[[bytes | memoryview], Hash]:
    """What hashes so many small files."""
    if files <= _FEW_FILES:
        return sha256
    import hashlib

    return hashlib.sha256


def _key(directory: str) -> str:
    return "" if directory == "/" else f"{directory[1:]}/"


def _prefix(directory: str) -> str:
    return "" if directory == "/" else directory


def _changed(path: str) -> ContextError:
    return ContextError(f"{path[1:]!r} changed while it was read", hint="build again when nothing writes to it")


def _identity(node: Node) -> tuple[int, int, int, int, int]:
    return node.dev, node.ino, node.size, node.mtime_ns, node.ctime_ns
