"""Digests of files' contents, remembered by what stat says of them, so that an unchanged context costs one walk.

An entry is (device, inode, size, mtime, ctime) -> digest. A file that changed so shortly before it was looked at that its clock
could not tell another change is not remembered: the next build reads it again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from imgbuild.context.tree import Tree
from imgbuild.errors import ContextError
from imgbuild.linux.node import Node

StatRow = tuple[int, int, int, int, int, str]
"""Device, inode, size, mtime_ns, ctime_ns, digest."""

_RACY_NS = 2_000_000_000
"""The coarsest clock of a file system in use (FAT, 2 s)."""

_INLINE = 64 << 10
_BLOCK = 1 << 20


class StatCache(Protocol):
    """What the store's index remembers for the directory `root`; both calls are in bulk. Paths are relative."""

    def stats(self, root: str) -> Mapping[str, StatRow]: ...

    def record_stats(self, root: str, rows: Iterable[tuple[str, StatRow]]) -> None: ...


class FileDigests:
    """Digests of a tree's regular files: of their bytes, and of their capabilities where the tree is local."""

    def __init__(self, tree: Tree, cache: StatCache | None = None, root: str = "", clock: Callable[[], int] | None = None) -> None:
        self._tree = tree
        self._cache = cache
        self._root = root
        self._clock = clock
        self._rows: Mapping[str, StatRow] | None = None
        self._known: dict[str, str] = {}

    def of(self, files: Sequence[tuple[str, Node]]) -> dict[str, str]:
        """The digests of files by their real paths. Reads those that are not remembered, big ones in parallel."""
        if self._rows is None:
            self._rows = self._cache.stats(self._root) if self._cache else {}
        known = self._known
        rows = self._rows
        missing = []
        for path, status in files:
            if path in known:
                continue
            row = rows.get(path[1:])
            if row is not None and row[:5] == _identity(status):
                known[path] = row[5]
            else:
                missing.append((path, status))
        if missing:
            self._read(missing)
        return known

    def _read(self, files: list[tuple[str, Node]]) -> None:
        started = self._clock() if self._clock else 0
        large = [(path, status) for path, status in files if status.size > _INLINE]
        for path, status in files:
            if status.size <= _INLINE:
                self._known[path] = self._digest(path, status)
        if len(large) > 1:
            # only now: a build that reads nothing big never imports this
            from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

            with ThreadPoolExecutor(min(len(large), os.cpu_count() or 1, 16), "digest") as pool:
                for (path, _), digest in zip(large, pool.map(lambda file: self._digest(*file), large), strict=True):
                    self._known[path] = digest
        else:
            self._known.update((path, self._digest(path, status)) for path, status in large)
        if self._cache:
            rows = [
                (path[1:], (*_identity(status), self._known[path]))
                for path, status in files
                if max(status.mtime_ns, status.ctime_ns) < started - _RACY_NS
            ]
            self._cache.record_stats(self._root, rows)

    def _digest(self, path: str, status: Node) -> str:
        fd = self._tree.open(path)
        try:
            digest = hashlib.sha256()
            size = 0
            while block := os.read(fd, min(_BLOCK, status.size - size + 1)):
                digest.update(block)
                size += len(block)
                if size > status.size:
                    break
            after = Node.of(os.fstat(fd))
        finally:
            os.close(fd)
        if size != status.size or (self._tree.local and _identity(after) != _identity(status)):
            raise ContextError(f"{path[1:]!r} changed while it was read", hint="build again when nothing writes to the build context")
        capabilities = self._tree.xattrs(path) if self._tree.local else {}
        return digest.hexdigest() + "".join(f"+{value.hex()}" for value in capabilities.values())


def _identity(status: Node) -> tuple[int, int, int, int, int]:
    return status.dev, status.ino, status.size, status.mtime_ns, status.ctime_ns
