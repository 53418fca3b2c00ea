"""GNU's four ways to write a sparse file into a tar, read as extents: old GNU headers, pax 0.0, 0.1 and 1.0.

Source: GNU tar manual, "Storing Sparse Files". We never write them: not every unpacker reads them.
"""

from __future__ import annotations

from imgbuild.errors import LayerError
from imgbuild.hints import Callable, Iterator, Sequence
from imgbuild.values import dataclass

Extents = tuple[tuple[int, int], ...]
"""Where the stored bytes belong: (offset, length), ascending."""

_BLOCK = 512
_MAX_EXTENTS = 1 << 20
_MAX_SIZE = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Layout:
    """`size` of the file with its holes, and how many of the stored bytes are the map itself."""

    size: int
    extents: Extents
    header: int = 0


def layout(
    flag: bytes, block: bytes, pairs: Sequence[tuple[bytes, bytes]], stored: int, exactly: Callable[[int], bytes]
) -> Layout | None:
    """How a file is laid out, None where it is not sparse. `exactly` reads on where the map is in the data, or in further headers."""
    records = dict(pairs)
    version = (records.get(b"GNU.sparse.major"), records.get(b"GNU.sparse.minor"))
    if flag == b"S":
        found = _old(block, exactly)
    elif version == (b"1", b"0"):
        found = _version_1_0(records, stored, exactly)
    elif b"GNU.sparse.map" in records:
        found = Layout(_decimal(records.get(b"GNU.sparse.size", b"")), _paired(records[b"GNU.sparse.map"].split(b",")))
    elif b"GNU.sparse.size" in records:
        numbers = [value for key, value in pairs if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
        found = Layout(_decimal(records[b"GNU.sparse.size"]), _paired(numbers))
    elif any(key.startswith(b"GNU.sparse.") for key in records):
        raise LayerError("a sparse file of an unknown form in the tar")
    else:
        return None
    return _checked(found, stored)


def zeros(length: int, chunk: int) -> Iterator[bytes]:
    """`length` zero bytes in chunks."""
    block = bytes(min(length, chunk))
    while length > 0:
        part = block if length >= len(block) else block[:length]
        yield part
        length -= len(part)


def _checked(found: Layout, stored: int) -> Layout:
    position = total = 0
    for offset, length in found.extents:
        if offset < position or length < 0:
            raise LayerError("the map of a sparse file in the tar is not in order")
        position = offset + length
        total += length
    if position > found.size or found.size > _MAX_SIZE or total + found.header != stored:
        raise LayerError("the map of a sparse file in the tar does not fit its size")
    return Layout(found.size, tuple((offset, length) for offset, length in found.extents if length), found.header)


def _paired(numbers: Sequence[bytes]) -> Extents:
    if list(numbers) == [b""]:
        return ()
    if len(numbers) % 2:
        raise LayerError("the map of a sparse file in the tar is incomplete")
    values = [_decimal(number) for number in numbers]
    return tuple(zip(values[::2], values[1::2], strict=True))


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise LayerError("the map of a sparse file in the tar holds something that is no number")
    return int(text)


def _octal(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    if text and (not text.isdigit() or b"8" in text or b"9" in text):
        raise LayerError("the map of a sparse file in the tar holds something that is no number")
    return int(text or b"0", 8)


def _old(block: bytes, exactly: Callable[[int], bytes]) -> Layout:
    """Four extents in the header itself, 21 in each block that follows while the one before says so."""
    size = _octal(block[483:495])
    extents: list[tuple[int, int]] = []
    fields, more = block[386:482], block[482]
    while True:
        for at in range(0, len(fields), 24):
            if not fields[at] and not fields[at + 12]:
                break
            extents.append((_octal(fields[at : at + 12]), _octal(fields[at + 12 : at + 24])))
        if not more:
            return Layout(size, tuple(extents))
        following = exactly(_BLOCK)
        if len(following) < _BLOCK or len(extents) > _MAX_EXTENTS:
            raise LayerError("the map of a sparse file in the tar has no end")
        fields, more = following[:504], following[504]


def _version_1_0(records: dict[bytes, bytes], stored: int, exactly: Callable[[int], bytes]) -> Layout:
    """A list of decimal numbers in lines before the data, padded to a block: their count, then offsets and lengths."""
    blocks: list[bytes] = []
    wanted, lines = 1, 0
    while lines < wanted:
        block = exactly(_BLOCK) if len(blocks) * _BLOCK < stored else b""
        if len(block) < _BLOCK:
            raise LayerError("the map of a sparse file in the tar has no end")
        if not blocks:
            count = _decimal(block.partition(b"\n")[0])
            if count > _MAX_EXTENTS:
                raise LayerError(f"a sparse file of {count} pieces in the tar")
            wanted += 2 * count
        blocks.append(block)
        lines += block.count(b"\n")
    numbers = b"".join(blocks).split(b"\n")[1:wanted]
    return Layout(_decimal(records.get(b"GNU.sparse.realsize", b"")), _paired(numbers or [b""]), len(blocks) * _BLOCK)
