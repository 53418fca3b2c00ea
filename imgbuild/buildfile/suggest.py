"""Did you mean: the known word that is nearest to an unknown one."""

from __future__ import annotations

from imgbuild.hints import Iterable

_FARTHEST = 2
_SHARE = 3


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A hint that names the known word that may have been meant, or None if none is near."""
    near = meant(word, known)
    return None if near is None else f"did you mean {near}?"


def meant(word: str, known: Iterable[str]) -> str | None:
    """The nearest known word, if it is near: a slip of the pen is one edit in three letters, and two at the most. A swap of neighbours is
    one."""
    best, least = None, _FARTHEST + 1
    for candidate in known:
        most = min(least - 1, max(len(word), len(candidate)) // _SHARE)
        if abs(len(candidate) - len(word)) <= most and (edits := _edits(word.lower(), candidate.lower())) <= most:
            best, least = candidate, edits
    return best


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that is one or two insertions, deletions or replacements from `word`; "" where none is, or where it is known.
    This is the distance by which BuildKit's warnings suggest variables: case counts, a swap of neighbours is two."""
    best, least = "", 3
    for candidate in known:
        if candidate == word:
            return ""
        if abs(len(candidate) - len(word)) < least and (edits := _edits(word, candidate, swaps=False)) < least:
            best, least = candidate, edits
    return best


def _edits(left: str, right: str, swaps: bool = True) -> int:
    """Insertions, deletions, replacements and, if they count as one, swaps of neighbours between the two."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        following = [i]
        for j, b in enumerate(right, 1):
            cost = min(row[j] + 1, following[j - 1] + 1, row[j - 1] + (a != b))
            if swaps and i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            following.append(cost)
        before, row = row, following
    return row[-1]
