"""Threads for layers: bounded, in order, and kept."""

from __future__ import annotations

import threading

import pytest

from imgbuild.layer.compression import Compression
from imgbuild.solve import captures as module
from imgbuild.solve.captures import Captures


def wait_for(event: threading.Event) -> None:
    assert event.wait(60)


def test_what_comes_first_is_begun_first_and_may_be_waited_for() -> None:
    captures = Captures(2)
    done = [threading.Event() for _ in range(20)]
    order = []

    def job(number: int) -> None:
        order.append(number)
        if number:
            assert done[number - 1].wait(60)
        done[number].set()

    for number in range(20):
        captures.add(lambda number=number: job(number))  # type: ignore[misc]
    captures.join()
    assert all(event.is_set() for event in done)
    assert sorted(order) == list(range(20))


def test_threads_are_kept_and_no_more_than_allowed() -> None:
    captures = Captures(2)
    threads: set[int] = set()
    both = threading.Barrier(2)

    def meet() -> None:
        threads.add(threading.get_ident())
        both.wait(60)

    for _ in range(2):
        captures.add(meet)
    for _ in range(10):
        captures.add(lambda: threads.add(threading.get_ident()))
    captures.join()
    assert len(threads) == 2


def test_one_thread_is_enough_for_one_job_at_a_time() -> None:
    captures = Captures(2)
    threads: list[threading.Thread] = []
    for _ in range(5):
        begun = threading.Event()

        def job(begun: threading.Event = begun) -> None:
            threads.append(threading.current_thread())
            begun.set()

        captures.add(job)
        assert begun.wait(60)
    captures.join(60)
    captures.join()
    assert len(set(threads)) <= 2


def test_what_comes_late_is_done_too() -> None:
    captures = Captures(1)
    captures.join()
    late = threading.Event()
    captures.add(late.set)
    assert late.wait(60)
    captures.join()


def test_a_wait_has_an_end() -> None:
    captures = Captures(1)
    release = threading.Event()
    captures.add(lambda: wait_for(release))
    captures.join(0)
    release.set()
    captures.join()


def test_who_adds_waits_where_too_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    captures = Captures(1)
    release, begun = threading.Event(), threading.Event()
    added: list[int] = []
    done: list[int] = []

    def first() -> None:
        begun.set()
        wait_for(release)

    captures.add(first)
    wait_for(begun)

    def add_all() -> None:
        for number in range(10):
            captures.add(lambda number=number: done.append(number))  # type: ignore[misc]
            added.append(number)

    adding = threading.Thread(target=add_all)
    adding.start()
    while len(added) < 3:
        adding.join(0.001)
    adding.join(0.05)
    assert added == [0, 1, 2]
    release.set()
    adding.join(60)
    captures.join()
    assert done == list(range(10))


def test_a_layer_waits_for_the_next_command_or_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 600.0)
    captures = Captures(1)
    captures.command_runs(Compression("none"), lambda: None)
    begun = threading.Event()
    captures.add(begun.set)
    captures.command_runs(Compression("none"), lambda: None)
    wait_for(begun)
    last = threading.Event()
    captures.add(last.set)
    captures.join()
    assert last.is_set()


def test_without_a_next_command_it_does_not_wait_for_long() -> None:
    captures = Captures(1)
    begun = threading.Event()
    captures.add(begun.set)
    wait_for(begun)
    captures.join()
