"""A place for stores and contexts that is the same for all: XFS on a loop device, made for one run and gone after it.

ext4 with discard makes the creation of files slow for minutes after many were deleted, which would be seen as somebody's speed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

SIZE = 40 << 30
"""Of the file that holds the disk, which has holes where nothing was written."""


class Interrupted(Exception):
    """A signal asks for the end."""


@contextlib.contextmanager
def workspace(chosen: str | None) -> Iterator[tuple[Path, str]]:
    """A directory, and in words what it is on; a `chosen` one is used as it is. Gone at the end, also where a signal brings that about."""
    if chosen:
        with tempfile.TemporaryDirectory(prefix="imgbuild-bench-", dir=chosen, ignore_cleanup_errors=True) as name:
            try:
                yield Path(name), f"the file system of {chosen}"
            finally:
                unmount_below(Path(name))
        return
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        raise SystemExit("needs root and mkfs.xfs (the package xfsprogs), or --store DIRECTORY")
    directory = Path(tempfile.mkdtemp(prefix="imgbuild-bench-"))
    image, mounted = directory / "disk", directory / "mnt"
    try:
        with image.open("wb") as file:
            file.truncate(SIZE)
        mounted.mkdir()
        subprocess.run(["mkfs.xfs", "-q", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(mounted)], check=True)
        yield mounted, "XFS on a loop device"
    finally:
        unmount_below(mounted)
        subprocess.run(["umount", "--lazy", str(mounted)], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Signals that end a program become exceptions, so that everything made is taken away."""

    def end(number: int, _: object) -> None:
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def unmount_below(directory: Path) -> None:
    """Unmount what peers leave in their stores, the last mounted first: one may be mounted on another."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        places = [line.split()[1] for line in file]
    for place in reversed([place for place in places if place.startswith(f"{directory}/")]):
        subprocess.run(["umount", "--lazy", place], check=False)
