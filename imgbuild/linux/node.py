"""The status of a name in some tree, as lstat(2) gives it, whatever the tree is made of."""

from __future__ import annotations

import os
import stat

from imgbuild.hints import Iterable, Iterator, Literal, NamedTuple
from imgbuild.light.functools import partial
from imgbuild.light.operator import attrgetter

Kind = Literal["file", "dir", "symlink", "char", "block", "fifo", "socket"]
KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
"""What the type bits of a mode are called."""


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

    @classmethod
    def each(cls, statuses: Iterable[os.stat_result]) -> Iterator[Node]:
        """The same for many, in a loop that is not Python's."""
        return map(partial(tuple.__new__, cls), map(_FIELDS, statuses))


_FIELDS = attrgetter(
    *("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_rdev", "st_nlink", "st_dev", "st_ino", "st_ctime_ns"),
)
