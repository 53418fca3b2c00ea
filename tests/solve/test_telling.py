"""What is looked for and told when there is time for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from imgbuild.solve.telling import Telling


def _telling(done: list[str]) -> Telling:
    def look() -> Callable[[], object]:
        done.append("looked")
        return partial(done.append, "told")

    return Telling(look, partial(done.append, "prepared"))


def test_it_is_told_once_and_at_the_end_at_last() -> None:
    done: list[str] = []
    with _telling(done) as telling:
        assert done == []
        telling()
        telling()
        telling.then(lambda: done.append("more"))
    assert done == ["looked", "told", "more"]
    done.clear()
    with pytest.raises(ValueError), _telling(done):
        raise ValueError
    assert done == ["looked", "told"]


def test_put_off_it_is_looked_for_in_parts_and_told_by_who_has_it() -> None:
    done: list[str] = []
    with _telling(done) as telling:
        telling.put_off()
    telling.then(partial(done.append, "ended"))
    assert done == []
    for _ in range(3):
        telling.go_on()
    assert done == ["prepared", "looked"]
    with telling:
        pass
    assert done == ["prepared", "looked", "told", "ended"]


def test_put_off_where_something_fails_it_is_told_at_once() -> None:
    done: list[str] = []
    with pytest.raises(ValueError), _telling(done) as telling:
        telling.put_off()
        raise ValueError
    assert done == ["looked", "told"]
