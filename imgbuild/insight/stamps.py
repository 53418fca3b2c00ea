"""What is stamped into bytes: times, names of machines, numbers of processes, chance; and entries in another order. Pure.

Two versions are taken apart where they differ. A difference is explained by taking out of both sides, one kind after the other, what
looks alike (a date, a UUID) or is known to be what each of the two was made under; what is left is random.
"""

from __future__ import annotations

import struct

from imgbuild.hints import TYPE_CHECKING, Callable, Iterable, Iterator, Sequence
from imgbuild.insight.dates import date_parts, shown_part
from imgbuild.insight.reasons import Circumstances, Reason, clock, shown
from imgbuild.patterns import IGNORECASE, pattern
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.light.re import Match

MOST_PAIRS = 100
"""Differences of one file that are looked at."""
_CONTEXT = 64
_WINDOW = 4096
_SLACK = 3
"""Seconds by which clocks of different programs, and rounding, may be off."""
_PIDS = 512
_HOLE = b"\0<taken out>\0"
_MOST_SORTED = 200_000
"""Lines or words that are put into order to be compared."""

_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_DAY = rb"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6},? )?"
_CLOCK = rb"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-6]\d(?:[.,]\d{1,9})?)?(?: ?[AP]M)?"
_ZONE = rb"(?: ?(?:Z|[A-Z]{3,5}|[+-]\d\d:?\d\d))?"
_DATES = pattern(
    rb"(?:19|20)\d\d[-/.](?:0\d|1[0-2])[-/.][0-3]\d(?:[T _-]" + _CLOCK + rb")?" + _ZONE
    + rb"|" + _DAY + _MONTH + rb"\.? {1,2}[0-3]?\d,?(?: " + _CLOCK + _ZONE + rb")?(?: {1,2}(?:19|20)\d\d)?" + _ZONE
    + rb"|" + _DAY + rb"[0-3]?\d[ -]" + _MONTH + rb"[ -](?:19|20)\d\d(?: " + _CLOCK + rb")?" + _ZONE
    + rb"|(?<!\d)(?:19|20)\d\d[01]\d[0-3]\d[T_-]?[0-2]\d[0-5]\d(?:[0-6]\d)?Z?(?!\d)"
    + rb"|(?<![\d:])(?:[01]\d|2[0-3]):[0-5]\d:[0-6]\d(?:[.,]\d{1,9})?(?![\d:])"
)  # fmt: skip
_UUID = pattern(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", IGNORECASE)
_DURATION = pattern(rb"(?<![\d.])\d{1,6}(?:\.\d{1,9})? ?(?:ns|us|ms|s|sec|secs|seconds)\b|(?<!\d)\d{1,4}m\d{1,2}(?:\.\d{1,3})?s\b")
_PARTS = pattern(rb"\w+|\W")
_SIZES = pattern(rb"\bd[r-][w-][xsS-][r-][w-][xsS-][r-][w-][xtT-][.+@]? +\d{1,9} +\S{1,32} +\S{1,32} +\d{1,15}\b|^total \d{1,15}$")
_NUMBER = pattern(rb"(?<![0-9a-fA-F])\d{1,20}(?:\.\d{1,9})?(?![0-9a-fA-F])")


@dataclass(frozen=True, slots=True)
class Pair:
    """Where two versions differ: the bytes on both sides, and where those of the old one are."""

    offset: int
    old: bytes
    new: bytes


def stamps(old: bytes, new: bytes, one: Circumstances, other: Circumstances) -> tuple[Reason, ...]:
    """Why two versions of some bytes differ, each reason once, in the order of the file."""
    ordered = _in_other_order(old, new, one, other)
    if ordered is not None:
        return (ordered,)
    found: dict[str, Reason] = {}
    for pair in _pairs(old, new):
        for reason in explain(pair, one, other):
            found.setdefault(reason.kind, reason)
    if len(found) > 1 and (rest := found.pop("random", None)) is not None:  # what is known goes first
        found["other"] = Reason("other", f"and what nothing explains: {rest.words}", rest.offset)
    return tuple(found.values())


def explain(pair: Pair, one: Circumstances, other: Circumstances) -> Iterator[Reason]:
    """Why two sides differ in one place."""
    old, new, at = pair.old, pair.new, pair.offset + _common(pair.old, pair.new)
    for kind, take in _takers(one, other):
        taken = take(old, new)
        if taken is None:
            continue
        old, new, before, after = taken
        yield Reason(kind, f"{NAMES[kind]}: {shown(before)} -> {shown(after)}", at)
        if old.split() == new.split():  # columns are as wide as what was in them
            return
    stamp = _binary(pair, one, other)
    if stamp is not None:
        yield stamp
    elif old != new:
        sides = old.replace(_HOLE, b""), new.replace(_HOLE, b"")
        yield Reason("random", f"{shown(_middle(*sides))} -> {shown(_middle(*reversed(sides)))}", at)


NAMES = {
    "hostname": "the machine's name",
    "file system": "the size of a directory, as a file system counts it",
    "uuid": "a UUID",
    "time": "a time",
    "duration": "how long something took",
    "pid": "the number of a process",
    "uptime": "the time since the machine was started",
    "processors": "the number of processors",
}
"""What is seen in bytes, as it is called before what it is on both sides."""

_Taken = tuple[bytes, bytes, bytes, bytes] | None
"""Both sides without it, and what was different first; None where nothing of the kind was."""


def _takers(one: Circumstances, other: Circumstances) -> Iterator[tuple[str, Callable[[bytes, bytes], _Taken]]]:
    yield "hostname", lambda old, new: _hostname(old, new, one, other)
    yield "file system", lambda old, new: _sizes(old, new, one, other)
    yield "uuid", lambda old, new: _alike(old, new, _UUID.finditer(old), _UUID.finditer(new))
    yield "time", lambda old, new: _numbers(old, new, lambda a, b: _epoch(a, one) and _epoch(b, other))
    yield "uptime", lambda old, new: _numbers(old, new, lambda a, b: _within(a, one.uptime) and _within(b, other.uptime))
    yield "pid", lambda old, new: _numbers(old, new, lambda a, b: _pid(a, b, one, other))
    yield "time", lambda old, new: _alike(old, new, _DATES.finditer(old), _DATES.finditer(new))
    yield "time", lambda old, new: _dated(old, new, one, other)
    yield "duration", lambda old, new: _alike(old, new, _DURATION.finditer(old), _DURATION.finditer(new))
    yield "processors", lambda old, new: _numbers(old, new, lambda a, b: _processors(a, b, one, other))


def _hostname(old: bytes, new: bytes, one: Circumstances, other: Circumstances) -> _Taken:
    before, after = one.hostname.encode("utf-8", "surrogateescape"), other.hostname.encode("utf-8", "surrogateescape")
    if not before or not after or before == after or before not in old or after not in new:
        return None
    return old.replace(before, _HOLE), new.replace(after, _HOLE), before, after


def _alike(old: bytes, new: bytes, before: Iterator[Match[bytes]], after: Iterator[Match[bytes]]) -> _Taken:
    """Take out what matched on both sides, in the same number, if any of it differs."""
    return _without(old, new, list(before), list(after), lambda a, b: True)


def _numbers(old: bytes, new: bytes, explained: Callable[[bytes, bytes], object]) -> _Taken:
    """Take out the numbers that are explained."""
    return _without(old, new, list(_NUMBER.finditer(old)), list(_NUMBER.finditer(new)), explained)


def _without(
    old: bytes, new: bytes, before: Sequence[Match[bytes]], after: Sequence[Match[bytes]], explained: Callable[[bytes, bytes], object]
) -> _Taken:
    if len(before) != len(after):
        return None
    chosen = [(a, b) for a, b in zip(before, after, strict=True) if a.group() != b.group() and explained(a.group(), b.group())]
    if not chosen:
        return None
    first, second = chosen[0]
    without = _holed(old, (a.span() for a, _ in chosen)), _holed(new, (b.span() for _, b in chosen))
    return *without, first.group(), second.group()


def _holed(data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for start, end in spans:
        parts += [data[at:start], _HOLE]
        at = end
    return b"".join((*parts, data[at:]))


def _sizes(old: bytes, new: bytes, one: Circumstances, other: Circumstances) -> _Taken:
    """Take out what ``ls -l`` says of the sizes of directories, where these were on two file systems."""
    if one.listing == other.listing:
        return None
    return _without(old, new, list(_SIZES.finditer(old)), list(_SIZES.finditer(new)), lambda a, b: a.split()[:-1] == b.split()[:-1])


def _dated(old: bytes, new: bytes, one: Circumstances, other: Circumstances) -> _Taken:
    """Take out parts of dates."""
    spans = date_parts(old, new, one, other)
    if spans is None:
        return None
    return _holed(old, spans[0]), _holed(new, spans[1]), shown_part(old, spans[0]), shown_part(new, spans[1])


def _epoch(word: bytes, made: Circumstances) -> bool:
    """Whether a number is the time at which something was made, in seconds since 1970 or in parts of them."""
    whole = word.partition(b".")[0]
    number = int(whole)
    return any(_during(number / unit, made) for unit in (1, 10**3, 10**6, 10**9))


def _during(seconds: float, made: Circumstances) -> bool:
    return made.ended > 0 and any(made.began - _SLACK <= seconds - ahead <= made.ended + _SLACK for ahead in {0, made.ahead})


def _within(word: bytes, window: tuple[float, float]) -> bool:
    """Whether a number is between two times, in seconds, or in the parts of them that are counted somewhere."""
    return window[1] > 0 and any(window[0] - _SLACK <= float(word) / unit <= window[1] + _SLACK for unit in (1, 100, 10**3, 10**6, 10**9))


def _pid(one_word: bytes, other_word: bytes, one: Circumstances, other: Circumstances) -> bool:
    if not one.first_pid or not other.first_pid or b"." in one_word + other_word:
        return False
    before, after = int(one_word) - one.first_pid, int(other_word) - other.first_pid
    return one.first_pid != other.first_pid and 0 <= before < _PIDS * 8 and 0 <= after < _PIDS * 8 and abs(before - after) < _PIDS


def _processors(one_word: bytes, other_word: bytes, one: Circumstances, other: Circumstances) -> bool:
    if not one.processors or not other.processors or b"." in one_word + other_word:
        return False
    return (int(one_word), int(other_word)) == (one.processors, other.processors)


def _binary(pair: Pair, one: Circumstances, other: Circumstances) -> Reason | None:
    """A time as a binary number of four or eight bytes, where the two sides differ."""
    if len(pair.old) != len(pair.new) or not one.ended or not other.ended:
        return None
    at = next((at for at, (a, b) in enumerate(zip(pair.old, pair.new, strict=True)) if a != b), 0)
    for size, kinds in ((8, ("<q", ">q")), (4, ("<I", ">I"))):
        for start in range(max(0, at - size + 1), at + 1):
            if start + size > len(pair.old):
                break
            for kind in kinds:
                (before,), (after,) = (struct.unpack_from(kind, side, start) for side in (pair.old, pair.new))
                for unit in (1, 10**3, 10**6, 10**9) if size == 8 else (1,):
                    if _during(before / unit, one) and _during(after / unit, other):
                        words = f"a time as a number of {size} bytes: {clock(before / unit)} -> {clock(after / unit)}"
                        return Reason("time", words, pair.offset + start)
    return None


def _middle(mine: bytes, theirs: bytes) -> bytes:
    """What is different, without what is the same before and after."""
    start = _common(mine, theirs)
    end = _common(mine[start:][::-1], theirs[start:][::-1])
    return mine[max(0, start - 8) : len(mine) - end + min(end, 8)] or b"(nothing)"


def _common(one: bytes, other: bytes) -> int:
    """How many bytes are the same from the beginning."""
    low, high = 0, min(len(one), len(other))
    if one[:high] == other[:high]:
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def is_text(data: bytes) -> bool:
    """Whether some bytes are lines that a person reads."""
    return b"\0" not in data[: 1 << 16] and sum(byte < 9 for byte in data[:4096]) == 0


def _pairs(old: bytes, new: bytes) -> Iterator[Pair]:
    if is_text(old) and is_text(new):
        before, after = old.split(b"\n"), new.split(b"\n")
        if len(before) == len(after):
            yield from _line_pairs(before, after)
            return
    if len(old) == len(new):
        yield from _spans(old, new)
        return
    start = max(0, _common(old, new))
    line = old.rfind(b"\n", max(0, start - _CONTEXT), start) + 1 if is_text(old) else 0
    begin = line or max(0, start - _CONTEXT)
    yield Pair(begin, _until_line(old, begin, start), _until_line(new, begin, start))


def _until_line(data: bytes, begin: int, at: int) -> bytes:
    end = data.find(b"\n", at + 1, begin + _WINDOW)
    return data[begin : end if end >= 0 else begin + _CONTEXT * 4]


def _line_pairs(before: Sequence[bytes], after: Sequence[bytes]) -> Iterator[Pair]:
    offset, count = 0, 0
    for one, other in zip(before, after, strict=True):
        if one != other:
            start = max(0, _common(one, other) - _CONTEXT)
            yield Pair(offset + start, one[start : start + _WINDOW], other[start : start + _WINDOW])
            count += 1
            if count >= MOST_PAIRS:
                return
        offset += len(one) + 1


def _spans(old: bytes, new: bytes) -> Iterator[Pair]:
    """Where two versions of one size differ, with some bytes around; what lies close together is one place."""
    at, count = 0, 0
    while at < len(old) and count < MOST_PAIRS:
        at += _common(old[at : at + _WINDOW], new[at : at + _WINDOW])
        if at >= len(old) or old[at] == new[at]:
            continue
        start, end = max(0, at - _CONTEXT // 4), min(len(old), at + _CONTEXT)
        yield Pair(start, old[start:end], new[start:end])
        at, count = end, count + 1


def _in_other_order(old: bytes, new: bytes, one: Circumstances, other: Circumstances) -> Reason | None:
    """The same lines, or words, in another order."""
    if len(old) != len(new) or not (is_text(old) and is_text(new)):
        return None
    for what, split in (("lines", _lines), ("words", _words)):
        before, after = split(old), split(new)
        if before != after and sorted(before) == sorted(after):
            first = next((a, b) for a, b in zip(before, after, strict=True) if a != b)
            count = sum(len(part) > 1 or part.isalnum() for part in before)
            return order_reason(f"{count} {what}", shown(first[0]), shown(first[1]), one, other)
    return None


def _lines(data: bytes) -> list[bytes]:
    return data.split(b"\n") if data.count(b"\n") < _MOST_SORTED else []


def _words(data: bytes) -> list[bytes]:
    """The words of a text, and what is between them."""
    return _PARTS.findall(data) if len(data) < _MOST_SORTED else []


def order_reason(what: str, first: str, second: str, one: Circumstances, other: Circumstances) -> Reason:
    """The same entries in another order: that of a directory, where directories were listed in another one."""
    if one.listing != other.listing:
        return Reason("order", f"the same {what} in another order, as directories were listed: {first} comes where {second} does")
    return Reason("hash order", f"the same {what} in another order, that of a hash table or of who was first: {first}, then {second}")
