"""Processes of others by descriptor: a pid alone may have been given to somebody else since it was written down."""

from __future__ import annotations

import os
import select

from imgbuild.light import signal
from imgbuild.light.contextlib import suppress

ProcessId = tuple[int, int]
"""A pid and the process's start time, in ticks since boot: together they name one process until the next boot."""


def identify(pid: int) -> ProcessId | None:
    """The process that has this pid now; None where there is none."""
    started = _started(pid)
    return None if started is None else (pid, started)


def open_process(process: ProcessId) -> int | None:
    """A pidfd, the caller's to close, of that very process; None where it is gone."""
    pid, started = process
    try:
        descriptor = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return None
    if _started(pid) == started:
        return descriptor
    os.close(descriptor)
    return None


def send(descriptor: int, number: int) -> bool:
    """Signal the process of a pidfd; False where it has ended."""
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    return True


def wait_ended(descriptor: int, seconds: float | None) -> bool:
    """Wait until the process of a pidfd has ended, at most so long (None: for ever); whether it has."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else max(0, round(seconds * 1000))))


def _started(pid: int) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    return None
