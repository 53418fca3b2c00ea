"""Reads small files of a local tree to where they belong in a layer, and hashes them: runs of files, each with its place in memory."""

from __future__ import annotations

from imgbuild.context.held import Area, Held, Room, parted, space
from imgbuild.context.stats import Files, LoadInto, hashing
from imgbuild.hints import Callable, Iterator, NamedTuple, Sequence

AREA = 1 << 20
"""Bytes of files that lie in one piece of memory: few enough for a processor to have them at hand."""

MakeArea = Callable[[int], Area | None]
"""An area of so many bytes; None where there is none."""


class Run(NamedTuple):
    """Files of a directory, and where they are read to: without an area, to where nobody holds them."""

    files: Files
    size: int
    area: Area | None
    at: int


def laid_out(part: Sequence[Files], room: Room, make: MakeArea) -> list[Run]:
    """The files in runs, each with its place, as far as there is room."""
    together: list[list[tuple[Files, int]]] = [[]]
    used = 0
    for files, size in _runs(part):
        if used and used + size > AREA:
            together.append([])
            used = 0
        together[-1].append((files, size))
        used += size
    return [run for runs in together for run in _placed(runs, room, make)]


def digests_here(runs: Sequence[Run], load: LoadInto, held: Held) -> list[bytes]:
    """Read and hash here."""
    digests: list[bytes] = []
    for run, capable in zip(runs, list(each(runs, load, digests)), strict=True):
        if run.area is not None and run.area.lost:
            run.area.room.release(run.size)
        else:
            keep(run, capable, held)
    return digests


def each(runs: Sequence[Run], load: LoadInto, digests: list[bytes]) -> Iterator[dict[int, bytes]]:
    """For each run, once its digests are appended: the capabilities of those files that have one, by their numbers in it."""
    hashed = hashing(sum(len(run.files.files) for run in runs))
    scratch = memoryview(b"")
    before: Area | None = None
    for (directory, files), size, area, at in runs:
        if area is not None and area is not before:
            if before is not None:
                before.complete()
            before = area
        view = area.view() if area is not None else None
        if view is None and len(scratch) < size:
            scratch = memoryview(bytearray(size))
        room = scratch if view is None else view[at : at + size]
        capable: dict[int, bytes] = {}
        start = len(digests)
        for content, capability in load(directory, files, room):
            digest = hashed(content).digest()
            if capability:
                capable[len(digests) - start] = capability
                digest = hashed(digest + capability).digest()
            digests.append(digest)
        yield capable
    if before is not None:
        before.complete()


def keep(run: Run, capable: dict[int, bytes], held: Held) -> None:
    """Hold what was read; what has a capability is read again."""
    if run.area is None:
        return
    if not capable:
        held.keep(*run.files, run.area, run.at, run.at + run.size)
        return
    for first, last, start, end, capability in parted(run.files.files, capable):
        if capability:
            run.area.room.release(end - start)
        else:
            held.keep(run.files.directory, run.files.files[first:last], run.area, run.at + start, run.at + end)


def _runs(part: Sequence[Files]) -> Iterator[tuple[Files, int]]:
    """The files, no more of them together than fit into an area, with their size there."""
    for directory, files in part:
        whole = sum([space(node.size) for _, node in files])
        if whole <= AREA:
            yield Files(directory, files), whole
            continue
        start = size = 0
        for at, (_, node) in enumerate(files):
            more = space(node.size)
            if size + more > AREA:
                yield Files(directory, files[start:at]), size
                start, size = at, 0
            size += more
        yield Files(directory, files[start:]), size


def _placed(runs: Sequence[tuple[Files, int]], room: Room, make: MakeArea) -> list[Run]:
    """What lies in one area, as far as there is room for it."""
    claimed = [(files, size, room.claim(size)) for files, size in runs]
    total = sum(size for _, size, fits in claimed if fits)
    area = make(total) if total else None
    placed, at = [], 0
    for files, size, fits in claimed:
        if fits and area is None:
            room.release(size)
        placed.append(Run(files, size, area if fits else None, at))
        at += size if fits else 0
    return placed
