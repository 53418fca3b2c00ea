"""Digests of many small files, several processes reading them: opening, reading and hashing is mostly Python, of which one process does
one thing at a time.

The processes are forked, and so only where there is one thread. They share memory for what they found. What one of them did not do,
for whatever reason, is done here, where what is wrong with a file is said.
"""

from __future__ import annotations

import os
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from imgbuild.context.held import Held
from imgbuild.context.laying import Run, digests_here, each, keep, laid_out
from imgbuild.context.stats import Files, LoadInto
from imgbuild.hints import Iterator, Sequence
from imgbuild.light import signal, threading
from imgbuild.light.contextlib import suppress

_PROCESSES = 4
_DIGEST = 32
_FILE_COST = 16 << 10
"""Bytes that are read and hashed in the time that a file takes besides."""
_HUGE_PAGE = 2 << 20
_HUGE_PAGES = 14
"""MADV_HUGEPAGE: memory of which all is used is had in fewer pieces."""


def digests_of_many(groups: Sequence[Files], load: LoadInto, held: Held, processes: int = 0) -> Iterator[bytes]:
    """As `laying.digests_here` of all of them, by so many processes; 0: as many as this machine has processors for."""
    ways = processes or min(_PROCESSES, len(os.sched_getaffinity(0)))
    if threading.active_count() > 1:
        ways = 1
    first, *others = [laid_out(part, held, _shared if number else _own) for number, part in enumerate(_parts(groups, ways))]
    helpers: list[_Helper] = []
    try:
        for part in others:
            helpers.append(_Helper(part, load))
        yield from digests_here(first, load, held)
        for helper in helpers:
            yield from helper.digests(load, held)
    finally:
        for helper in helpers:
            helper.end()


def _parts(groups: Sequence[Files], count: int) -> list[list[Files]]:
    """The files in so many runs that take about as long, each of at least one file if there are enough."""
    if count == 1:
        return [list(groups)]
    costs = [sum([_FILE_COST + node.size for _, node in group.files]) for group in groups]
    total, spent = sum(costs), 0
    parts: list[list[Files]] = [[]]
    for (directory, files), cost in zip(groups, costs, strict=True):
        if (spent + cost) * count < total * len(parts) or len(parts) == count:
            spent += cost
            parts[-1].append(Files(directory, files))
            continue
        start = 0
        for at, (_, node) in enumerate(files):
            if spent * count >= total * len(parts) and len(parts) < count:
                parts[-1].append(Files(directory, files[start:at]))
                parts.append([])
                start = at
            spent += _FILE_COST + node.size
        parts[-1].append(Files(directory, files[start:]))
    return [[group for group in part if group.files] for part in parts]


def _shared(size: int) -> memoryview | None:
    """Memory that a forked process shares."""
    try:
        return memoryview(mmap(-1, size))[:size]
    except OSError:  # no memory
        return None


def _own(size: int) -> memoryview | None:
    """Memory of this process."""
    whole = (size + _HUGE_PAGE - 1) & -_HUGE_PAGE if size >= _HUGE_PAGE else size
    try:
        area = mmap(-1, whole, flags=MAP_PRIVATE | MAP_ANONYMOUS)
    except OSError:
        return None
    with suppress(OSError):  # not every kernel has them
        area.madvise(_HUGE_PAGES)
    return memoryview(area)[:size]


class _Helper:
    """A process that takes the digests of some files. In the area that is shared with it: for each file its digest, and whether it has a
    capability. The contents are where they were meant to be."""

    def __init__(self, runs: Sequence[Run], load: LoadInto) -> None:
        self._runs = runs
        self._count = sum(len(run.files.files) for run in runs)
        self._pid = 0
        parent = os.getpid()
        try:
            self._area = mmap(-1, max(1, self._count * (_DIGEST + 1)))
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

    def digests(self, load: LoadInto, held: Held) -> Sequence[bytes]:
        """The digests, when the process is done."""
        status = os.waitpid(self._pid, 0)[1] if self._pid else 1
        self._pid = 0
        if status:
            return digests_here(self._runs, load, held)
        found, end = self._area[: self._count * (_DIGEST + 1)], self._count * _DIGEST
        at = end
        for run in self._runs:
            flags = found[at : at + len(run.files.files)]
            keep(run, {number: b"?" for number, flag in enumerate(flags) if flag} if any(flags) else {}, held)
            at += len(flags)
        return [found[at : at + _DIGEST] for at in range(0, end, _DIGEST)]

    def end(self) -> None:
        """Leave no process behind."""
        if self._pid:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            self._pid = 0

    def _fill(self, load: LoadInto, parent: int) -> None:
        """In the process: read and hash, for as long as somebody waits for it."""
        digests: list[bytes] = []
        at = self._count * _DIGEST
        for run, capable in zip(self._runs, each(self._runs, load, digests), strict=True):
            for number in capable:
                self._area[at + number] = 1
            at += len(run.files.files)
            if os.getppid() != parent:
                return
        self._area[: self._count * _DIGEST] = b"".join(digests)
