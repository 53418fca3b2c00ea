"""Contents of small files on their way from the digest for a step's key to the layer that the step stores: bytes are read once.

They lie as a layer has them: before each there is room for a header, and behind it are zeros up to the next block. So what was read is
what is written, without a copy of it in between.
"""

from __future__ import annotations

import errno
import os

from imgbuild.hints import TYPE_CHECKING, Callable, Iterator, Mapping, NamedTuple, Sequence
from imgbuild.light import threading
from imgbuild.linux.node import Node

if TYPE_CHECKING:
    from imgbuild.context.spool import Spool

SMALL = 64 << 10
"""The largest file that is read as a whole."""
ROOM = 512
"""Bytes before each content, and what it is filled up to a multiple of."""

_MOST = 128 << 20
_ELSEWHERE = 1000
"""What a file takes in the plan of a copy, in its layer's index, among the digests and here, beside its bytes."""


class Laid(NamedTuple):
    """Some files of the directory at a real path, as they follow each other in `data`. A `capability` is that of the only one."""

    directory: str
    files: Sequence[tuple[str, Node]]
    data: memoryview
    capability: bytes = b""


class Room:
    """How many bytes more may be held in one place: `left`."""

    def __init__(self, left: int) -> None:
        self.left = left

    def claim(self, size: int) -> bool:
        """Take so many of them, if they are there."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def release(self, size: int) -> None:
        """Give so many back."""
        self.left += size


class Area:
    """Memory for so many bytes of files, zeros at first: had when it is first asked for. `lost` where there is none. What lies in it was
    claimed of `room`, and is given back to it."""

    def __init__(self, size: int, memory: Callable[[int], memoryview], room: Room) -> None:
        self.room = room
        self._size = size
        self._memory = memory
        self._view: memoryview | None = None
        self.lost = False

    def view(self) -> memoryview | None:
        """All of it, to be filled; None where there is no memory."""
        if self._view is None and not self.lost:
            try:
                self._view = self._memory(self._size)
            except (OSError, MemoryError):
                self.lost = True
        return self._view

    def complete(self) -> None:
        """It is filled, and will only be asked for parts from now on."""

    def part(self, start: int, end: int) -> memoryview | None:
        """What lies from here to there; None where that is not to be had any more."""
        view = self.view()
        return None if view is None else view[start:end]


class _Kept(NamedTuple):
    """Files, and from where to where they lie in an area."""

    files: Sequence[tuple[str, Node]]
    area: Area
    start: int
    end: int


class Held:
    """Runs of files with their bytes. What there is no room for is read again. Several threads may take.

    The bytes of few files are in `memory`, `most` of them in all; those of many in a `spool`, a file below `directory`, where there is one.
    """

    def __init__(self, most: int = _MOST, directory: str | None = None) -> None:
        self.memory = Room(most)
        self._directory = directory
        self._spool: Spool | None = None
        self._closed = False
        self._runs: dict[str, list[_Kept]] = {}
        self._single: dict[str, dict[str, _Kept]] = {}
        self._mutex = threading.Lock()

    def spool(self) -> Spool:
        """Where the bytes of many files are kept. OSError where there is no such place."""
        from imgbuild.context.spool import Spool  # here, since most builds read few files

        with self._mutex:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if self._spool is None:
                self._spool = Spool(self._directory, self.memory)
            return self._spool

    def expect(self, files: int) -> None:
        """So many more files are known: what is remembered of each takes from the same memory."""
        self.memory.left = max(0, self.memory.left - _ELSEWHERE * files)

    def keep(self, directory: str, files: Sequence[tuple[str, Node]], area: Area, start: int, end: int) -> None:
        """Keep a run that lies there, for which room was claimed."""
        self._runs.setdefault(directory, []).append(_Kept(files, area, start, end))

    def has(self, directory: str) -> bool:
        """Whether anything of a directory is held."""
        return directory in self._runs or directory in self._single

    def take(self, directory: str, files: Sequence[tuple[str, Node]]) -> Laid | None:
        """The longest run that begins as `files` do, given up to the caller; None where the first of them is not held, or for itself."""
        with self._mutex:
            runs = self._runs.get(directory, [])
            number, count = next(((number, count) for number, kept in enumerate(runs) if (count := _alike(kept.files, files))), (0, 0))
            if not count:
                return None
            known, area, start, end = runs.pop(number)
            if count < len(known):
                cut = start + sum(space(node.size) for _, node in known[:count])
                runs.insert(number, _Kept(known[count:], area, cut, end))
                end = cut
            if not runs:
                del self._runs[directory]
            data = area.part(start, end)
            self._release(area, end - start)
            return None if data is None else Laid(directory, known[:count], data)

    def take_one(self, directory: str, name: str) -> bytes | None:
        """The bytes of one file, given up to the caller."""
        with self._mutex:
            for files, area, start, _ in self._runs.pop(directory, ()):
                single = self._single.setdefault(directory, {})
                for file in files:
                    end = start + space(file[1].size)
                    single[file[0]] = _Kept((file,), area, start, end)
                    start = end
            found = self._single.get(directory, {}).pop(name, None)
            if found is None:
                return None
            ((_, node),), area, start, end = found
            data = area.part(start + ROOM, start + ROOM + node.size)
            content = None if data is None else bytes(data)
            self._release(area, end - start)
            return content

    def _release(self, area: Area, size: int) -> None:
        area.room.release(size)
        if self._spool is not None and self._spool.is_empty:
            self._end_spool()

    def _end_spool(self) -> None:
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    def close(self) -> None:
        """Let go of all that nobody took."""
        with self._mutex:
            self._runs.clear()
            self._single.clear()
            self._closed = True
            self._end_spool()


def space(size: int) -> int:
    """The bytes that a file of this size takes, with the room before it."""
    return (size + 2 * ROOM - 1) & -ROOM


def _alike(some: Sequence[tuple[str, Node]], others: Sequence[tuple[str, Node]]) -> int:
    """How many files both begin with."""
    most = min(len(some), len(others))
    if some[:most] == others[:most]:
        return most
    return next(at for at in range(most) if some[at] != others[at])


def parted(files: Sequence[tuple[str, Node]], capable: Mapping[int, bytes]) -> Iterator[tuple[int, int, int, int, bytes]]:
    """A run without the files that have a capability, by their numbers, and each of these for itself, with that: the first file of each,
    the one behind the last, and from where to where they lie."""
    first = start = 0
    for number, capability in sorted(capable.items()):
        here = start + sum(space(node.size) for _, node in files[first:number])
        end = here + space(files[number][1].size)
        if number > first:
            yield first, number, start, here, b""
        yield number, number + 1, here, end, capability
        first, start = number + 1, end
    if first < len(files):
        yield first, len(files), start, start + sum([space(node.size) for _, node in files[first:]]), b""
