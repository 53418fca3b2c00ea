"""Counts what a piece of work does, so that a test can say how it grows: no clock, the same number each time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType


def calls(work: Callable[[], object]) -> int:
    """How many functions, of Python and of C, `work` calls in this thread; a generator's steps count, too."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def growth(work: Callable[[int], object], size: int) -> float:
    """How many times the calls that `work` makes for twice the size are those for `size`: 2 where it is linear, 4 where quadratic."""
    work(2)  # what is made once
    return calls(lambda: work(2 * size)) / calls(lambda: work(size))
