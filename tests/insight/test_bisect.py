"""The search for the first bad state, and the line from one image to another."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.insight.bisect import Verdict, parts, search, search_back, verdict_of

LINES = st.integers(1, 40).flatmap(lambda last: st.tuples(st.just(last), st.integers(1, last), st.sets(st.integers(1, max(1, last - 1)))))


@given(LINES)
def test_the_first_bad_one_is_among_the_found(line: tuple[int, int, set[int]]) -> None:
    last, first, skipped = line
    skipped -= {0, last}
    asked: list[int] = []

    def test(number: int) -> Verdict:
        assert 0 < number < last
        asked.append(number)
        return "skip" if number in skipped else "bad" if number >= first else "good"

    found = search(0, last, test)
    assert first in found
    assert set(found[:-1]) <= skipped
    assert len(set(asked)) == len(asked)
    if not skipped:
        assert found == (first,)
        assert len(asked) <= math.ceil(math.log2(last)) if last > 1 else not asked


@given(st.lists(st.sampled_from(["good", "bad", "skip"]), min_size=1, max_size=12))
def test_back_to_the_last_good_one(line: list[Verdict]) -> None:
    found = search_back(len(line), lambda number: line[number])
    states = [*line, "bad"]
    if "good" not in line:
        assert found == ()
        return
    last = max(number for number, verdict in enumerate(line) if verdict == "good")
    assert found[0] == last + 1
    assert states[found[-1]] == "bad"
    assert all(states[number] == "skip" for number in found[:-1])


@pytest.mark.parametrize(("code", "verdict"), [(0, "good"), (125, "skip"), (1, "bad"), (126, "bad"), (127, "bad"), (139, "bad")])
def test_exit_codes(code: int, verdict: str) -> None:
    assert verdict_of(code) == verdict


STACK = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 1)), max_size=8)


@given(STACK, STACK)
def test_parts_make_up_both_images(old: list[tuple[str, int]], new: list[tuple[str, int]]) -> None:
    digests = [[f"{text}{number}" for text, number in stack] for stack in (old, new)]
    found = list(parts(*digests, [text for text, _ in old], [text for text, _ in new]))
    assert [number for part in found for number in range(part.old, part.old_end)] == list(range(len(old)))
    assert [number for part in found for number in range(part.new, part.new_end)] == list(range(len(new)))
    for part in found:
        assert part.same == (digests[0][part.old : part.old_end] == digests[1][part.new : part.new_end])
    if old == new:
        assert all(part.same for part in found)


def test_what_belongs_together_is_what_is_alike() -> None:
    old = ["RUN echo 1 > /one", "RUN echo 2 > /two"]
    new = ["RUN echo 3 > /one", "COPY file /", "RUN echo 4 > /two", "ADD x /"]
    found = [(part.old, part.old_end, part.new, part.new_end) for part in parts(old, new, old, new)]
    assert found == [(0, 1, 0, 1), (1, 1, 1, 2), (1, 2, 2, 3), (2, 2, 3, 4)]
    assert [(part.old_end, part.new_end) for part in parts(["a"], ["xx", "yy"], ["a"], ["xx", "yy"])] == [(1, 2)]
