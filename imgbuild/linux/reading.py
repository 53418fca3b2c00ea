"""Reading a small file as a whole."""

from __future__ import annotations

import os


def read_and_close(fd: int, size: int) -> bytes:
    """As `read_at_most`, of a descriptor that nobody else needs."""
    try:
        return read_at_most(fd, size)
    finally:
        os.close(fd)


def read_at_most(fd: int, size: int) -> bytes:
    """The bytes of an open file from where it stands, but no more than `size`."""
    data = os.read(fd, size)
    # A regular file ends with the first short read on most file systems, but not on all; one that was read in full is not asked again.
    while len(data) < size - 1 and (more := os.read(fd, size - len(data))):
        data += more
    return data
