"""Steps that do not fit into memory together, by what they held before, do not run together."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.errors import Source, Span
from imgbuild.graph.ops import Limits, RunOp, Step
from imgbuild.solve.memory import Memory, expected, learn
from imgbuild.store.index import Index
from imgbuild.store.locks import Interrupted
from imgbuild.values import replace

MB = 1 << 20
SPAN = Span(Source("Buildfile", ("RUN make",)), 1, 1)
STEP = Step(RunOp(argv=("make",), env=(), user="", cwd="/", network="default", platform="linux/amd64", epoch=0), "[a 1/2] RUN make", SPAN)


def _never() -> bool:
    return False


def test_who_does_not_fit_waits_and_is_told_why() -> None:
    memory, said, entered = Memory(100 * MB), threading.Event(), threading.Event()
    reasons: list[str] = []

    def say(why: str) -> None:
        reasons.append(why)
        said.set()

    def second() -> None:
        with memory.held("second", 60 * MB, say, _never) as waited:
            assert waited > 0
            entered.set()

    with memory.held("first", 60 * MB, reasons.append, _never) as waited:
        assert waited == 0
        thread = threading.Thread(target=second)
        thread.start()
        assert said.wait(60)
        assert not entered.is_set()
    thread.join(60)
    assert entered.is_set()
    (why,) = reasons
    assert why == "before, it held 60.0 MiB of memory; 60.0 MiB of the 100.0 MiB that there are may be needed by first"


def test_who_fits_or_is_not_known_or_is_alone_does_not_wait() -> None:
    memory = Memory(100 * MB)
    with (
        memory.held("alone", 500 * MB, pytest.fail, _never),
        memory.held("unknown", 0, pytest.fail, _never),
    ):
        pass
    with memory.held("a", 50 * MB, pytest.fail, _never), memory.held("b", 50 * MB, pytest.fail, _never):
        pass
    with memory.held("unknown", 0, pytest.fail, _never), memory.held("large", 500 * MB, pytest.fail, _never):
        pass


def test_who_waits_can_be_stopped() -> None:
    memory, stopped = Memory(100 * MB), threading.Event()
    with memory.held("first", 90 * MB, pytest.fail, _never), pytest.raises(Interrupted):
        with memory.held("second", 90 * MB, lambda why: stopped.set(), stopped.is_set):
            pytest.fail("it does not fit")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 120), min_size=1, max_size=12))
def test_all_run_in_the_end_and_never_too_many(sizes: list[int]) -> None:
    memory, lock = Memory(100), threading.Lock()
    running: list[int] = []
    done: list[int] = []

    def run(size: int) -> None:
        with memory.held(str(size), size, lambda why: None, _never):
            with lock:
                running.append(size)
                known = [each for each in running if each]
                assert sum(known) <= 100 or len(known) == 1
            with lock:
                running.remove(size)
                done.append(size)

    threads = [threading.Thread(target=run, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == sorted(sizes)


def test_what_is_learned_of_a_step(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.db")

    def after(peak: int, *, whole: bool = True, subject: str = "Buildfile") -> int:
        learn(index, subject, STEP, {"peak_held": peak}, whole=whole)
        return expected(index, "Buildfile", STEP)

    assert expected(index, "Buildfile", STEP) == 0
    assert after(100 * MB) == 100 * MB
    assert after(105 * MB) == 100 * MB
    assert after(50 * MB, whole=False) == 100 * MB
    assert after(50 * MB) == 50 * MB
    assert after(200 * MB, whole=False) == 200 * MB
    assert after(900 * MB, subject="another") == 200 * MB
    learn(index, "Buildfile", STEP, {}, whole=False)
    assert expected(index, "Buildfile", replace(STEP, name="[a 2/3] RUN make")) == 200 * MB
    assert expected(index, "Buildfile", replace(STEP, name="[b 1/2] RUN make")) == 0
    assert isinstance(STEP.op, RunOp)
    limited = replace(STEP, op=replace(STEP.op, limits=Limits(memory=30 * MB)))
    assert expected(index, "Buildfile", limited) == 30 * MB
    index.close()
