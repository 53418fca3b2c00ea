"""Why a step failed, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgbuild.graph.ops import Limits, RunOp
from imgbuild.sandbox.spec import ExitStatus, Usage
from imgbuild.solve.words import failure

RUN = RunOp(("/bin/sh", "-c", "make"), (), "/", "", 0)
LIMITED = replace(RUN, limits=Limits(memory=64 << 20, timeout=90.0, idle_timeout=1.5))
PEAK = Usage(peak_memory=64 << 20)


@pytest.mark.parametrize(
    ("op", "status", "expired", "tail", "words"),
    [
        (RUN, ExitStatus(2), "", "", "exit code 2"),
        (RUN, ExitStatus(0, signal=9), "", "", r"signal 9 \(SIGKILL\)"),
        (RUN, ExitStatus(0, signal=35), "", "", "signal 35"),
        (LIMITED, ExitStatus(137, signal=9, oom=True, usage=PEAK), "", "", "limit 64.0 MiB, peak 64.0 MiB"),
        (RUN, ExitStatus(137, signal=9, oom=True, usage=PEAK), "", "", "the machine ran out of memory"),
        (LIMITED, ExitStatus(137, signal=9), "timeout", "", "--timeout of 90 s"),
        (LIMITED, ExitStatus(137, signal=9), "idle-timeout", "", "--idle-timeout of 1.5 s"),
        (RUN, ExitStatus(1), "", "cp: No space left on device", "no space"),
        (RUN, ExitStatus(127, setup_error="no such file"), "", "", "did not start: no such file"),
    ],
)
def test_messages(op: RunOp, status: ExitStatus, expired: str, tail: str, words: str) -> None:
    error = failure(op, status, expired, tail)
    with pytest.raises(type(error), match=words):
        raise error


@pytest.mark.parametrize(
    ("op", "status", "hint"),
    [
        (RUN, ExitStatus(127, setup_error="x"), "no shell"),
        (replace(RUN, argv=("nope",)), ExitStatus(127, setup_error="x"), "'nope' is not in the image"),
        (replace(RUN, argv=("nope",)), ExitStatus(126, setup_error="x"), "not executable"),
        (RUN, ExitStatus(139), "11 (SIGSEGV)"),
        (replace(RUN, argv=("/bin/sh", "-c", '["a" "b"]')), ExitStatus(127), "JSON"),
    ],
)
def test_hints(op: RunOp, status: ExitStatus, hint: str) -> None:
    assert hint in (failure(op, status, "", "").hint or "")


def test_the_end_of_the_log_is_shown() -> None:
    assert failure(RUN, ExitStatus(1), "", "last words").detail == "last words"
