"""What the store takes on the disk, by kind, and how much of it could go."""

from __future__ import annotations

from imgbuild.hints import Iterable
from imgbuild.light.pathlib import Path
from imgbuild.store.garbage import Policy, plan
from imgbuild.store.store import Store
from imgbuild.store.trees import physical
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """How many of one kind there are, the bytes they take, and the bytes of those that nothing needs."""

    count: int
    bytes: int
    reclaimable: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on the disk, hard links counted once. `history` are the logs of builds, `leftovers` are what is on its way
    out, `index` the memory of it all."""

    images: int
    blobs: Share
    snapshots: Share
    containers: Share
    cache: Share
    failed: Share
    history: Share
    leftovers: Share
    index: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.index + sum(share.bytes for share in self._shares())

    @property
    def reclaimable(self) -> int:
        """What a prune of everything unneeded would give back."""
        return sum(share.reclaimable for share in self._shares())

    def _shares(self) -> tuple[Share, ...]:
        return self.blobs, self.snapshots, self.containers, self.cache, self.failed, self.history, self.leftovers


def usage(store: Store, containers: frozenset[str] = frozenset()) -> Usage:
    """Measure the store. `containers`: ids of the snapshots that containers stand on."""
    with store.lease():
        going = plan(store, Policy(containers, keep_cache=False, drop_untagged=True))
        seen: set[tuple[int, int]] = set()

        def share(paths: Iterable[Path], unneeded: frozenset[Path]) -> Share:
            sizes = {path: physical(path, seen) for path in paths}
            return Share(len(sizes), sum(sizes.values()), sum(size for path, size in sizes.items() if path in unneeded))

        def children(name: str) -> list[Path]:
            return sorted((store.root / name).iterdir())

        leftovers = [*children("trash"), *children("tmp")]
        directories = frozenset(going.directories)
        return Usage(
            images=len({entry.descriptor.digest for entry in store.tags.entries()}),
            blobs=share(map(store.blobs.path, store.blobs), frozenset(map(store.blobs.path, going.blobs))),
            snapshots=share(children("snapshots"), frozenset(store.root / "snapshots" / identity for identity in going.snapshots)),
            containers=share(children("containers"), frozenset()),
            cache=share([*children("cache"), *children("sources")], directories),
            failed=share(children("failed"), directories),
            history=share(children("history"), frozenset()),
            leftovers=share(leftovers, frozenset(children("trash"))),
            index=sum(physical(path, seen) for name in ("index.*", "evidence.*") for path in store.root.glob(name)),
        )
