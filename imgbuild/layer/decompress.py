"""The outer form of compressed streams: which they are, one member after another, and where they end too early.

Several members or frames in a row are one stream. What is cut or damaged is a LayerError, never a shorter content; output is
bounded block by block, so that a bomb costs the reader nothing but patience.
"""

from __future__ import annotations

from imgbuild.errors import LayerError
from imgbuild.hints import Any, Callable, Protocol
from imgbuild.layer.tar import CHUNK, Stream

INPUT = 1 << 18
_XZ_MEMORY = 128 << 20
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"


def kind_of(head: bytes) -> str:
    """"gzip", "zstd", "bzip2", "xz", or "none", by the first bytes (six are enough)."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(_ZSTD_MAGIC) or _is_skippable(head):
        return "zstd"
    if head.startswith(b"BZh"):
        return "bzip2"
    return "xz" if head.startswith(b"\xfd7zXZ\0") else "none"


def _is_skippable(head: bytes) -> bool:
    return len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == _SKIPPABLE


class Peeked:
    """A stream whose first bytes have been looked at."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.head = b""
        while len(self.head) < 6 and (more := stream.read(INPUT)):
            self.head += more
        self._rest = self.head

    def read(self, size: int, /) -> bytes:
        if self._rest:
            data, self._rest = self._rest[:size], self._rest[size:]
            return data
        return self._stream.read(size)


class Member(Protocol):
    """A decompressor of one member: `step` gives at most `size` bytes, and takes more input only where it `needs_input`."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, size: int) -> bytes: ...


class Members:
    """Members one after another until the input ends. Zero bytes after a member are padding."""

    def __init__(self, source: Stream, name: str, member: Callable[[], Any]) -> None:
        self._source = source
        self._name = name
        self._new = member
        self._member: Member | None = None
        self._input = b""
        self._ended = False

    def read(self, size: int, /) -> bytes:
        try:
            while not self._ended:
                if self._member is None and not self._next_member():
                    self._ended = True
                    break
                data = self._step(min(size, CHUNK))
                if data:
                    return data
        except LayerError:
            raise
        except Exception as error:  # each library has errors of its own
            raise LayerError(f"damaged {self._name} data", detail=str(error)) from error
        return b""

    def _next_member(self) -> bool:
        data = self._input.lstrip(b"\0")
        while not data:
            more = self._source.read(INPUT)
            if not more:
                return False
            data = more.lstrip(b"\0")
        self._input = data
        self._member = self._new()
        return True

    def _step(self, size: int) -> bytes:
        member = self._member
        assert member is not None
        if member.needs_input and not self._input:
            self._input = self._source.read(INPUT)
            if not self._input:
                raise LayerError(f"the {self._name} data ends too early")
        given, self._input = self._input, b""
        data = member.decompress(given, size)
        if member.eof:
            self._input = member.unused_data
            self._member = None
        return data


def bzip2_member() -> Any:
    """A decompressor of one bzip2 stream."""
    import bz2

    return bz2.BZ2Decompressor()


def xz_member() -> Any:
    """A decompressor of one xz stream, with a limit to the memory that its header may ask for."""
    import lzma

    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


class Frames:
    """Passes zstd data through and follows its outer form (RFC 8878, 3.1): frames of blocks, each block with its length."""

    def __init__(self, source: Stream) -> None:
        self._source = source
        self._skip = 0
        self._head = b""
        self._in_frame = False
        self._checksum = 0

    @property
    def complete(self) -> bool:
        """Whether what has passed ends where a frame ends."""
        return not (self._skip or self._head or self._in_frame)

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            need = self._needed() - len(self._head)
            self._head += data[at : at + need]
            at += need
            if len(self._head) >= self._needed():
                self._understand()
        return data

    def _needed(self) -> int:
        """How long the next header is, as far as that can be said."""
        if self._in_frame:
            return 3
        return 8 if _is_skippable(self._head) else 5

    def _understand(self) -> None:
        head, self._head = self._head, b""
        if self._in_frame:
            value = int.from_bytes(head, "little")
            last, kind, size = value & 1, value >> 1 & 3, value >> 3
            self._skip = 1 if kind == 1 else size
            if last:
                self._in_frame = False
                self._skip += self._checksum
        elif _is_skippable(head):
            self._skip = int.from_bytes(head[4:8], "little")
        elif head.startswith(_ZSTD_MAGIC):
            descriptor = head[4]
            single = descriptor >> 5 & 1
            content_size = (0, 2, 4, 8)[descriptor >> 6] or single
            self._skip = (1 - single) + (0, 1, 2, 4)[descriptor & 3] + content_size
            self._checksum = 4 * (descriptor >> 2 & 1)
            self._in_frame = True
        else:
            raise LayerError("damaged zstd data", detail="something that is no frame")
