"""Contents of many small files on their way from their digests to their copy: in a file, which nobody else sees.

Memory that was not used before is dear, in a virtual machine above all, where its host has to find it, too. So what is read goes through
one piece of memory, again and again, into a file's cached pages, which are had in large pieces and are not zeroed first; and comes out of
them through a few others. The file has no name, and is gone with whoever has it open. Hardly anything of it reaches a disk.
"""

from __future__ import annotations

import errno
import os
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from imgbuild.context.held import Area, Room
from imgbuild.hints import Callable
from imgbuild.light import threading
from imgbuild.light.contextlib import suppress
from imgbuild.linux.writing import has_failed

_ZEROS = bytes(64 << 10)
_ON_DISK = 256 << 20
_SHARE_OF_DISK = 16
_PIECE = 1 << 20
"""Bytes of memory that are had at once, for what is read."""


class Spool(Room):
    """Areas of one file, one behind the other: below `directory`, where there is enough space, or else in memory, as much as `memory` has
    left. OSError where there is no such file. Any thread may do anything, but of what is read one thread at a time gets a view."""

    def __init__(self, directory: str | None, memory: Room) -> None:
        self._file, left = _opened(directory, memory)
        super().__init__(left)
        self._mutex = threading.Lock()
        self._end = 0
        self._claimed = 0
        self._pieces: list[mmap] = []
        self._piece, self._at = self._another(), 0
        self.open: Spooled | None = None
        """The area that was read as a whole."""

    def claim(self, size: int) -> bool:
        with self._mutex:
            fits = super().claim(size)
            self._claimed += size if fits else 0
            return fits

    def release(self, size: int) -> None:
        """As of any room; but a file is not made shorter by what is taken from it."""
        with self._mutex:
            self._claimed -= size

    @property
    def is_empty(self) -> bool:
        """Whether nothing of it is held any more."""
        return self._claimed == 0

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
        """Put what was filled where it belongs. OSError where that can't be, as once it is closed."""
        with self._mutex:
            while data:
                written = os.pwrite(self._file, data, at)
                data, at = data[written:], at + written

    def read(self, start: int, end: int) -> memoryview:
        """What is there, to be written to as well: its memory is used again once nobody sees it any more. OSError where it is not."""
        with self._mutex:
            view = self._unseen(end - start)
            at = 0
            while at < len(view):
                more = os.preadv(self._file, (view[at:],), start + at)
                if not more:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                at += more
            # What could not be brought to the disk is not in memory any more either, and reads as zeros. It is said once.
            if has_failed(self._file):
                os.close(self._file)
                self._file = -1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return view

    def close(self) -> None:
        """Let go of the file: nothing is in it any more."""
        with self._mutex:
            file, self._file = self._file, -1
            if file >= 0:
                os.close(file)

    def _area(self, size: int, filling: Callable[[int], memoryview]) -> Spooled:
        with self._mutex:
            start, self._end = self._end, self._end + size
        return Spooled(self, start, size, filling)

    def _unseen(self, size: int) -> memoryview:
        """Memory behind what was read last, else in the first piece of which nobody sees anything, as that is the likeliest to be in the
        processor's cache, else in a new one. There are as many of them as bytes are under way."""
        if size > _PIECE:
            return memoryview(_memory(size))
        if self._at + size > _PIECE:
            self._piece, self._at = next(filter(_is_unseen, self._pieces), None) or self._another(), 0
        start, self._at = self._at, self._at + size
        return memoryview(self._piece)[start : self._at]

    def _another(self) -> mmap:
        self._pieces.append(_memory(_PIECE))
        return self._pieces[-1]


class Spooled(Area):
    """An area of a spool. Whoever has filled it, may be another process: then `filled` has to be said."""

    def __init__(self, spool: Spool, start: int, size: int, filling: Callable[[int], memoryview]) -> None:
        super().__init__(size, filling, spool)
        self._spool = spool
        self._start = start
        self._left = size
        self._begun = False
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
        if not self.filled:
            return None
        try:
            if not self._begun:
                self._open()
            if self._view is None:
                return self._spool.read(self._start + start, self._start + end)
        except (OSError, MemoryError):
            return None
        data = self._view[start:end]
        self._left -= len(data)
        if not self._left:
            self._view = self._spool.open = None
        return data

    def _open(self) -> None:
        """Read all of it, as who asks for some of it mostly wants the rest after that. Only one at a time is held so, and each once."""
        self._begun = True
        if self._spool.open is not None:
            self._spool.open._view = None
        self._view = self._spool.read(self._start, self._start + self._size)
        self._spool.open = self


def _opened(directory: str | None, memory: Room) -> tuple[int, int]:
    """A file, and how long it may become."""
    if directory is not None:
        with suppress(OSError):
            file = os.open(directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
            disk = os.fstatvfs(file)
            room = min(_ON_DISK, disk.f_bavail * disk.f_frsize // _SHARE_OF_DISK)
            if room > memory.left:
                return file, room
            os.close(file)
    return os.memfd_create("imgbuild-files", os.MFD_CLOEXEC), memory.left


def _memory(size: int) -> mmap:
    return mmap(-1, size, flags=MAP_PRIVATE | MAP_ANONYMOUS)


def _is_unseen(piece: mmap) -> bool:
    """Whether nobody has a view of it any more: only then its size may be changed, be it to what it is."""
    try:
        piece.resize(len(piece))
    except BufferError:
        return False
    return True
