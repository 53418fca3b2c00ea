"""Deep stacks of indexed tars as one lower: made once, kept in the store as a snapshot of its own, and mounted in the place of them all.

Each lower costs every process that mounts the stack a fifth of a millisecond, and each look into it another. The snapshot holds links to
the tars, so that it needs none of the others; nothing refers to it, and a prune takes it away like all that can be made again.
"""

from __future__ import annotations

import os

from imgbuild.hints import Callable
from imgbuild.layer.failures import explained
from imgbuild.layer.merge import merged
from imgbuild.oci.digest import digest_of
from imgbuild.rootfs.indexed import commit_indexed, indexed
from imgbuild.snapshot import IndexedTarLower, Lowers
from imgbuild.store.store import Store
from imgbuild.store.trees import tar_name

_MOST_MERGED = 128 << 20
"""Bytes of indexes; merging holds several times as much in memory."""


def merge_lowers(store: Store, lowers: Lowers, least: int, cancelled: Callable[[], bool] | None) -> Lowers:
    """The stack with the indexed tars at its bottom as one, where there are `least` of them."""
    tars: list[IndexedTarLower] = []
    for lower in lowers:
        if not isinstance(lower, IndexedTarLower):
            break
        tars.append(lower)
    if len(tars) < least or sum(lower.index.stat().st_size for lower in tars) > _MOST_MERGED:
        return lowers
    names = " ".join(lower.directory.name for lower in tars)
    identity = "merged-" + digest_of(names.encode()).partition(":")[2]
    with store.lock(f"snapshot {identity}", cancelled=cancelled):
        if store.index.snapshot(identity) is not None and store.has_snapshot(identity):
            one = indexed(store, identity)
        else:
            one = _make(store, tars, identity)
    return (one, *lowers[len(tars) :])


def _make(store: Store, tars: list[IndexedTarLower], identity: str) -> IndexedTarLower:
    image = merged([lower.index.read_bytes() for lower in tars])
    with store.temporary("merge") as scratch, explained(scratch):
        directory = scratch / "snapshot"
        directory.mkdir()
        for number, lower in enumerate(tars):
            os.link(lower.tar, directory / tar_name(number))
        return commit_indexed(store, directory, image, identity, None)
