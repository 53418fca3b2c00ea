"""What nothing needs any more: found as a plan, then taken out by who has the store alone.

Roots are the entries of index.json with all they reach, the containers' snapshots (which the caller names) and, unless the cache
is to go too, the step records. Names are changed first, then rows, then files: a crash in between leaves garbage, never a gap.
"""

from __future__ import annotations

import os

from imgbuild.errors import CorruptError, ImageError, StoreError
from imgbuild.hints import Callable, Iterable
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.oci.config import parse_config
from imgbuild.oci.digest import DiffID, Digest
from imgbuild.store.closure import closure, manifests
from imgbuild.store.failed import Keep, failed_steps, of_newer_versions, overdue
from imgbuild.store.failures import NoSpaceError, explained
from imgbuild.store.notes import forget_notes
from imgbuild.store.rows import StepRow
from imgbuild.store.store import Store
from imgbuild.store.tags import Entry
from imgbuild.store.temporary import without_reserve
from imgbuild.values import dataclass

Containers = frozenset[str] | Callable[[], frozenset[str]]
"""The ids of the snapshots that containers stand on. What takes things out is given a function, which it asks when it has the
store alone: a container that was made while it waited counts."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts as needed: what `containers` stand on, and what has a name. `keep_cache`: step records, and what
    they refer to, cache mounts and failed steps stay. `unused_since` (seconds since 1970): of those, only steps that were used
    since, and files of failed steps of since; `failed`: of failed steps only so many. What they stand on stays with them.
    `drop_untagged`: images without a name are not needed."""

    containers: Containers = frozenset()
    keep_cache: bool = True
    unused_since: float | None = None
    drop_untagged: bool = False
    failed: Keep | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to go: images by entry, steps by key, blobs, snapshots by id, whole directories (cache mounts, failed steps, sources), and
    memos recorded before a time."""

    untagged: tuple[Entry, ...]
    steps: tuple[str, ...]
    blobs: tuple[Digest, ...]
    snapshots: tuple[str, ...]
    directories: tuple[Path, ...]
    memos_before: float | None


@dataclass(frozen=True, slots=True)
class Freed:
    """What went: bytes given back to the file system, and how many of each. `builds` are records, which `history` is asked about."""

    bytes: int = 0
    images: int = 0
    steps: int = 0
    blobs: int = 0
    snapshots: int = 0
    directories: int = 0
    builds: int = 0


@dataclass(slots=True)
class _Live:
    blobs: set[Digest]
    diff_ids: set[DiffID]
    snapshots: set[str]


def plan(store: Store, policy: Policy) -> Plan:
    """What `collect` would take out now. Hold a lease at least."""
    entries = store.tags.entries()
    untagged = tuple(entry for entry in entries if entry.name is None) if policy.drop_untagged else ()
    directories = _directories(store, policy)
    live = _Live(set(), set(), {*standing_on(policy.containers), *failed_on(store, directories)})
    needed = (entry for entry in entries if not (policy.drop_untagged and entry.name is None))
    for entry in {(entry.descriptor.digest, entry.descriptor.media_type): entry for entry in needed}.values():
        _mark_image(store, entry, live)  # once, however many names it has
    steps = _mark_steps(store, policy, live)
    present = _listing(store.root / "snapshots")
    live.snapshots.update(row.id for row in store.index.snapshots() if row.diff_id in live.diff_ids)
    if policy.keep_cache:
        live.blobs.update(store.index.downloads())
        live.blobs.update(row.blob.digest for row in store.index.layers() if row.diff_id in live.diff_ids)
    memos_before = policy.unused_since if policy.keep_cache else store.clock() + 1
    return Plan(
        untagged=untagged,
        steps=steps,
        blobs=tuple(digest for digest in store.blobs if digest not in live.blobs),
        snapshots=tuple(name for name in present if name not in live.snapshots),
        directories=directories,
        memos_before=memos_before,
    )


def collect(
    store: Store,
    policy: Policy,
    *,
    timeout: float | None = 60.0,
    on_wait: Callable[[], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Freed:
    """Take out what the policy does not need, and empty the trash. Waits for all leases as `Store.exclusive` does."""
    with store.exclusive(timeout=timeout, on_wait=on_wait, cancelled=cancelled), without_reserve(store.root):
        going = plan(store, policy)
        size = sum(_allocated(store.blobs.path(digest)) for digest in going.blobs)
        try:
            _forget(store, going)
            _bury(store, going, policy)
            _remove(store, going)
        except NoSpaceError:
            # The other way round: a crash now leaves rows that speak of nothing, which the next collection drops.
            _remove(store, going)
            size += store.scratch.empty()
            _forget(store, going)
            _bury(store, going, policy)
        store.scratch.sweep()
        store.locks.sweep()
    return Freed(
        bytes=size + store.scratch.empty(),
        images=len(going.untagged),
        steps=len(going.steps),
        blobs=len(going.blobs),
        snapshots=len(going.snapshots),
        directories=len(going.directories),
    )


def standing_on(containers: Containers) -> frozenset[str]:
    """The snapshots that containers stand on now."""
    return containers() if callable(containers) else containers


def failed_on(store: Store, going: Iterable[Path] = ()) -> set[str]:
    """The snapshots that failed steps stand on, but for those in `going`."""
    gone = set(going)
    own = {name for step in failed_steps(store.root) if step.directory not in gone for name in step.snapshots}
    return own | of_newer_versions(store.root)


def _forget(store: Store, going: Plan) -> None:
    forget_notes(store.root)  # of builds that were found done, perhaps by what goes now
    if going.untagged:
        store.tags.remove_untagged()
    directories = set(_listing(store.root / "snapshots"))
    lost_snapshots = {row.id for row in store.index.snapshots() if row.id not in directories}
    lost_layers = {row.blob.digest for row in store.index.layers() if not store.blobs.has(row.blob.digest)}
    store.index.forget(
        steps=going.steps,
        layers=lost_layers | set(going.blobs),
        snapshots=lost_snapshots | set(going.snapshots),
        memos_before=going.memos_before,
    )


def _bury(store: Store, going: Plan, policy: Policy) -> None:
    """Leave word of the steps that went, so that who misses one can be told, and let go of what was kept to explain them."""
    if not policy.keep_cache:
        reason = "prune --all"
    elif policy.unused_since is None:
        reason = "prune: its layer was gone"
    else:
        reason = f"prune: not used for {_duration(store.clock() - policy.unused_since)}, or its layer was gone"
    with suppress(StoreError, CorruptError):  # less can be said then, and nothing else happens
        store.evidence.bury(going.steps, reason)
        store.evidence.sweep(digest for row in store.index.steps() for digest in row.inputs())


def _duration(seconds: float) -> str:
    hours = round(seconds / 3600)
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"


def _remove(store: Store, going: Plan) -> None:
    for digest in going.blobs:
        store.blobs.remove(digest)
    for identity in going.snapshots:
        store.discard(store.root / "snapshots" / identity)
    for directory in going.directories:
        store.discard(directory)


def _mark_image(store: Store, entry: Entry, live: _Live) -> None:
    live.blobs.add(entry.descriptor.digest)
    # An image that is damaged needs what can still be seen of it; fsck tells about the rest.
    with suppress(CorruptError, ImageError):
        for part in closure(store.blobs, entry.descriptor):
            live.blobs.add(part.digest)
    with suppress(CorruptError, ImageError):
        for _, manifest in manifests(store.blobs, entry.descriptor):
            with suppress(CorruptError, ImageError):
                live.diff_ids.update(parse_config(store.blobs.read(manifest.config.digest)).diff_ids)


def _mark_steps(store: Store, policy: Policy, live: _Live) -> tuple[str, ...]:
    """Mark what the kept steps need; the keys of the others."""
    unused = frozenset[str]() if policy.unused_since is None else store.index.unused_steps(policy.unused_since)
    here = {row.diff_id for row in store.index.layers() if store.blobs.has(row.blob.digest)}
    going = []
    for row in store.index.steps():
        if policy.keep_cache and row.key not in unused and _can_be_served(store, row, here):
            live.snapshots.add(row.snapshot)
            if row.diff_id is not None:
                live.diff_ids.add(row.diff_id)
        else:
            going.append(row.key)
    return tuple(going)


def _can_be_served(store: Store, row: StepRow, here: set[DiffID]) -> bool:
    return row.empty or row.diff_id in here or (bool(row.snapshot) and store.has_snapshot(row.snapshot))


def _directories(store: Store, policy: Policy) -> tuple[Path, ...]:
    failed, cache, sources = ([store.root / kind / name for name in _listing(store.root / kind)] for kind in ("failed", "cache", "sources"))
    if not policy.keep_cache:
        return (*failed, *cache, *sources)
    steps = failed_steps(store.root)
    kept = {step.directory for step in steps}
    going = [] if policy.failed is None else [step.directory for step in overdue(steps, policy.failed, store.clock())]
    if policy.unused_since is not None:
        files = (path for path in (*failed, *sources) if path not in kept)
        going += [path for path in files if path.lstat().st_mtime < policy.unused_since]
    return tuple(going)


def _listing(directory: Path) -> list[str]:
    with explained(directory):
        return sorted(os.listdir(directory))


def _allocated(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0
