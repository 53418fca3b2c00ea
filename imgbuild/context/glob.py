"""COPY's source patterns: the rules of Go's ``filepath.Match``, one path component at a time.

``*`` any characters, ``?`` one, ``[a-z]`` and ``[^a-z]`` a class, ``\\c`` the character itself. No ``**`` here: that is for
ignore files.
"""

from __future__ import annotations

from itertools import pairwise

from imgbuild.hints import Iterator
from imgbuild.light import re
from imgbuild.patterns import DOTALL, pattern

_MAGIC = pattern(r"(?:[^\\*?\[]|\\.)*[*?\[]", DOTALL)


class BadPattern(ValueError):
    """A pattern that can't be read; the message says why."""


def is_pattern(component: str) -> bool:
    """Whether a component has an unescaped wildcard."""
    return _MAGIC.match(component) is not None


def compile_component(pattern: str) -> re.Pattern[str]:
    """A regex that, by fullmatch, accepts the names that the pattern means."""
    return re.compile("".join(_linear(list(_tokens(pattern)))), re.DOTALL)


def check(pattern: str) -> None:
    """Raise BadPattern where ``filepath.Match`` would call the pattern malformed."""
    for _ in _tokens(pattern):
        pass


def _tokens(pattern: str) -> Iterator[str]:
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            yield "*"
        elif character == "?":
            yield "[^/]"
        elif character == "[":
            text, position = _class(pattern, position)
            yield text
        elif character == "\\":
            if position == len(pattern):
                raise BadPattern("a backslash at the end escapes nothing")
            yield re.escape(pattern[position])
            position += 1
        else:
            yield re.escape(character)


def _class(pattern: str, position: int) -> tuple[str, int]:
    """The class that starts after its ``[``, as a regex, and where it ends."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges: list[str] = []
    empty = True
    while empty or not pattern.startswith("]", position):
        low, position = _member(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _member(pattern, position + 1)
        empty = False
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    inside = "".join(ranges)
    if not inside:
        return ("[^/]" if negated else "(?!)"), position + 1
    return (f"[^{inside}]" if negated else f"[{inside}]"), position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    if pattern.startswith("\\", position):
        position += 1
    elif pattern.startswith(("-", "]"), position):
        raise BadPattern(f"{pattern[position]!r} must be escaped in a class")
    if position >= len(pattern) - 1:
        raise BadPattern("a class has no end")
    return pattern[position], position + 1


def _linear(tokens: list[str]) -> Iterator[str]:
    """Stars as atomic groups, all but the last: the leftmost place for what stands between two stars is always good
    enough, so nothing is ever tried again."""
    stars = [index for index, token in enumerate(tokens) if token == "*"]
    if not stars:
        yield from tokens
        return
    yield from tokens[: stars[0]]
    for star, following in pairwise(stars):
        yield f"(?>[^/]*?{''.join(tokens[star + 1 : following])})"
    yield f"[^/]*{''.join(tokens[stars[-1] + 1 :])}"
