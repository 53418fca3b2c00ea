"""Mounts of lowers that several sandboxes of a zygote stand on, made once and handed to each of them.

A file system that is made anew reads everything anew, if only from the page cache of the file that it lies in, and takes what it has read
with it when it goes. So what one step has read of its base, the next finds where it was.
"""

from __future__ import annotations

import os

from imgbuild.linux.mounts import Bind, Filesystem, open_mount

_MOST = 64
"""Descriptors go along with each order, and those of one message are limited (SCM_MAX_FD, 253)."""


class MountedLowers:
    """The lowers that one zygote has mounted."""

    def __init__(self) -> None:
        self._mounts: dict[Filesystem, int] = {}

    def of(self, root: Filesystem | Bind, *, again: bool) -> tuple[int, ...]:
        """Descriptors, which stay ours, of the first of the mounts that `root` is made of: of those that are there, and where it will be
        asked for them `again`, of those that can be. Who gets them makes the others, and says what is wrong with one."""
        wanted = mounts_of(root)[:_MOST]
        if len(self._mounts.keys() | set(wanted)) > _MOST:
            self._let_go(set(self._mounts) - set(wanted))
        found: list[int] = []
        for each in wanted:
            if each not in self._mounts:
                if not again:
                    break
                try:
                    self._mounts[each] = open_mount(each)
                except OSError:
                    break
            found.append(self._mounts[each])
        return tuple(found)

    def _let_go(self, unwanted: set[Filesystem]) -> None:
        for each in unwanted:
            os.close(self._mounts.pop(each))


def mounts_of(root: Filesystem | Bind) -> list[Filesystem]:
    """The mounts that a root is made of, in their order."""
    return [value for _, value in root.options if isinstance(value, Filesystem)] if isinstance(root, Filesystem) else []
