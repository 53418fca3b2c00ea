"""Removing trees that hold anything: what a container wrote, with any mode, depth or link.

Never follows a symlink, never descends into a mount. The bytes that this gives back are counted on the way.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from imgbuild.errors import StoreError

_MAX_DEPTH = 64
_BLOCK = 512
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(slots=True)
class _Removal:
    """What one removal needs to know on its way: where to put too deep directories, when to stop, what went wrong."""

    aside: Path
    device: int
    deadline: float | None
    freed: int = 0
    deep: list[Path] = field(default_factory=list)
    error: OSError | None = None

    def expired(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline


def remove_tree(path: Path, aside: Path, *, deadline: float | None = None) -> tuple[int, bool]:
    """Remove `path` and all below it: (bytes given back, whether it is all gone). After `deadline` (time.monotonic) it
    stops where it is. `aside` is a directory of the same file system, for parts that lie too deep to be reached at once.
    StoreError, once all that can go is gone, where something can't be removed."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return 0, True
    if mounts := mounts_below(path):
        raise StoreError(f"{mounts[0]} is a mount: what holds it is not removed", hint=f"run `umount {mounts[0]}`, then try again")
    removal = _Removal(aside, status.st_dev, deadline)
    pending = [path]
    while pending and not removal.expired():
        _remove_top(pending[-1], removal)
        if removal.deep:
            pending.extend(removal.deep)
            removal.deep.clear()
        elif removal.expired() or removal.error:
            break
        else:
            pending.pop()
    if removal.error is not None:
        error = removal.error
        raise StoreError(
            f"{error.filename} can't be removed",
            hint="it may be immutable: `lsattr` shows it, `chattr -i` makes it removable" if error.errno == 1 else None,
            detail=error.strerror,
        )
    return removal.freed, not pending


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


def _remove_top(path: Path, removal: _Removal) -> None:
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        removal.error = removal.error or error
        return
    try:
        _remove_entry(parent, path.name, removal, 0)
    except FileNotFoundError:
        pass
    except OSError as error:
        error.filename = str(path)
        removal.error = removal.error or error
    finally:
        os.close(parent)


def _remove_entry(parent: int, name: str, removal: _Removal, depth: int) -> None:
    status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=parent)
        if status.st_nlink == 1:
            removal.freed += status.st_blocks * _BLOCK
        return
    if status.st_dev != removal.device:
        raise OSError(16, "another file system is mounted here", name)
    if status.st_mode & 0o700 != 0o700:
        _make_passable(parent, name)
    if depth > _MAX_DEPTH:
        aside = removal.aside / f"deep-{os.urandom(8).hex()}"
        os.rename(name, aside, src_dir_fd=parent)
        removal.deep.append(aside)
        return
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        failed = _empty(descriptor, removal, depth)
    finally:
        os.close(descriptor)
    if not failed and not removal.expired():
        os.rmdir(name, dir_fd=parent)
        removal.freed += status.st_blocks * _BLOCK


def _empty(descriptor: int, removal: _Removal, depth: int) -> bool:
    failed = False
    for name in os.listdir(descriptor):
        if removal.expired():
            break
        try:
            _remove_entry(descriptor, name, removal, depth + 1)
        except FileNotFoundError:
            continue  # another process empties the same trash
        except OSError as error:
            failed = True
            if removal.error is None:
                error.filename = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), name)
                removal.error = error
    return failed


def _make_passable(parent: int, name: str) -> None:
    # Through O_PATH, since chmod(2) would follow a symlink and fchmod(2) needs a readable directory.
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    except PermissionError:
        pass  # root in a user namespace needs no mode bits; who does need them fails at the next call, with a name
    finally:
        os.close(handle)
