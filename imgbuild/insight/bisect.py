"""The first state that is bad, found by few tests; and what differs between two images, as a line of states from one to the other. Pure."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Literal

from imgbuild.hints import Callable, Iterator, Sequence
from imgbuild.values import dataclass

Verdict = Literal["good", "bad", "skip"]
Test = Callable[[int], Verdict]

_MOST_ALIKE = 1000
"""Pairs of instructions that are looked at for likeness."""

SKIP = 125
"""The exit code of a test that can't tell, as git bisect has it."""


def verdict_of(code: int) -> Verdict:
    """What an exit code says."""
    return "good" if code == 0 else "skip" if code == SKIP else "bad"


def search(good: int, bad: int, test: Test) -> tuple[int, ...]:
    """The first bad state between one that is good and a later one that is bad; several where it can't be told which, as those before the
    last could not be tested."""
    skipped: set[int] = set()
    while untested := [number for number in range(good + 1, bad) if number not in skipped]:
        number = min(untested, key=lambda each: abs(2 * each - good - bad))
        verdict = test(number)
        if verdict == "good":
            good = number
        elif verdict == "bad":
            bad = number
        else:
            skipped.add(number)
    return tuple(range(good + 1, bad + 1))


def search_back(bad: int, test: Test) -> tuple[int, ...]:
    """The same where no good one is known: the last one that is good before `bad` is looked for, state by state. Nothing where there is
    none."""
    first = bad
    for number in range(bad - 1, -1, -1):
        verdict = test(number)
        if verdict == "good":
            return tuple(range(number + 1, first + 1))
        if verdict == "bad":
            first = number
    return ()


@dataclass(frozen=True, slots=True)
class Part:
    """Neighbouring layers of an old image (from `old` to `old_end`) and those that stand in their place in a new one."""

    old: int
    old_end: int
    new: int
    new_end: int
    same: bool


def parts(old: Sequence[str], new: Sequence[str], old_text: Sequence[str], new_text: Sequence[str]) -> Iterator[Part]:
    """Two stacks of layers, by their digests, as parts that are the same or not; which belong together, the instructions say."""
    matcher = SequenceMatcher(None, old_text, new_text, autojunk=False)
    for _, old_at, old_end, new_at, new_end in matcher.get_opcodes():
        for one, one_end, other, other_end in _paired(old_text[old_at:old_end], new_text[new_at:new_end]):
            part = old_at + one, old_at + one_end, new_at + other, new_at + other_end
            yield Part(*part, tuple(old[part[0] : part[1]]) == tuple(new[part[2] : part[3]]))


def _paired(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[int, int, int, int]]:
    """Ranges that belong together: one by one where there are as many, else those that are most alike, with what is between them."""
    if len(old) == len(new):
        pairs = [(number, number) for number in range(len(old))]
    elif len(old) * len(new) <= _MOST_ALIKE:
        pairs = _alike(old, new)
    else:
        pairs = []
    one = other = 0
    for at, there in [*pairs, (len(old), len(new))]:
        if (one, other) != (at, there):
            yield one, at, other, there
        if at < len(old) and there < len(new):
            yield at, at + 1, there, there + 1
        one, other = at + 1, there + 1


def _alike(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]]:
    """The pairs, in order on both sides, that are most alike in all: each by more than a half."""
    best: dict[tuple[int, int], tuple[float, tuple[tuple[int, int], ...]]] = {}
    for one in range(len(old), -1, -1):
        for other in range(len(new), -1, -1):
            choices: list[tuple[float, tuple[tuple[int, int], ...]]] = [(0.0, ())]
            choices += [best[place] for place in ((one + 1, other), (one, other + 1)) if place in best]
            if one < len(old) and other < len(new):
                likeness = SequenceMatcher(None, old[one], new[other], autojunk=False).ratio()
                below = best[one + 1, other + 1]
                if likeness > 0.5:
                    choices.append((below[0] + likeness, ((one, other), *below[1])))
            best[one, other] = max(choices)
    return list(best[0, 0][1])
