"""Contents of many small files on their way from their digests to their copy: in a file, which nobody else sees.

Memory that was not used before is dear, in a virtual machine above all, where its host has to find it, too. So what is read goes through
one piece of memory, again and again, into a file's cached pages, which are had in large pieces and are not zeroed first; and comes out of
them through a few others. The file has no name, and is gone with whoever has it open. Most of it never reaches a disk.
"""

from __future__ import annotations

import errno
import os
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from imgbuild.context.held import Area, Room
from imgbuild.hints import Callable
from imgbuild.light import threading
from imgbuild.light.contextlib import suppress

_ZEROS = bytes(64 << 10)
_ON_DISK = 1 << 30
_SHARE_OF_DISK = 8
_PIECE = 1 << 20
"""The least bytes of memory that are had at once."""


class Spool:
    """Areas of one file, one behind the other: below `directory`, where that can be, or else in `memory`. `room` is what is left of it.
    OSError where there is no such file. Several threads may fill areas, but one at a time may read."""

    def __init__(self, directory: str | None, memory: Room) -> None:
        self._file, self.room = _opened(directory, memory)
        self._end = 0
        self._mutex = threading.Lock()
        self._pieces: list[mmap] = []

    def filled_by_one(self) -> Callable[[int], Spooled]:
        """What makes areas of so many bytes, of which a process fills one after the other."""
        scratch: list[mmap] = []

        def filling(size: int) -> memoryview:
            if not scratch or len(scratch[0]) < size:
                scratch[:] = [_memory(size)]
            view = memoryview(scratch[0])[:size]
            for at in range(0, size, len(_ZEROS)):
                view[at : at + len(_ZEROS)] = _ZEROS[: size - at]
            return view

        return lambda size: self._area(size, filling)

    def write(self, data: memoryview, at: int) -> None:
        """Put what was filled where it belongs."""
        while data:
            written = os.pwrite(self._file, data, at)
            data, at = data[written:], at + written

    def read(self, start: int, end: int) -> memoryview:
        """What is there, to be written to as well: its memory is used again once nobody sees it any more. OSError where it is not."""
        view = memoryview(self._unused(end - start))[: end - start]
        at = 0
        while at < len(view):
            more = os.preadv(self._file, (view[at:],), start + at)
            if not more:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            at += more
        return view

    def close(self) -> None:
        """Let go of the file; nothing is asked of it after that."""
        os.close(self._file)

    def _area(self, size: int, filling: Callable[[int], memoryview]) -> Spooled:
        with self._mutex:
            start, self._end = self._end, self._end + size
        return Spooled(self, start, size, filling)

    def _unused(self, size: int) -> mmap:
        for piece in self._pieces:
            if len(piece) >= size and _is_unseen(piece):
                return piece
        self._pieces.append(_memory(size))
        return self._pieces[-1]


class Spooled(Area):
    """An area of a spool. Whoever has filled it, may be another process: then `filled` has to be said."""

    def __init__(self, spool: Spool, start: int, size: int, filling: Callable[[int], memoryview]) -> None:
        super().__init__(size, filling, spool.room)
        self._spool = spool
        self._start = start
        self.filled = False

    def complete(self) -> None:
        view, self._view = self._view, None
        if view is None:
            return
        try:
            self._spool.write(view, self._start)
            self.filled = True
        except OSError:  # no space
            self.lost = True

    def part(self, start: int, end: int) -> memoryview | None:
        if self.filled:
            with suppress(OSError, MemoryError):
                return self._spool.read(self._start + start, self._start + end)
        return None


class _Disk(Room):
    """Room of a file that is not made shorter by what is taken from it."""

    def release(self, size: int) -> None:
        pass


def _opened(directory: str | None, memory: Room) -> tuple[int, Room]:
    if directory is not None:
        with suppress(OSError):
            file = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
            disk = os.fstatvfs(file)
            return file, _Disk(min(_ON_DISK, disk.f_bavail * disk.f_frsize // _SHARE_OF_DISK))
    return os.memfd_create("imgbuild-files", os.MFD_CLOEXEC), memory


def _memory(size: int) -> mmap:
    return mmap(-1, max(size, _PIECE), flags=MAP_PRIVATE | MAP_ANONYMOUS)


def _is_unseen(piece: mmap) -> bool:
    """Whether nobody has a view of it any more: only then its size may be changed, be it to what it is."""
    try:
        piece.resize(len(piece))
    except BufferError:
        return False
    return True
