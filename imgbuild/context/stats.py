"""Digests of files' contents, remembered by what stat says of them, so that an unchanged context costs one walk.

A file that changed so shortly before it was looked at that its clock could not tell another change is not remembered: the
next build reads it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from imgbuild.context.held import SMALL, Held
from imgbuild.context.tree import Tree
from imgbuild.errors import ContextError
from imgbuild.hints import Any, NamedTuple, Protocol
from imgbuild.linux.node import Node

_RACY_NS = 2_000_000_000
"""The coarsest clock of a file system in use (FAT, 2 s)."""

_BLOCK = 1 << 20
_THREADS = 16


class FileStat(NamedTuple):
    """What a file's digest (``sha256:...``) was taken at."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str


class StatCache(Protocol):
    """What is remembered of the files of a directory `root`, by relative paths. `record_stats` replaces all of it.

    Rows are tuples with the fields of `FileStat`, by whatever name.
    """

    def stats(self, root: str) -> Mapping[str, Any]: ...

    def record_stats(self, root: str, rows: Mapping[str, Any]) -> None: ...


class FileDigests:
    """Digests of a tree's regular files, each taken once: of their bytes, and of their capabilities where the tree is local. `known` are
    digests by their paths that need not be taken. What is read of small files goes to `held`."""

    def __init__(
        self,
        tree: Tree,
        cache: StatCache | None = None,
        root: str = "",
        clock: Callable[[], int] = lambda: 0,
        known: Mapping[str, str] | None = None,
        held: Held | None = None,
    ) -> None:
        self._tree = tree
        self._cache = cache
        self._root = root
        self._clock = clock
        self._rows: dict[str, FileStat] | None = None
        self._known: dict[str, str] = dict(known or {})
        self._dirty = False
        self._held = held

    def of(self, files: Sequence[tuple[str, Node]]) -> Mapping[str, str]:
        """The digests of files, and of those that were asked for before, by their real paths. Big ones are read in parallel."""
        if self._rows is None:
            self._rows = dict(self._cache.stats(self._root)) if self._cache else {}
        known, rows = self._known, self._rows
        missing = []
        for path, node in files:
            if path in known:
                continue
            row = rows.get(path[1:])
            if row is not None and row[:5] == (node.dev, node.ino, node.size, node.mtime_ns, node.ctime_ns):
                known[path] = row[5]
            else:
                missing.append((path, node))
        if missing:
            self._read(missing, rows)
        return known

    def save(self) -> None:
        """Hand what was learned to the cache, once, when nothing more is asked."""
        if self._cache and self._dirty and self._rows is not None:
            self._cache.record_stats(self._root, self._rows)
            self._dirty = False

    def _read(self, files: list[tuple[str, Node]], rows: dict[str, FileStat]) -> None:
        started = self._clock()
        if self._held is not None:
            self._held.expect(len(files))
        digests = {path: self._small_digest(path, node) for path, node in files if node.size <= SMALL}
        large = [(path, node) for path, node in files if node.size > SMALL]
        if len(large) > 1:
            # here, since a build that reads nothing big must not pay for the import
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(len(large), os.cpu_count() or 1, _THREADS), "digest") as pool:
                digests.update(zip([path for path, _ in large], pool.map(lambda file: self._digest(*file), large), strict=True))
        else:
            digests.update((path, self._digest(path, node)) for path, node in large)
        self._known.update(digests)
        self._dirty = True
        trusted = started - _RACY_NS
        for path, node in files:
            if node.mtime_ns < trusted and node.ctime_ns < trusted:
                rows[path[1:]] = FileStat(node.dev, node.ino, node.size, node.mtime_ns, node.ctime_ns, digests[path])
            else:
                rows.pop(path[1:], None)

    def _small_digest(self, path: str, node: Node) -> str:
        from hashlib import sha256

        content = data, capability = self._tree.load(path, node)
        if len(data) != node.size:
            raise _changed(path)
        if self._held is not None:
            self._held.keep(path, content)
        digest = sha256(data)
        return "sha256:" + (sha256(digest.digest() + capability) if capability else digest).hexdigest()

    def _digest(self, path: str, node: Node) -> str:
        import hashlib

        content = hashlib.sha256()
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
            content = hashlib.sha256(content.digest() + b"".join(capabilities.values()))
        return f"sha256:{content.hexdigest()}"


def _changed(path: str) -> ContextError:
    return ContextError(f"{path[1:]!r} changed while it was read", hint="build again when nothing writes to it")


def _identity(node: Node) -> tuple[int, int, int, int, int]:
    return node.dev, node.ino, node.size, node.mtime_ns, node.ctime_ns
