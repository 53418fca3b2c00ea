"""Digests of many small files by several processes: opening, reading and hashing them is mostly Python, of which one process does one
thing at a time.

The processes are forked, and so only where there is one thread. They share memory for what they found. What one of them did not do,
for whatever reason, is done here, where what is wrong with a file is said.
"""

from __future__ import annotations

import os
from mmap import mmap

from imgbuild.context.held import Held
from imgbuild.context.stats import Files, Load, digests_of, keeping
from imgbuild.hints import Iterator, Sequence
from imgbuild.light import signal, threading
from imgbuild.light.contextlib import suppress

_PROCESSES = 4
_DIGEST = 32
_FILE_COST = 16 << 10
"""Bytes that are read and hashed in the time that a file takes besides."""


def digests_of_many(groups: Sequence[Files], load: Load, held: Held | None, processes: int = 0) -> Iterator[bytes]:
    """As `stats.digests_of`, by so many processes; 0: as many as this machine has processors for."""
    ways = processes or min(_PROCESSES, len(os.sched_getaffinity(0)))
    if ways < 2 or threading.active_count() > 1:
        yield from digests_of(groups, load, keeping(held))
        return
    first, *others = _parts(groups, ways)
    helpers: list[_Helper] = []
    try:
        for part in others:
            helpers.append(_Helper(part, load, held))
        yield from list(digests_of(first, load, keeping(held)))
        for helper in helpers:
            yield from helper.digests(load, held)
    finally:
        for helper in helpers:
            helper.end()


def _parts(groups: Sequence[Files], count: int) -> list[list[Files]]:
    """The files in so many runs that take about as long, each of at least one file if there are enough."""
    total = sum(_FILE_COST + node.size for group in groups for _, node in group.files)
    parts: list[list[Files]] = [[]]
    spent = 0
    for directory, files in groups:
        start = 0
        for at, (_, node) in enumerate(files):
            if spent * count >= total * len(parts) and len(parts) < count:
                parts[-1].append(Files(directory, files[start:at]))
                parts.append([])
                start = at
            spent += _FILE_COST + node.size
        parts[-1].append(Files(directory, files[start:]))
    return [[group for group in part if group.files] for part in parts]


class _Helper:
    """A process that takes the digests of some files. In the area that is shared with it: for each file its digest, and whether its content
    is there; then the contents, if there is room for them."""

    def __init__(self, part: Sequence[Files], load: Load, held: Held | None) -> None:
        self._part = part
        self._nodes = [node for group in part for _, node in group.files]
        count, size = len(self._nodes), sum(node.size for node in self._nodes)
        self._holds = held is not None and held.fits(count, size)
        self._pid = 0
        parent = os.getpid()
        try:
            self._area = mmap(-1, max(1, count * (_DIGEST + 1) + (size if self._holds else 0)))
            self._pid = os.fork()
        except OSError:  # no memory, or no more processes: `digests` does it
            return
        if not self._pid:
            code = 1
            try:
                self._fill(load, parent)
                code = 0
            finally:
                os._exit(code)

    def digests(self, load: Load, held: Held | None) -> Iterator[bytes]:
        """The digests, when the process is done."""
        status = os.waitpid(self._pid, 0)[1] if self._pid else 1
        self._pid = 0
        if status:
            yield from digests_of(self._part, load, keeping(held))
            return
        if held is not None and self._holds:
            self._keep(held)
        for number in range(len(self._nodes)):
            yield self._area[number * _DIGEST : (number + 1) * _DIGEST]

    def end(self) -> None:
        """Leave no process behind."""
        if self._pid:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            self._pid = 0

    def _keep(self, held: Held) -> None:
        count = len(self._nodes)
        there = self._area[count * _DIGEST : count * (_DIGEST + 1)]
        number, at = 0, count * (_DIGEST + 1)
        for directory, files in self._part:
            prefix = "" if directory == "/" else directory
            for name, node in files:
                if there[number]:
                    held.keep_apart(f"{prefix}/{name}", self._area, at, at + node.size)
                number += 1
                at += node.size

    def _fill(self, load: Load, parent: int) -> None:
        """In the process: read and hash, for as long as somebody waits for it."""
        area, count = self._area, len(self._nodes)
        number, at = 0, count * (_DIGEST + 1)

        def keep(path: str, content: tuple[bytes, bytes]) -> None:
            nonlocal at
            data, capability = content
            if not capability:
                area[count * _DIGEST + number] = 1
                area[at : at + len(data)] = data
            at += len(data)

        for digest in digests_of(self._part, load, keep if self._holds else None):
            area[number * _DIGEST : (number + 1) * _DIGEST] = digest
            number += 1
            if os.getppid() != parent:
                return
