"""Contents of small files on their way from the digest for a step's key to the layer that the step stores: bytes are read once.

They lie as a layer has them: before each there is room for a header, and behind it are zeros up to the next block. So what was read is
what is written, without a copy of it in between.
"""

from __future__ import annotations

from itertools import accumulate

from imgbuild.hints import Iterator, Mapping, NamedTuple, Sequence
from imgbuild.light import threading
from imgbuild.linux.node import Node

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


class Held:
    """Runs of files with their bytes, of at most `most` bytes in all. What does not fit is read again. Several threads may take."""

    def __init__(self, most: int = _MOST) -> None:
        self._runs: dict[str, list[Laid]] = {}
        self._single: dict[str, dict[str, memoryview]] = {}
        self._mutex = threading.Lock()
        self.room = most

    def expect(self, files: int) -> None:
        """So many more files are known: what is remembered of each takes from the same memory."""
        self.room = max(0, self.room - _ELSEWHERE * files)

    def claim(self, size: int) -> bool:
        """Take room for a run of so many bytes, if it is there."""
        if size > self.room:
            return False
        self.room -= size
        return True

    def keep(self, laid: Laid) -> None:
        """Keep a run, for which room was claimed."""
        self._runs.setdefault(laid.directory, []).append(laid)

    def release(self, size: int) -> None:
        """Give back what was claimed for a run that is not kept, or not any more."""
        self.room += size

    def has(self, directory: str) -> bool:
        """Whether anything of a directory is held."""
        return directory in self._runs or directory in self._single

    def take(self, directory: str, files: Sequence[tuple[str, Node]]) -> Laid | None:
        """The longest run that begins as `files` do, given up to the caller; None where the first of them is not held, or for itself."""
        with self._mutex:
            runs = self._runs.get(directory, [])
            number, count = next(((number, count) for number, laid in enumerate(runs) if (count := _alike(laid.files, files))), (0, 0))
            if not count:
                return None
            laid = runs[number]
            end = len(laid.data)
            if count < len(laid.files):
                end = sum(space(node.size) for _, node in laid.files[:count])
                runs[number] = Laid(directory, laid.files[count:], laid.data[end:])
            else:
                del runs[number]
            if not runs:
                del self._runs[directory]
            self.room += end
            return Laid(directory, laid.files[:count], laid.data[:end])

    def take_one(self, directory: str, name: str) -> bytes | None:
        """The bytes of one file, given up to the caller."""
        with self._mutex:
            for laid in self._runs.pop(directory, ()):
                single = self._single.setdefault(directory, {})
                ends = accumulate(space(node.size) for _, node in laid.files)
                for (known, node), end in zip(laid.files, ends, strict=True):
                    start = end - space(node.size) + ROOM
                    single[known] = laid.data[start : start + node.size]
            found = self._single.get(directory, {}).pop(name, None)
            if found is None:
                return None
            self.room += space(len(found))
            return bytes(found)


def space(size: int) -> int:
    """The bytes that a file of this size takes, with the room before it."""
    return (size + 2 * ROOM - 1) & -ROOM


def _alike(some: Sequence[tuple[str, Node]], others: Sequence[tuple[str, Node]]) -> int:
    """How many files both begin with."""
    most = min(len(some), len(others))
    if some[:most] == others[:most]:
        return most
    return next(at for at in range(most) if some[at] != others[at])


def parted(laid: Laid, capable: Mapping[int, bytes]) -> Iterator[Laid]:
    """A run without the files that have a capability, by their numbers, and each of these for itself."""
    directory, files, data, _ = laid
    first = start = 0
    for number, capability in sorted(capable.items()):
        here = start + sum(space(node.size) for _, node in files[first:number])
        end = here + space(files[number][1].size)
        if number > first:
            yield Laid(directory, files[first:number], data[start:here])
        yield Laid(directory, files[number : number + 1], data[here:end], capability)
        first, start = number + 1, end
    if first < len(files):
        yield Laid(directory, files[first:], data[start:])
