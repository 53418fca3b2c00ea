"""RUN for another architecture: by a handler where there is one, with a clear error where there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .foreign import MOUNT, arm64_program, registration, within
from .harness import Bench, clean_environ

pytestmark = pytest.mark.skipif(os.uname().machine == "aarch64", reason="needs another machine than arm64")
TEXT = 'FROM scratch\nCOPY --chmod=755 hello /hello\nRUN ["/hello"]\nCOPY <<EOF /f\nEOF\n'


@pytest.fixture
def foreign(tmp_path: Path) -> Bench:
    """An empty store, and a program for arm64 in the context."""
    bench = Bench(tmp_path, clean_environ(tmp_path / "home"))
    bench.write({"hello": arm64_program(b"hello from arm64\n"), "Buildfile": TEXT})
    return bench


BUILD = ("build", "--progress=plain", "-t", "x", "--platform=linux/arm64", ".")


def test_a_handler_runs_foreign_steps(foreign: Bench) -> None:
    done = within(foreign, f"{MOUNT}; {registration()}", *BUILD)
    assert done.output == ["hello from arm64"]
    assert foreign.image()["architecture"] == "arm64"
    # Once performed, no handler is needed.
    again = within(foreign, MOUNT, *BUILD)
    assert ", 0 performed" in again.err
    done = within(foreign, f"{MOUNT}; {registration()}", "run", "--rm", "--platform=linux/arm64", "x", "/hello")
    assert done.out == "hello from arm64\n"


def test_the_same_step_for_two_platforms_is_two_steps(foreign: Bench) -> None:
    done = within(foreign, f"{MOUNT}; {registration()}", *BUILD[:-2], "--platform=linux/amd64,linux/arm64", ".", code=None)
    assert done.code == 0, done.err
    steps = [line for line in done.err.splitlines() if line.startswith("#") and "RUN" in line]
    assert len(steps) == 2
    assert done.output == ["hello from arm64"] * 2


@pytest.mark.parametrize(
    ("setup", "words"),
    [
        (MOUNT, "no binfmt_misc handler is registered"),
        ("mount -t tmpfs none /proc/sys/fs/binfmt_misc", "no binfmt_misc handler is registered"),
        (f"{MOUNT}; {registration()}; echo 0 > /proc/sys/fs/binfmt_misc/arm64", "the handler arm64 for its programs is disabled"),
        (f"{MOUNT}; {registration(flags='')}", "without the flag F"),
    ],
)
def test_what_a_machine_lacks_is_said(foreign: Bench, setup: str, words: str) -> None:
    done = within(foreign, setup, *BUILD, code=20)
    assert len(done.errors) == 1
    assert "Buildfile:3" in done.err
    assert "the step is for linux/arm64" in done.err
    assert words in done.err
    assert "hint:" in done.err


def test_an_interpreter_in_the_root_needs_no_flag(foreign: Bench) -> None:
    text = 'FROM scratch\nCOPY --chmod=755 hello interpreter /\nRUN ["/hello"]\n'
    foreign.write({"Buildfile": text, "interpreter": Path("/usr/bin/qemu-aarch64-static").read_bytes()})
    done = within(foreign, f"{MOUNT}; {registration('/interpreter', '')}", *BUILD)
    assert done.output == ["hello from arm64"]


def test_stages_that_run_nothing_need_no_handler(foreign: Bench) -> None:
    foreign.write({"Buildfile": "FROM scratch\nCOPY hello /\nWORKDIR /w\nENV A=b\nCMD [\"/hello\"]\n"})
    within(foreign, MOUNT, *BUILD)
    assert foreign.image()["architecture"] == "arm64"
    done = within(foreign, MOUNT, "run", "--rm", "--platform=linux/arm64", "x", code=None)
    assert done.code not in (0, 70)
    assert "binfmt_misc" in done.err


def test_programs_of_this_machine_for_a_mistaken_platform(foreign: Bench) -> None:
    """The handler is not asked where the machine runs the program itself: what it is said to be for does not matter then."""
    busybox = Path(shutil.which("busybox") or "").read_bytes()
    foreign.write({"busybox": busybox, "Buildfile": 'FROM scratch\nCOPY --chmod=755 busybox /\nRUN ["/busybox", "echo", "native"]\n'})
    done = within(foreign, f"{MOUNT}; {registration()}", *BUILD)
    assert done.output == ["native"]
