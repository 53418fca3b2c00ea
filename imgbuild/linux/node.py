"""The status of a name in some tree, as lstat(2) gives it, whatever the tree is made of."""

from __future__ import annotations

import os

from imgbuild.hints import NamedTuple


class Node(NamedTuple):
    """`mode` with the type bits; times in nanoseconds. (`dev`, `ino`) is the same for the names of one file in one tree."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    rdev: int
    nlink: int
    dev: int
    ino: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Node:
        """From what the operating system says."""
        return cls(
            status.st_mode,
            status.st_uid,
            status.st_gid,
            status.st_size,
            status.st_mtime_ns,
            status.st_rdev,
            status.st_nlink,
            status.st_dev,
            status.st_ino,
            status.st_ctime_ns,
        )
