"""Formats of files that hold times and names of their own: gzip, tar, zip, ar, byte code of Python, ELF. Pure, and of bounded work.

Only as much is understood as tells why two versions differ. What is damaged or made to deceive is at worst told as any other bytes are.
"""

from __future__ import annotations

import struct
import zlib

from imgbuild.hints import Iterator, Sequence
from imgbuild.insight.reasons import Circumstances, Reason, clock, shown
from imgbuild.insight.stamps import order_reason, stamps
from imgbuild.values import dataclass

_MOST_MEMBERS = 20_000
_MOST_UNPACKED = 8 << 20
_DEEPEST = 3


_Made = tuple[Circumstances, Circumstances]


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive: where its data is, its time as it is said, and who owns it."""

    name: bytes
    time: str
    offset: int
    data: tuple[int, int]
    owner: str = ""


def reasons_in(old: bytes, new: bytes, one: Circumstances, other: Circumstances, depth: int = 0) -> tuple[Reason, ...]:
    """Why two versions of a file differ, from what is in them."""
    if depth < _DEEPEST:
        for magic, explain in _KINDS:
            if old[magic[0] :].startswith(magic[1]) and new[magic[0] :].startswith(magic[1]):
                found = explain(old, new, one, other, depth)
                if found:
                    return tuple({reason.kind: reason for reason in reversed(found)}.values())[::-1]
    return stamps(old, new, one, other)


def _gzip(old: bytes, new: bytes, one: Circumstances, other: Circumstances, depth: int) -> list[Reason]:
    found = []
    (before,), (after,) = (struct.unpack_from("<I", side, 4) if len(side) >= 8 else (0,) for side in (old, new))
    if before != after:
        found.append(Reason("gzip", f"the time in the header of the gzip: {clock(before)} -> {clock(after)}", 4))
    inside = _unpacked(old), _unpacked(new)
    if inside[0] != inside[1]:
        found += [reason.within("in the gzip") for reason in reasons_in(*inside, one, other, depth + 1)]
    elif not found:
        found.append(Reason("gzip", "other bytes of the gzip with the same content: another name, level or program"))
    return found


def _unpacked(data: bytes) -> bytes:
    """The beginning of what is in a gzip; as much of it as is not damaged."""
    stream = zlib.decompressobj(31)
    try:
        return stream.decompress(data, _MOST_UNPACKED)
    except zlib.error:
        return b""


def _tar(old: bytes, new: bytes, one: Circumstances, other: Circumstances, depth: int) -> list[Reason]:
    return _members("tar", old, new, tuple(_tar_members(old)), tuple(_tar_members(new)), (one, other), depth)


def _tar_members(data: bytes) -> Iterator[Member]:
    at = 0
    for _ in range(_MOST_MEMBERS):
        header = data[at : at + 512]
        if len(header) < 512 or header[257:262] != b"ustar":
            return
        size, time = _octal(header[124:136]), _octal(header[136:148])
        owner = f"{_octal(header[108:116])}:{_octal(header[116:124])}"
        name = header[:100].rstrip(b"\0")
        prefix = header[345:500].rstrip(b"\0") if header[257:263] == b"ustar\0" else b""
        yield Member(b"/".join(filter(None, (prefix, name))), clock(time), at + 136, (at + 512, size), owner)
        at += 512 + (size + 511) // 512 * 512


def _octal(field: bytes) -> int:
    try:
        return int(field.strip(b"\0 ") or b"0", 8)
    except ValueError:
        return 0


def _zip(old: bytes, new: bytes, one: Circumstances, other: Circumstances, depth: int) -> list[Reason]:
    return _members("zip", old, new, tuple(_zip_members(old)), tuple(_zip_members(new)), (one, other), depth)


def _zip_members(data: bytes) -> Iterator[Member]:
    """By the central directory: local headers may not know the sizes."""
    end = data.rfind(b"PK\x05\x06")
    if end < 0 or len(data) < end + 20:
        return
    count, _, at = struct.unpack_from("<HII", data, end + 10)
    for _ in range(min(count, _MOST_MEMBERS)):
        if data[at : at + 4] != b"PK\x01\x02" or len(data) < at + 46:
            return
        time, date = struct.unpack_from("<HH", data, at + 12)
        size, _, name, extra, comment = struct.unpack_from("<IIHHH", data, at + 20)
        (local,) = struct.unpack_from("<I", data, at + 42)
        exact = _exact(data[at + 46 + name : at + 46 + name + extra])
        stamp = clock(exact) if exact is not None else _dos_time(time, date)
        begin = local + 30 + sum(struct.unpack_from("<HH", data, local + 26)) if local + 30 <= len(data) else 0
        yield Member(data[at + 46 : at + 46 + name], stamp, local + 10, (begin, size))
        at += 46 + name + extra + comment


def _dos_time(time: int, date: int) -> str:
    day = f"{1980 + (date >> 9)}-{date >> 5 & 15:02}-{date & 31:02}"
    return f"{day} {time >> 11:02}:{time >> 5 & 63:02}:{(time & 31) * 2:02}"


def _exact(extra: bytes) -> int | None:
    """The time in seconds since 1970 that a zip may have beside the other one, which counts in twos."""
    at = 0
    while at + 9 <= len(extra):
        kind, size = struct.unpack_from("<2sH", extra, at)
        if kind == b"UT" and size >= 5:
            return int(struct.unpack_from("<I", extra, at + 5)[0])
        at += 4 + size
    return None


def _ar(old: bytes, new: bytes, one: Circumstances, other: Circumstances, depth: int) -> list[Reason]:
    return _members("ar", old, new, tuple(_ar_members(old)), tuple(_ar_members(new)), (one, other), depth)


def _ar_members(data: bytes) -> Iterator[Member]:
    at = 8
    for _ in range(_MOST_MEMBERS):
        header = data[at : at + 60]
        if len(header) < 60 or header[58:] != b"`\n":
            return
        size, time = _decimal(header[48:58]), _decimal(header[16:28])
        owner = f"{_decimal(header[28:34])}:{_decimal(header[34:40])}"
        yield Member(header[:16].rstrip(b" /") or b"/", clock(time), at + 16, (at + 60, size), owner)
        at += 60 + size + size % 2


def _decimal(field: bytes) -> int:
    word = field.strip()
    return int(word) if word.isdigit() else 0


def _members(
    kind: str, old: bytes, new: bytes, before: Sequence[Member], after: Sequence[Member], made: _Made, depth: int
) -> list[Reason]:
    if not before or not after:
        return []
    found: list[Reason] = []
    names = [member.name for member in before], [member.name for member in after]
    if names[0] != names[1]:
        if sorted(names[0]) != sorted(names[1]):
            lone = sorted(set(names[0]) ^ set(names[1])) or [b"the same name twice"]
            return [Reason("names", f"the members of the {kind} have other names: {shown(lone[0])}")]
        first = next((a, b) for a, b in zip(*names, strict=True) if a != b)
        found.append(order_reason(f"{len(before)} members of the {kind}", shown(first[0]), shown(first[1]), *made))
    theirs = {member.name: member for member in after}
    pairs = [(member, theirs[member.name]) for member in before]
    times = [(a, b) for a, b in pairs if a.time != b.time]
    if times:
        a, b = times[0]
        more = f" (and of {len(times) - 1} more)" if len(times) > 1 else ""
        found.append(Reason(kind, f"the time of {shown(a.name)} in the {kind}: {a.time} -> {b.time}{more}", a.offset))
    if owners := [(a, b) for a, b in pairs if a.owner != b.owner]:
        a, b = owners[0]
        found.append(Reason(kind, f"the owner of {shown(a.name)} in the {kind}: {a.owner} -> {b.owner}", a.offset))
    for a, b in pairs:
        mine, other = old[a.data[0] : sum(a.data)], new[b.data[0] : sum(b.data)]
        if mine != other:
            found += [reason.within(f"in {shown(a.name)} of the {kind}") for reason in reasons_in(mine, other, *made, depth + 1)]
            break
    return found


def _pyc(old: bytes, new: bytes, one: Circumstances, other: Circumstances, depth: int) -> list[Reason]:
    if min(len(old), len(new)) < 16:
        return []
    found = []
    flags = [struct.unpack_from("<I", side, 4)[0] for side in (old, new)]
    if flags == [0, 0]:
        (before,), (after,) = (struct.unpack_from("<I", side, 8) for side in (old, new))
        if before != after:
            found.append(Reason("pyc", f"the source's time in the byte code's header (PEP 552): {clock(before)} -> {clock(after)}", 8))
    elif flags[0] != flags[1]:
        found.append(Reason("pyc", "one knows its source by its time, the other by its hash (PEP 552)", 4))
    if old[16:] != new[16:]:
        inside = stamps(old[16:], new[16:], one, other)
        if not found and all(reason.kind == "random" for reason in inside):
            return [Reason("hash order", "the byte code: what a set holds, in the order of random hashes, or what was shared in memory")]
        found += [reason.within("in the byte code") for reason in inside if reason.kind != "random"]
    return found


def _elf(old: bytes, new: bytes, one: Circumstances, other: Circumstances, depth: int) -> list[Reason]:
    """By sections: the build ID follows from all others."""
    before, after = dict(_sections(old)), dict(_sections(new))
    changed = [name for name in before if name in after and before[name] != after[name]]
    found: list[Reason] = []
    for name in sorted(changed, key=lambda name: name == b".note.gnu.build-id"):
        if name == b".note.gnu.build-id":
            found.append(Reason("build id", "the build ID of the program, a digest of what else is in it"))
        else:
            found += [reason.within(f"in {shown(name)} of the program") for reason in stamps(before[name], after[name], one, other)]
    return found


def _sections(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if len(data) < 64 or data[4] not in (1, 2) or data[5] not in (1, 2):
        return
    order, wide = "<" if data[5] == 1 else ">", data[4] == 2
    (start,) = struct.unpack_from(order + ("Q" if wide else "I"), data, 40 if wide else 32)
    size, count, names = struct.unpack_from(order + "HHH", data, 58 if wide else 46)
    if size < (64 if wide else 40) or start + size * count > len(data):
        return
    table = [_section(data, start + size * number, order, wide) for number in range(count)]
    if names >= len(table):
        return
    _, _, at, length = table[names]
    texts = data[at : at + length]
    for name, kind, offset, length in table:
        if kind != 8 and length:  # what has no bytes in the file
            yield texts[name : texts.find(b"\0", name)], data[offset : offset + length]


def _section(data: bytes, at: int, order: str, wide: bool) -> tuple[int, int, int, int]:
    """Its name's place, its kind, its offset and its size."""
    name, kind = struct.unpack_from(order + "II", data, at)
    offset, size = struct.unpack_from(order + ("QQ" if wide else "II"), data, at + (24 if wide else 16))
    return name, kind, offset, size


_KINDS = (
    ((0, b"\x1f\x8b"), _gzip), ((257, b"ustar"), _tar), ((0, b"PK\x03\x04"), _zip), ((0, b"!<arch>\n"), _ar), ((0, b"\x7fELF"), _elf),
    ((2, b"\r\n"), _pyc),
)  # fmt: skip
