"""What is looked for and told when there is time for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from imgbuild.solve.telling import Telling
from imgbuild.solve.workers import Later


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
    with Later() as later:
        later.go_on()
        later.tell()
        with _telling(done) as telling:
            later.left = telling
            telling.put_off()
        telling.then(partial(done.append, "ended"))
        assert done == []
        for _ in range(3):
            later.go_on()
        assert done == ["prepared", "looked"]
    assert done == ["prepared", "looked", "told", "ended"]


def test_put_off_where_something_fails_it_is_told_at_once() -> None:
    done: list[str] = []
    with pytest.raises(ValueError), _telling(done) as telling:
        telling.put_off()
        raise ValueError
    assert done == ["looked", "told"]


def test_who_is_interrupted_looks_again() -> None:
    done: list[str] = []
    outcomes: list[type[BaseException] | None] = [KeyboardInterrupt, None]

    def look() -> Callable[[], object]:
        if (error := outcomes.pop(0)) is not None:
            raise error
        return partial(done.append, "told")

    with pytest.raises(KeyboardInterrupt), Later() as later, Telling(look, lambda: None) as telling:
        later.left = telling
        telling.put_off()
        telling.then(partial(done.append, "ended"))
        telling.go_on()
        telling.go_on()
    assert done == ["told", "ended"]


def test_what_can_not_be_looked_for_ends_nevertheless() -> None:
    done: list[str] = []

    def look() -> Callable[[], object]:
        raise ZeroDivisionError

    for error in (None, ValueError):
        with pytest.raises(error or ZeroDivisionError), Later() as later:
            later.left = Telling(look, lambda: None)
            later.left.then(partial(done.append, "ended"))
            if error is not None:
                raise error
    assert done == ["ended", "ended"]
