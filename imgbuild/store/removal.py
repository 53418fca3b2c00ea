"""Removing trees of the store: what can't go is said in words, and nothing goes that is mounted."""

from __future__ import annotations

import errno
import os

from imgbuild.errors import StoreError
from imgbuild.light.pathlib import Path
from imgbuild.linux.removal import Removed, remove_below
from imgbuild.patterns import pattern

_OCTAL = pattern(rb"\\([0-7]{3})")


def remove_tree(path: Path, *, deadline: float | None = None) -> tuple[int, bool]:
    """Remove `path` and all below it: (bytes given back, whether it is all gone). After `deadline` (time.monotonic) it
    stops where it is. StoreError, once all that can go is gone, where something can't be removed."""
    if not os.path.lexists(path):
        return 0, True
    if mounts := mounts_below(path):
        raise StoreError(f"{mounts[0]} is a mount: what holds it is not removed", hint=f"run `umount {mounts[0]}`, then try again")
    removed = _remove(path, deadline)
    if removed.error is not None:
        raise StoreError(
            f"{removed.error.filename} can't be removed",
            hint="it may be immutable: `lsattr` shows it, `chattr -i` makes it removable" if removed.error.errno == errno.EPERM else None,
            detail=removed.error.strerror,
        )
    return removed.freed, removed.finished


def mounts_below(path: Path) -> list[str]:
    """The mount points at or below `path` that this process sees."""
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            table = stream.read()
    except OSError:
        return []
    real = os.fsencode(os.path.join(os.path.realpath(path.parent), path.name))
    points = (_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4]) for line in table.splitlines())
    return [os.fsdecode(point) for point in points if point == real or point.startswith(real + b"/")]


def _remove(path: Path, deadline: float | None) -> Removed:
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        error.filename = str(path)
        return Removed(0, False, error)
    try:
        return remove_below(parent, path.name, deadline=deadline)
    except OSError as error:
        error.filename = str(path)
        return Removed(0, False, error)
    finally:
        os.close(parent)
