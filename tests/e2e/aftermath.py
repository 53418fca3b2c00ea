"""What a process left behind: its processes, mounts and control groups; and commands that die on the way."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .harness import PATIENCE, Bench

DYING = Path(__file__).with_name("dying.py")


def die(bench: Bench, moment: int, whom: str, *arguments: str | Path) -> tuple[int, int]:
    """Run a command that is killed at its change number `moment`, with its group or alone; when all of it is over, its exit code
    and what its process id was."""
    command = [sys.executable, str(DYING), str(moment), whom, str(bench.place / "changes"), "--root", str(bench.root)]
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=bench.environ,
        cwd=bench.context,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        # Read to its end, as a pipe that is full would hold it up; the end comes when the last of its processes is gone.
        said = process.stderr.read().decode()
        code = process.wait(PATIENCE)
    assert "Traceback" not in said
    # A supervisor or a step's process may be the one that dies; then the command says so, and ends with an error of its own.
    assert code in (0, -signal.SIGKILL) or said.startswith("imgbuild: error: "), said
    return code, process.pid


def changes(bench: Bench, *arguments: str | Path) -> int:
    """How many changes a command makes that is left alone."""
    code, _ = die(bench, 0, "alone", *arguments)
    assert code == 0
    return int((bench.place / "changes").read_text())


def wait_for_the_end_of(found: Callable[[], list[int]]) -> None:
    """Return when there is none of these processes any more: of what was killed, some are only on their way out."""
    deadline = time.monotonic() + PATIENCE
    while left := found():
        poll = select.poll()
        for pid in left:
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                poll.register(descriptor, select.POLLIN)
                assert poll.poll(max(0, deadline - time.monotonic()) * 1000), f"process {pid} does not end"
                poll.unregister(descriptor)
            finally:
                os.close(descriptor)


def groups() -> set[str]:
    """All control groups of imgbuild. os.walk, as it does not mind that what it finds is gone."""
    found = os.walk("/sys/fs/cgroup")
    return {f"{place}/{name}" for place, names, _ in found for name in names if name.startswith("imgbuild-")}


def assert_no_groups(pid: int) -> None:
    """There is no control group of this process, which is dead. (Others belong to tests that run beside this one.)"""
    assert [path for path in groups() if Path(path).name.startswith(f"imgbuild-{pid}-")] == []


def assert_no_new_groups(before: set[str]) -> None:
    """Each control group that was not there before has an owner that lives, at the latest when tests beside this one cleaned up."""
    deadline = time.monotonic() + PATIENCE
    while left := [path for path in groups() - before if not Path("/proc", Path(path).name.split("-")[1]).exists()]:
        assert time.monotonic() < deadline, left


def assert_nothing_left(bench: Bench) -> None:
    """The store is whole, and of what was killed nothing is left: no process, no mount, no group, no temporary file."""
    wait_for_the_end_of(bench.processes)
    bench.assert_whole()
    assert bench.run("ps", "-aq").out == ""
    assert list((bench.root / "containers").iterdir()) == []
