"""Turns an active snapshot into a lower that later steps can stand on."""

from __future__ import annotations

import os

from imgbuild.rootfs.capture import settle
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.snapshotter import Active
from imgbuild.solve.rooms import Rooms


def commit(rooms: Rooms, active: Active, epoch: int | None) -> DirectoryLower:
    """Commit `active`. With `epoch` what a process wrote gets the times that its layer will have; None: they are final."""
    if epoch is not None:
        settle(active.upper, active.lowers, epoch, rootless=rooms.features.rootless, seen=rooms.seen)
    return rooms.snapshotter.commit(active, os.urandom(16).hex())
