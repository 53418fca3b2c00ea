"""Removing trees that hold anything: what a container wrote, with any mode, depth or link.

Never follows a symlink, never descends into a mount. What can go goes; the first thing that can't is told.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from imgbuild.light.contextlib import suppress
from imgbuild.linux.descent import Descent
from imgbuild.values import dataclass, field

_BLOCK = 512
_ALL = 0o700


@dataclass(slots=True)
class Removed:
    """What came of it: bytes given back, whether all is gone, and what went wrong first."""

    freed: int = 0
    finished: bool = True
    error: OSError | None = None

    def failed(self, error: OSError, filename: str) -> None:
        """Note an error."""
        self.finished = False
        if self.error is None:
            error.filename = filename
            self.error = error


@dataclass(slots=True)
class _Level:
    """A directory on the way: its name and size, what is left in it to be removed, and whether something stays."""

    name: str
    allocated: int
    names: list[str] = field(default_factory=list)
    stays: bool = False


def remove_below(parent: int, name: str, *, deadline: float | None = None) -> Removed:
    """Remove `name` in the directory `parent`, and all below it. After `deadline` (time.monotonic) it stops where it is. Not being
    there is fine: several may remove the same tree."""
    removed = Removed()
    try:
        device = os.stat(name, dir_fd=parent, follow_symlinks=False).st_dev
    except FileNotFoundError:
        return removed
    levels = [_Level("", 0, [name])]
    with Descent(parent) as here:
        while levels:
            level = levels[-1]
            if deadline is not None and time.monotonic() >= deadline:
                removed.finished = False
                break
            if level.names:
                entry = level.names.pop()
                try:
                    if (below := _enter_or_unlink(here, entry, device, removed)) is not None:
                        levels.append(below)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    level.stays = True
                    removed.failed(error, _path(here.fd, entry))
                continue
            levels.pop()
            if levels:
                here.up()
                _leave(here, level, levels[-1], removed)
    return removed


def _enter_or_unlink(here: Descent, name: str, device: int, removed: Removed) -> _Level | None:
    """Remove what is no directory; go into what is one."""
    status = os.stat(name, dir_fd=here.fd, follow_symlinks=False)
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=here.fd)
        if status.st_nlink == 1:
            removed.freed += status.st_blocks * _BLOCK
        return None
    if status.st_dev != device:
        raise OSError(errno.EBUSY, "another file system is mounted here")
    if status.st_mode & _ALL != _ALL:
        _make_passable(here.fd, name)
    here.down(name)
    try:
        names = os.listdir(here.fd)
    except OSError:
        here.up()
        raise
    return _Level(name, status.st_blocks * _BLOCK, names)


def _leave(here: Descent, level: _Level, above: _Level, removed: Removed) -> None:
    """Remove a directory that was emptied."""
    if level.stays:
        above.stays = True
        return
    try:
        os.rmdir(level.name, dir_fd=here.fd)
        removed.freed += level.allocated
    except FileNotFoundError:
        pass
    except OSError as error:
        above.stays = True
        removed.failed(error, _path(here.fd, level.name))


def _make_passable(parent: int, name: str) -> None:
    # Through O_PATH, since chmod(2) would follow a symlink and fchmod(2) needs a readable directory.
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        # Root in a user namespace needs no mode bits; who does need them fails at the next call, with a name.
        with suppress(PermissionError):
            os.chmod(f"/proc/self/fd/{handle}", _ALL)
    finally:
        os.close(handle)


def _path(directory: int, name: str) -> str:
    """Where that is, for a person; of what lies too deep, the name alone."""
    try:
        return os.path.join(os.readlink(f"/proc/self/fd/{directory}"), name)
    except OSError:
        return name
