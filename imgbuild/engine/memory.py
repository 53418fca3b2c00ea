"""Joins the build context's stat cache to the store's index: two rooms of one floor that don't know each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from imgbuild.context.stats import StatRow
from imgbuild.store.index import Index
from imgbuild.store.rows import FileStat


class StoreStats:
    """A `context.stats.StatCache` kept in the store."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def stats(self, root: str) -> Mapping[str, StatRow]:
        return self._index.stats(root)

    def record_stats(self, root: str, rows: Iterable[tuple[str, StatRow]]) -> None:
        self._index.record_stats(root, {path: FileStat(*row) for path, row in rows})
