"""Two texts -> a unified diff, where both are texts, and short enough. Pure."""

from __future__ import annotations

import difflib

from imgbuild.hints import Iterator
from imgbuild.light.collections import Counter

MOST_BYTES = 1 << 20
"""Longer files are not compared line by line."""

_MOST_LINES = 20_000
_MOST_PAIRS = 1 << 20
"""Pairs of equal lines; the time that a comparison takes grows with them: to some three seconds."""
_BINARY = 8000
"""Bytes that are looked at for a null byte, which texts don't have: git's rule."""


def unified(old: bytes, new: bytes, old_name: str, new_name: str) -> Iterator[str] | str:
    """The lines of the diff, without their ends; or, in words, why there is none."""
    if b"\0" in old[:_BINARY] or b"\0" in new[:_BINARY]:
        return "binary files differ"
    if max(len(old), len(new)) > MOST_BYTES:
        return f"more than {MOST_BYTES >> 20} MiB: not compared line by line"
    before, after = _lines(old), _lines(new)
    if max(len(before), len(after)) > _MOST_LINES or _pairs(before, after) > _MOST_PAIRS:
        return "too many lines to compare them one by one"
    return _marked(difflib.unified_diff(before, after, old_name, new_name))


def _lines(data: bytes) -> list[str]:
    """The lines with their ends, so that a last one without an end is another line."""
    *lines, rest = data.decode("utf-8", "surrogateescape").split("\n")
    return [*(f"{line}\n" for line in lines), *([rest] if rest else [])]


def _pairs(old: list[str], new: list[str]) -> int:
    """How many pairs of equal lines difflib looks at: it passes over what makes up more than a hundredth of a long text."""
    before, after = Counter(old), Counter(new)
    popular = len(new) // 100 + 1 if len(new) >= 200 else len(new)
    return sum(count * before[line] for line, count in after.items() if count <= popular)


def _marked(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line.removesuffix("\n")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"
