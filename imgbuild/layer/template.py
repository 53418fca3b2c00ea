"""Headers of many files that share all but their names and sizes: the bytes that `tar.TarWriter` writes, of ready-made parts."""

from __future__ import annotations

import struct
from zlib import adler32

from imgbuild.layer.tar import BLOCK, TarEntry, TarWriter

_NAME, _SIZE, _MTIME, _CHECKSUM, _FLAG = 100, 124, 136, 148, 156
_SIZES = 8**11
_PARTS = struct.Struct("100s24s12s12s8s356s")


class FileTemplate:
    """The headers of regular files like `like`, which has no name and no size."""

    def __init__(self, like: TarEntry) -> None:
        written = bytearray()
        TarWriter(written.extend).add(like)
        block = bytes(written)
        self.usable = len(block) == BLOCK
        """Whether all of it fits into one block."""
        self._owner = block[_NAME:_SIZE]
        self._time = block[_MTIME:_CHECKSUM]
        self._rest = block[_FLAG:]
        self._sum = sum(self._owner) + sum(self._time) + sum(self._rest) + 8 * 0x20

    def header(self, name: bytes, size: int) -> bytes | None:
        """None where this file needs more than one block, or other fields."""
        block = bytearray(BLOCK)
        return bytes(block) if self.write(block, 0, name, size) else None

    def write(self, data: bytearray | memoryview, at: int, name: bytes, size: int) -> bool:
        """The same, to where it belongs; whether there is one."""
        if len(name) > _NAME or size >= _SIZES or not self.usable:
            return False
        digits = b"%011o\0" % size
        # Adler-32 has the sum of so few bytes in its lower half, see `blocks.header_sum`.
        checksum = self._sum + (adler32(name + digits, 0) & 0xFFFF)
        _PARTS.pack_into(data, at, name, self._owner, digits, self._time, b"%06o\0 " % checksum, self._rest)
        return True
