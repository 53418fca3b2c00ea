"""Work beside who brings it: all of it, in order, and no thread for one item."""

from __future__ import annotations

import threading

import pytest

from imgbuild.layer.later import Later


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_everything_is_done_in_order(count: int) -> None:
    done: list[tuple[int, int]] = []
    with Later[int]("beside", lambda item: done.append((item, threading.get_ident())), 2) as later:
        for number in range(count):
            later.put(number)
    assert [item for item, _ in done] == list(range(count))
    assert len({thread for _, thread in done}) == min(count, 1)
    assert all((thread == threading.get_ident()) == (count == 1) for _, thread in done)


@pytest.mark.parametrize("count", [1, 2, 9])
def test_what_the_work_raises_is_raised(count: int) -> None:
    def fail(item: int) -> None:
        raise OSError(item)

    with pytest.raises(OSError, match="0"), Later[int]("beside", fail, 2) as later:
        for number in range(count):
            later.put(number)


def test_who_leaves_it_badly_ends_it() -> None:
    done: list[int] = []
    with pytest.raises(KeyError), Later[int]("beside", done.append, 2) as later:
        later.put(1)
        raise KeyError
    assert done == []
