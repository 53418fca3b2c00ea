"""The ready set: order, width, the first failure, and signals."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Hashable
from functools import partial

import pytest

from imgbuild.errors import StepFailed
from imgbuild.solve.workers import Workers, beside


def test_every_task_comes_after_what_it_needs() -> None:
    done: list[Hashable] = []
    needs = {number: [other for other in range(number) if number % (other + 1) == 0] for number in range(40)}
    Workers(4).run({number: partial(done.append, number) for number in range(40)}, needs)
    assert sorted(done) == list(range(40))  # type: ignore[type-var]
    for number, before in needs.items():
        assert all(done.index(other) < done.index(number) for other in before)


def test_what_can_wait_starts_when_nothing_else_could() -> None:
    done: list[Hashable] = []
    tasks = {name: partial(done.append, name) for name in ("check a", "check b", "a", "b", "c")}
    needs = {"check a": ["a"], "check b": ["b"], "b": ["a"], "c": ["b"]}
    Workers(1).run(tasks, needs, {"check a", "check b"})
    assert done == ["a", "b", "c", "check a", "check b"]


def test_as_many_at_once_as_the_width_says() -> None:
    together = threading.Barrier(3, timeout=60)
    Workers(3).run(dict.fromkeys(range(6), together.wait), {})
    running, most = 0, 0
    lock = threading.Lock()

    def count() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    Workers(1).run(dict.fromkeys(range(20), count), {})
    assert most == 1


def test_a_wide_graph_behind_a_narrow_place_is_widened_again() -> None:
    together = threading.Barrier(4, timeout=60)
    tasks: dict[Hashable, Callable[[], object]] = {"first": lambda: None} | dict.fromkeys(range(4), together.wait)
    Workers(4).run(tasks, {number: ["first"] for number in range(4)})  # type: ignore[arg-type]


def test_the_first_failure_is_raised_and_nothing_new_starts() -> None:
    started: list[str] = []
    workers = Workers(2)

    def fail() -> None:
        raise ValueError("first")

    def wait() -> None:
        workers.stopped.wait(60)
        raise KeyError("second")

    with pytest.raises(ValueError, match="first"):
        workers.run({"fail": fail, "wait": wait, "later": partial(started.append, "later")}, {"later": ["wait"]})
    workers.join(60)
    assert started == []


def test_a_limit_of_time_stops_what_runs() -> None:
    workers = Workers(2, 0.01)
    with pytest.raises(StepFailed, match=r"0\.01 s"):
        workers.run({"wait": lambda: workers.stopped.wait(60)}, {})  # type: ignore[dict-item]


def test_time_passes_while_a_task_runs() -> None:
    ticked = threading.Event()

    def wait() -> None:
        ticked.wait(60)

    Workers(2, tick=ticked.set).run({"wait": wait}, {})
    assert ticked.is_set()


def test_no_tasks() -> None:
    Workers(2).run({}, {})


def test_beside_hands_on_what_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        beside(lambda: print(1 // 0))
    beside(lambda: None)


def test_a_signal_reaches_the_one_who_waits_and_no_other() -> None:
    free = threading.Event()
    blocked: list[bool] = []

    def work() -> None:
        blocked.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        os.kill(os.getpid(), signal.SIGINT)
        free.wait(60)

    with pytest.raises(KeyboardInterrupt):
        beside(work)
    free.set()
    assert blocked == [True]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
