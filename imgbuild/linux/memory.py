"""A directory in memory that only this process and its children see, and that is gone with the last of them, however they end."""

from __future__ import annotations

import os

from imgbuild.hints import Iterator
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.linux import syscalls


@contextmanager
def in_memory(place: Path, size: int) -> Iterator[Path]:
    """A tmpfs of `size` bytes at the directory `place`, in a mount namespace that this process enters for that, and stays in. To be called
    before there are threads. OSError where that is not allowed."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    # What is unmounted elsewhere meanwhile is not held here; what is mounted here is not seen there.
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    # No nodev: what a step makes there is only ever seen through its own mount.
    syscalls.mount("imgbuild", place, "tmpfs", syscalls.MS_NOSUID, f"mode=0700,size={size}")
    try:
        yield place
    finally:
        with suppress(OSError):
            syscalls.umount2(place, syscalls.MNT_DETACH)


def is_full(place: Path) -> bool:
    """Whether next to nothing can be written to its file system any more."""
    free = os.statvfs(place)
    return free.f_bavail * free.f_frsize < 1 << 20 or free.f_favail == 0
