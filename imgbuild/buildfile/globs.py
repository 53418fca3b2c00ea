"""The patterns of ``${v#p}`` and its kin: ``*`` any run of characters, ``?`` one, ``\\`` before either for itself.

Matched by following all ways at once, so that no pattern takes more than length times length steps; a newline is matched
only by itself, as in BuildKit.
"""

from __future__ import annotations

_ANY, _ONE = "*", "?"


class Glob:
    """A compiled pattern; ValueError if it is malformed."""

    def __init__(self, pattern: str) -> None:
        self._tokens = tuple(_tokens(pattern))

    def prefix(self, text: str, longest: bool) -> int | None:
        """Where the shortest or longest prefix of `text` that matches ends."""
        return _match(self._tokens, text, 0, longest)

    def suffix(self, text: str, longest: bool) -> int | None:
        """Where the shortest or longest suffix of `text` that matches begins."""
        end = _match(self._tokens[::-1], text[::-1], 0, longest)
        return None if end is None else len(text) - end

    def replace(self, text: str, replacement: str, every: bool) -> str:
        """`text` with the first or every longest match replaced."""
        parts: list[str] = []
        position, copied, last_end = 0, 0, -1
        while position <= len(text):
            end = _match(self._tokens, text, position, True)
            if end is None or (end == position and end == last_end):
                position += 1
                continue
            parts += (text[copied:position], replacement)
            copied = last_end = end
            if not every:
                break
            position = end if end > position else position + 1
        parts.append(text[copied:])
        return "".join(parts)


def _tokens(pattern: str) -> list[tuple[bool, str]]:
    """(wild, character) for each element."""
    tokens: list[tuple[bool, str]] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character in (_ANY, _ONE):
            tokens.append((True, character))
            continue
        if character == "\\":
            character = pattern[position : position + 1]
            if not character or character not in "*?\\/}":
                raise ValueError(f"\\{character} is not an escape")
            position += 1
        tokens.append((False, character))
    return tokens


def _match(tokens: tuple[tuple[bool, str], ...], text: str, start: int, longest: bool) -> int | None:
    """The end of the shortest or longest match that begins at `start`."""
    states = _closed(tokens, {0})
    found: int | None = None
    position = start
    while True:
        if len(tokens) in states:
            found = position
            if not longest:
                break
        if position == len(text) or not states:
            break
        character = text[position]
        following: set[int] = set()
        for state in states:
            if state == len(tokens):
                continue
            wild, wanted = tokens[state]
            if wild and character != "\n":
                following.add(state if wanted == _ANY else state + 1)
            elif not wild and character == wanted:
                following.add(state + 1)
        states = _closed(tokens, following)
        position += 1
    return found


def _closed(tokens: tuple[tuple[bool, str], ...], states: set[int]) -> set[int]:
    """The states, and those reached by letting a ``*`` match nothing."""
    closed = set(states)
    for state in states:
        while state < len(tokens) and tokens[state] == (True, _ANY):
            state += 1
            closed.add(state)
    return closed
