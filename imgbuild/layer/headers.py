"""The fields of tar headers: numbers in octal, base-256 and decimal, times, pax records. Each is right or a LayerError."""

from __future__ import annotations

from imgbuild.errors import LayerError
from imgbuild.hints import Iterator

MAX_SIZE = (1 << 63) - 1
_MAX_ID = (1 << 32) - 2
"""The highest user or group id; the one above means "leave as it is" to chown(2)."""
_MAX_TIME = 1 << 55
"""Seconds; more than any file system keeps, and less than overflows on the way there."""


def number(field: bytes, what: str) -> int:
    """A number as ustar (octal, padded with spaces or null bytes) or GNU (base-256, two's complement) writes it."""
    plain = field[:-1]
    if plain.isdigit() and field[-1] in b"\0 " and b"8" not in plain and b"9" not in plain:
        return int(plain, 8)
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if field[0] & 0x40 else value
    text = field.strip(b" \0").partition(b"\0")[0]
    if not text:
        return 0
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise LayerError(f"a header of the tar has {show(field)} as its {what}")
    return int(text, 8)


def is_number(field: bytes) -> bool:
    """Whether `number` would take the field for more than nothing."""
    return bool(field[0] & 0x80) or field.strip(b" \0").isdigit()


def size(field: bytes) -> int:
    """The size of an entry's content."""
    value = number(field, "size")
    if not 0 <= value <= MAX_SIZE:
        raise LayerError(f"a header of the tar has the absurd size of {value} bytes")
    return value


def device(field: bytes, bits: int) -> int:
    """A device's major (12 bits) or minor (20 bits) number."""
    value = number(field, "device number")
    if not 0 <= value < 1 << bits:
        raise LayerError(f"a header of the tar has the device number {value}, which Linux does not have")
    return value


def decimal(value: bytes, what: str) -> int:
    """A number in a pax record."""
    if not value.isdigit() or len(value) > 20:
        raise LayerError(f"a pax header of the tar has {show(value)} as its {what}")
    return int(value)


def owner(field: bytes, record: bytes | None, name: bytes) -> int:
    """A user or group id, of the pax record where there is one."""
    value = decimal(record, "owner") if record else number(field, "owner")
    if not 0 <= value <= _MAX_ID:
        raise LayerError(f"{show(name)} belongs to the impossible id {value}")
    return value


def time(field: bytes, record: bytes | None) -> tuple[int, int]:
    """A time as seconds (rounded down) and nanoseconds over them, of the pax record where there is one."""
    seconds, nanoseconds = _pax_time(record) if record else (number(field, "mtime"), 0)
    if abs(seconds) > _MAX_TIME:
        raise LayerError(f"a header of the tar has the absurd modification time {seconds}")
    return seconds, nanoseconds


def _pax_time(value: bytes) -> tuple[int, int]:
    whole, _, fraction = value.partition(b".")
    negative = whole.startswith(b"-")
    digits = whole[1:] if negative else whole
    if not digits.isdigit() or (fraction and not fraction.isdigit()) or len(digits) > 20:
        raise LayerError(f"a pax header of the tar has {show(value)} as its mtime")
    seconds, nanoseconds = int(digits), int((fraction + b"000000000")[:9])
    if not negative:
        return seconds, nanoseconds
    return (-seconds - 1, 1_000_000_000 - nanoseconds) if nanoseconds else (-seconds, 0)


def pax_records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of an extended header, in their order."""
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = data[at:space] if space > 0 else b""
        if not length.isdigit():
            if not data[at:].strip(b"\0"):
                return  # padding that some writers count as content
            raise LayerError("a malformed pax header in the tar")
        end = at + int(length)
        key, equals, value = data[space + 1 : end].partition(b"=")
        if end > len(data) or not equals or not key or value[-1:] != b"\n":
            raise LayerError("a malformed pax header in the tar")
        if key in (b"path", b"linkpath") and b"\0" in value:
            raise LayerError("a null byte in a name of the tar")
        yield key, value[:-1]
        at = end


def show(value: bytes) -> str:
    """Foreign bytes for an error message."""
    return repr(value.decode("utf-8", "backslashreplace")[:200])
