"""Parts of a date in two texts, where the dates are known: a year alone, the name of a month, the number of a day. Pure.

A number of two digits may be anything; it counts beside a part that is surely one, or where there are several.
"""

from __future__ import annotations

import time

from imgbuild.hints import Iterator, Mapping, Sequence
from imgbuild.insight.reasons import Circumstances
from imgbuild.light.functools import lru_cache
from imgbuild.patterns import pattern

_WORDS = pattern(rb"[A-Za-z]+|\d+")
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBERS = ("%Y", "%G", "%Y%m", "%Y%m%d", "%y%m%d", "%d%m%Y", "%m%d%Y", "%Y%j", "%y%j")
_UNSURE = ("%y", "%m", "%d", "%H", "%M", "%I", "%V", "%U", "%W", "%j", "%H%M")
_SEVERAL = 3
"""So many numbers of two digits that are all parts of the two dates are no chance."""
_DAY = 86400
_ZONES = (0, -12 * 3600, 14 * 3600)
"""How far the clocks of the world are from UTC; hours and minutes are only known in that."""
_MOST = 60
"""Bytes that are shown of what has several parts."""

Span = tuple[int, int]


def date_parts(
    old: bytes, new: bytes, one: Circumstances, other: Circumstances
) -> tuple[Sequence[Span], Sequence[Span]] | None:
    """Where two texts have parts of two dates, each of when its side was made, or of what the clock was then; None where they have none, or
    nothing but these differs less than by chance."""
    before, after = list(_WORDS.finditer(old)), list(_WORDS.finditer(new))
    if len(before) != len(after) or not one.ended or not other.ended:
        return None
    forms = _forms(one), _forms(other)
    nothing: frozenset[str] = frozenset()
    found: list[tuple[Span, Span]] = []
    sure = 0
    for a, b in zip(before, after, strict=True):
        if a.group() != b.group():
            shared = forms[0].get(a.group().lower(), nothing) & forms[1].get(b.group().lower(), nothing)
            if shared:
                found.append((a.span(), b.span()))
                sure += any(form not in _UNSURE for form in shared)
    if not sure and len(found) < _SEVERAL:
        return None
    return [mine for mine, _ in found], [theirs for _, theirs in found]


def shown_part(text: bytes, spans: Sequence[Span]) -> bytes:
    """What is shown of the parts: from the first to the last, if that is short."""
    first, last = spans[0], spans[-1]
    return text[first[0] : last[1]] if last[1] - first[0] <= _MOST else text[slice(*first)]


@lru_cache(maxsize=8)
def _forms(made: Circumstances) -> Mapping[bytes, frozenset[str]]:
    """Words that are a part of when something was made, and in which forms they are."""
    found: dict[bytes, set[str]] = {}
    for moment in {made.began, made.ended, made.began + made.ahead, made.ended + made.ahead}:
        for zone in _ZONES:
            if moment + zone >= 0:
                for form, word in _written(int(moment + zone)):
                    found.setdefault(word.encode(), set()).add(form)
    return {word: frozenset(forms) for word, forms in found.items()}


def _written(seconds: int) -> Iterator[tuple[str, str]]:
    then = time.gmtime(seconds)
    for form in (*_NUMBERS, *_UNSURE):
        word = time.strftime(form, then)
        yield form, word
        yield form, word.lstrip("0") or "0"
    for name, words in (("month", _MONTHS[then.tm_mon - 1]), ("day", _WEEKDAYS[then.tm_wday])):
        yield f"the {name}", words
        yield f"the {name}, short", words[:3]
    yield "days since 1970", str(seconds // _DAY)
    yield "hours since 1970", str(seconds // 3600)
    yield "minutes since 1970", str(seconds // 60)
