"""Turns an active snapshot into a lower that later steps can stand on, and that, later, into a layer."""

from __future__ import annotations

import os

from imgbuild.errors import ImgbuildError
from imgbuild.graph.ops import Step
from imgbuild.hints import TYPE_CHECKING, Callable
from imgbuild.snapshot import DirectoryLower, Lower
from imgbuild.snapshot.snapshotter import Active
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.state import RootState

if TYPE_CHECKING:
    from imgbuild.light.pathlib import Path
    from imgbuild.rootfs.capture import Captured
    from imgbuild.store.store import Store


def commit(rooms: Rooms, active: Active, epoch: int | None) -> DirectoryLower:
    """Commit `active`. With `epoch` what a process wrote gets the times that its layer will have; None: they are final."""
    if epoch is not None:
        from imgbuild.rootfs.capture import settle  # imported while the command ran

        settle(active.upper, active.lowers, epoch, rootless=rooms.features.rootless, seen=rooms.seen)
    return rooms.snapshotter.commit(active, os.urandom(16).hex())


def erase_lower(store: Store, directory: Path) -> None:
    """Take a snapshot that has a secret out of the store, with the failed steps that stand on it."""
    from imgbuild.store.failed import failed_steps

    for failed in failed_steps(store.root):
        if directory.name in failed.snapshots:
            store.erase(failed.directory)
    store.erase(directory)


def capture_step(
    rooms: Rooms,
    step: Step,
    lower: Lower,
    parent: RootState,
    check: Callable[[], None],
    failed: Callable[[ImgbuildError], object] = lambda error: None,
) -> Captured:
    """The layer of a step whose lower is committed; `check` ends it by raising. `failed` is told why there is none."""
    from imgbuild.rootfs.capture import capture

    assert isinstance(lower, DirectoryLower)
    lowers = () if step.independent else parent.lowers()
    ways = {"rootless": rooms.features.rootless, "rooted": not step.independent}
    try:
        return capture(
            rooms.store, lower, lowers, step.op.epoch, rooms.compression, **ways, check=check, seen=rooms.seen, begun=rooms.begun(step),
            leaks=rooms.leaks,
        )  # fmt: skip
    except ImgbuildError as error:
        failed(error.located(step.span))
        raise
