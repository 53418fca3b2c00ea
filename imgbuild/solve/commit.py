"""Turns an active snapshot into a lower that later steps can stand on."""

from __future__ import annotations

import secrets

from imgbuild.layer.diff import clamp
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.snapshotter import Active
from imgbuild.solve.rooms import Rooms


def commit(rooms: Rooms, active: Active, epoch: int | None) -> DirectoryLower:
    """Commit `active`. With `epoch` what a process wrote gets the times that its layer will have; None: they are final."""
    if epoch is not None:
        with rooms.view(active.lowers) as parents:
            clamp(active.upper, epoch, parents, rootless=rooms.features.rootless)
    return rooms.snapshotter.commit(active, secrets.token_hex(16))
