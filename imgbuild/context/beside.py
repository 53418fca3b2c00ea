"""Digests of many small files, several processes reading them: opening, reading and hashing is mostly Python, of which one process does
one thing at a time.

The processes are forked, and so only where there is one thread. They share memory for digests, and a file for contents (`spool`). What one
of them did not do, for whatever reason, is done here, where what is wrong with a file is said.
"""

from __future__ import annotations

import os
from itertools import accumulate, chain
from mmap import mmap

from imgbuild.context.held import Held, Room
from imgbuild.context.laying import MakeArea, Run, digests_here, each, keep, laid_out
from imgbuild.context.spool import Spooled
from imgbuild.context.stats import Files, LoadInto
from imgbuild.hints import Iterator, NoReturn, Sequence
from imgbuild.light import signal, threading
from imgbuild.light.contextlib import suppress

_PROCESSES = 4
_DIGEST = 32
_NUMBER = 4
_FILE_COST = 16 << 10
"""Bytes that are read and hashed in the time that a file takes besides."""
_EACH, _LONGEST, _MOST = 8, 16 << 20, 8 << 10
"""How many shares there are for each process; what one costs at most; but no more of them than that."""


def digests_of_many(groups: Sequence[Files], load: LoadInto, held: Held, processes: int = 0) -> Iterator[bytes]:
    """As `laying.digests_here` of all of them, by so many processes; 0: as many as this machine has processors for."""
    ways = processes or min(_PROCESSES, len(os.sched_getaffinity(0)))
    room, make = _place(held)
    if ways < 2 or threading.active_count() > 1:
        return iter(digests_here(laid_out(groups, room, make), load, held))
    shares = [laid_out(part, room, make) for part in _parts(groups, ways)]
    team = _Team(shares, load)
    try:
        team.start(min(ways, len(shares)) - 1)
        return chain.from_iterable(team.digests(held))
    finally:
        team.end()


def _parts(groups: Sequence[Files], ways: int) -> list[list[Files]]:
    """The files in runs that take about as long, several for each process: whoever has done one takes the next."""
    costs = [sum([_FILE_COST + node.size for _, node in group.files]) for group in groups]
    most = max(min(_LONGEST, sum(costs) // (ways * _EACH) + 1), sum(costs) // _MOST)
    parts: list[list[Files]] = [[]]
    spent = 0
    for (directory, files), cost in zip(groups, costs, strict=True):
        start = 0
        if spent + cost > most:
            for at, (_, node) in enumerate(files):
                if spent >= most:
                    parts[-1].append(Files(directory, files[start:at]))
                    parts.append([])
                    start, spent = at, 0
                spent += _FILE_COST + node.size
        else:
            spent += cost
        parts[-1].append(Files(directory, files[start:]))
    return [part for part in parts if part]


def _place(held: Held) -> tuple[Room, MakeArea]:
    """Where contents are held, and how much of them."""
    try:
        spool = held.spool()
        return spool, spool.filled_by_one()
    except OSError:  # no memory, or too many files
        return Room(0), lambda size: None


class _Team:
    """Processes that each take the next of some shares until there are none. In the memory that they share: for each file its digest, and
    whether it has a capability; for each share, whether another process has done it."""

    def __init__(self, shares: Sequence[Sequence[Run]], load: LoadInto) -> None:
        self._shares = shares
        self._load = load
        self._starts = [0, *accumulate(sum(len(run.files.files) for run in share) for share in shares)]
        self._next = -1
        self._pids: list[int] = []

    def start(self, others: int) -> None:
        """Fork so many processes, or as many as there can be."""
        parent = os.getpid()
        try:
            self._shared = mmap(-1, max(1, self._starts[-1] * (_DIGEST + 1) + len(self._shares)))
            self._next, numbers = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(numbers, False)  # a pipe may be a page; what it can't hold is nobody's share, and done in the end
            with open(numbers, "wb", buffering=0) as stream:
                stream.write(b"".join(number.to_bytes(_NUMBER, "little") for number in range(len(self._shares))))
            while len(self._pids) < others:
                pid = os.fork()
                if not pid:
                    self._help(parent)
                self._pids.append(pid)
        except OSError:  # no memory, or no more processes
            return

    def digests(self, held: Held) -> list[Sequence[bytes]]:
        """The digests of each share's files."""
        found: dict[int, Sequence[bytes]] = {}
        for number in self._numbers():
            found[number] = digests_here(self._shares[number], self._load, held)
        while self._pids:
            os.waitpid(self._pids[-1], 0)
            self._pids.pop()
        return [found.get(number) or self._done(number, held) for number in range(len(self._shares))]

    def end(self) -> None:
        """Leave no process behind."""
        for pid in self._pids:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._pids.clear()
        if self._next >= 0:
            os.close(self._next)
            self._next = -1

    def _numbers(self) -> Iterator[int]:
        """Those of shares that nobody has begun."""
        while self._next >= 0 and (taken := os.read(self._next, _NUMBER)):
            yield int.from_bytes(taken, "little")

    def _done(self, number: int, held: Held) -> Sequence[bytes]:
        """What another process found, or was to find."""
        share, all_files = self._shares[number], self._starts[-1]
        if self._next < 0 or not self._shared[all_files * (_DIGEST + 1) + number]:
            return digests_here(share, self._load, held)
        start, end = self._starts[number : number + 2]
        at = all_files * _DIGEST + start
        for run in share:
            flags = self._shared[at : at + len(run.files.files)]
            if isinstance(run.area, Spooled):
                run.area.filled = True
            keep(run, {number: b"?" for number, flag in enumerate(flags) if flag} if any(flags) else {}, held)
            at += len(flags)
        digests = self._shared[start * _DIGEST : end * _DIGEST]
        return [digests[at : at + _DIGEST] for at in range(0, len(digests), _DIGEST)]

    def _help(self, parent: int) -> NoReturn:
        """What another process does, for as long as somebody waits for it."""
        code = 1
        try:
            for number in self._numbers():
                self._fill(number)
                if os.getppid() != parent:
                    break
            code = 0
        finally:
            os._exit(code)

    def _fill(self, number: int) -> None:
        share, all_files = self._shares[number], self._starts[-1]
        start, end = self._starts[number : number + 2]
        digests: list[bytes] = []
        at = all_files * _DIGEST + start
        for run, capable in zip(share, each(share, self._load, digests), strict=True):
            for file in capable:
                self._shared[at + file] = 1
            at += len(run.files.files)
        if any(run.area is not None and run.area.lost for run in share):
            raise MemoryError
        self._shared[start * _DIGEST : end * _DIGEST] = b"".join(digests)
        self._shared[all_files * (_DIGEST + 1) + number] = 1
