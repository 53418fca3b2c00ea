"""Files on their way to the disk."""

from __future__ import annotations

import ctypes

_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None)


def begin_writeback(fd: int) -> None:
    """Let the kernel begin to write what it holds of a file to the disk: nobody waits, and nothing is promised (sync_file_range(2))."""
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
