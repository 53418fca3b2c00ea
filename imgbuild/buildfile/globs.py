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
            found = _search(self._tokens, text, position)
            if found is None:
                break
            begin, end = found
            if end == begin and end == last_end:
                position += 1
                continue
            parts += (text[copied:begin], replacement)
            copied = last_end = end
            if not every:
                break
            position = end if end > begin else begin + 1
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


def _search(tokens: tuple[tuple[bool, str], ...], text: str, start: int) -> tuple[int, int] | None:
    """Begin and end of the leftmost match from `start` on, and of those the longest. One pass, however many places are tried: of two
    ways to the same state, only the one that began first can win."""
    begun: dict[int, int] = {}
    found: tuple[int, int] | None = None
    position = start
    while True:
        if found is None:
            begun.setdefault(0, position)
        for state, begin in sorted(begun.items()):
            while state < len(tokens) and tokens[state] == (True, _ANY):
                state += 1
                if begun.get(state, begin) < begin:
                    break
                begun[state] = begin
        end = begun.get(len(tokens))
        if end is not None and (found is None or end <= found[0]):
            found = (end, position)
        if found is not None:
            begun = {state: begin for state, begin in begun.items() if begin <= found[0]}
        if position == len(text) or (found is not None and not begun):
            return found
        begun = _stepped(tokens, begun, text[position])
        position += 1


def _stepped(tokens: tuple[tuple[bool, str], ...], begun: dict[int, int], character: str) -> dict[int, int]:
    """The states after one more character, each with where its first way began."""
    following: dict[int, int] = {}
    for state, begin in begun.items():
        if state == len(tokens):
            continue
        wild, wanted = tokens[state]
        if character != "\n" if wild else character == wanted:
            reached = state if wild and wanted == _ANY else state + 1
            following[reached] = min(begin, following.get(reached, begin))
    return following


def _closed(tokens: tuple[tuple[bool, str], ...], states: set[int]) -> set[int]:
    """The states, and those reached by letting a ``*`` match nothing."""
    closed = set(states)
    for state in states:
        while state < len(tokens) and tokens[state] == (True, _ANY):
            state += 1
            closed.add(state)
    return closed
