"""The root file system of a failed step that is kept, as the step left it: as lowers, its upperdir the topmost."""

from __future__ import annotations

from imgbuild.errors import CorruptError
from imgbuild.hints import Iterable
from imgbuild.linux.features import Features
from imgbuild.rootfs.lowers import lower_of
from imgbuild.snapshot import DirectoryLower, Lower, Lowers
from imgbuild.store.failed import TREE, FailedStep
from imgbuild.store.store import Store


def failed_lowers(store: Store, step: FailedStep, features: Features) -> Lowers:
    """What the step stood on and what it wrote; CorruptError where something of that is not there any more."""
    return (*lowers_named(store, step, step.facts["lowers"], features), DirectoryLower(step.directory / TREE))


def lowers_named(store: Store, step: FailedStep, names: Iterable[str], features: Features) -> Lowers:
    """The lowers that a record names as snapshots."""
    found: list[Lower] = []
    for name in names:
        lower = lower_of(store, name, features)
        if lower is None:
            raise CorruptError(f"the failed step {step.id} stands on the snapshot {name}, which is missing or can't be mounted here")
        found.append(lower)
    return tuple(found)
