"""What reading a tar spends most of its time on: bytes with a block of look-ahead, sums of headers, and fields that are read once."""

from __future__ import annotations

from zlib import adler32

from imgbuild.errors import LayerError
from imgbuild.hints import Callable, Generic, TypeVar
from imgbuild.layer import headers

_CHUNK = 1 << 20
_MOST_KNOWN = 4096
_OWNER = b"owner"
T = TypeVar("T")


class Source:
    """The archive's bytes with a block of look-ahead, so that small reads are cheap whatever the stream is."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._block = b""
        self._at = 0
        self._before = 0

    @property
    def position(self) -> int:
        """How many bytes were taken."""
        return self._before + self._at

    def some(self, size: int) -> bytes:
        """Between one and `size` bytes; none at the end."""
        start = self._at
        if start == len(self._block):
            self._before += start
            self._block, start = self._read(_CHUNK), 0
        self._at = min(start + size, len(self._block))
        return self._block if self._at - start == len(self._block) else self._block[start : self._at]

    def take(self, size: int) -> bytes:
        """Between one and `size` bytes; LayerError at the end."""
        data = self.some(size)
        if not data:
            raise LayerError("the tar ends in the middle of a file")
        return data

    def exactly(self, size: int) -> bytes:
        """`size` bytes, or what there is of them before the end."""
        start, end = self._at, self._at + size
        if end <= len(self._block):
            self._at = end
            return self._block[start:end]
        data = self.some(size)
        while len(data) < size:
            more = self.some(size - len(data))
            if not more:
                break
            data += more
        return data

    def run(self, take: Callable[[bytes, int, int], int]) -> None:
        """Let `take` pass over some of the bytes that are here: it is given them, where in them it is, and how many were before them."""
        self._at = take(self._block, self._at, self._before)

    def skip(self, size: int) -> None:
        """Pass over so many bytes; LayerError where there are fewer."""
        if self._at + size <= len(self._block):
            self._at += size
            return
        while size:
            size -= len(self.take(size))


class KnownFields:
    """Fields of headers with what they say: most entries of an archive have the same modes, owners and times."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._times: dict[bytes, tuple[int, int]] = {}

    def mode(self, field: bytes) -> int:
        """The permission bits."""
        known = self._numbers.get(field)
        if known is None:
            known = headers.number(field, "mode") & 0o7777
            self._remember(b"", field, known)
        return known

    def owner(self, field: bytes, record: bytes | None, name: bytes) -> int:
        """A user or group id, of the pax record where there is one."""
        if record:
            return headers.owner(field, record, name)
        known = self._numbers.get(_OWNER + field)
        if known is None:
            known = headers.owner(field, None, name)
            self._remember(_OWNER, field, known)
        return known

    def time(self, field: bytes, record: bytes | None) -> tuple[int, int]:
        """A time, of the pax record where there is one."""
        if record:
            return headers.time(field, record)
        known = self._times.get(field)
        if known is None:
            known = headers.time(field, None)
            if len(self._times) >= _MOST_KNOWN:
                self._times.clear()
            self._times[field] = known
        return known

    def _remember(self, what: bytes, field: bytes, value: int) -> None:
        if len(self._numbers) >= _MOST_KNOWN:
            self._numbers.clear()
        self._numbers[what + field] = value


class KnownHeaders(Generic[T]):
    """What was read of headers by all of their bytes but name, size and checksum: most of an archive's files have those alone for
    themselves."""

    def __init__(self) -> None:
        self._known: dict[bytes, T] = {}

    def get(self, block: bytes) -> T | None:
        """What was remembered of one like this."""
        return self._known.get(block[100:124] + block[136:148] + block[156:])

    def remember(self, block: bytes, value: T) -> None:
        """Give `value` for all that are like this one."""
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[block[100:124] + block[136:148] + block[156:]] = value


def checksum(block: bytes) -> int:
    """What a header says that the sum of its bytes is."""
    field = block[148:156]
    if field[6:] == b"\0 " and field[:6].isdigit() and b"8" not in field and b"9" not in field:
        return int(field[:6], 8)
    return headers.number(field, "checksum")


def header_sum(block: bytes) -> int:
    """The sum of a header's bytes, with spaces for the checksum; Adler-32 has that of up to 257 in its lower half, and is much quicker."""
    before, after, rest = adler32(block[:148], 0), adler32(block[156:412], 0), adler32(block[412:], 0)
    return (before & 0xFFFF) + (after & 0xFFFF) + (rest & 0xFFFF) + 8 * 0x20
