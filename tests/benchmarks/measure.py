"""Time, CPU and memory of a row of commands, with what their daemon did for them."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PATIENCE_SECONDS = 5.0

WARM = 512 << 20
"""Bytes of memory that are touched before each timing: as much as most of what is timed gets anew."""
_POPULATE_WRITE = 23


class CommandFailed(Exception):
    """A command ended with an error; the text is what it wrote."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Wall seconds; CPU seconds of all processes, user and system, None where no control group counts them; the peak of the largest
    process in bytes."""

    seconds: float
    cpu: float | None
    peak: int


@dataclass(frozen=True, slots=True)
class Command:
    """A command with what it adds to the environment."""

    argv: Sequence[str]
    environment: Mapping[str, str]


class Account:
    """A control group that counts the CPU time of a tool's processes: clients, daemons, and steps that stay below it."""

    apart = False
    """Whether its processes do not see the tree of cgroup v2."""

    def __init__(self, name: str) -> None:
        self.name = f"bench-of-imgbuild-{os.getpid()}-{name}"
        place = _controller()
        self._directory = place / self.name if place else None
        if self._directory is not None:
            try:
                self._directory.mkdir()
            except OSError:
                self._directory = None

    @property
    def procs(self) -> str | None:
        """The file by which a process joins."""
        return str(self._directory / "cgroup.procs") if self._directory is not None else None

    def join(self) -> None:
        """Put the calling process in. For a child that is about to be a command."""
        if self._directory is not None:
            (self._directory / "cgroup.procs").write_text(str(os.getpid()))

    def seconds(self) -> float | None:
        """CPU seconds so far."""
        if self._directory is None:
            return None
        usage = self._directory / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        lines = (self._directory / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) / 1e6 for line in lines if line.startswith("usage_usec"))

    def close(self) -> None:
        """Remove the group, what others made below it, and the groups of its name that they made in the other trees of v1. The last
        processes of a daemon that was ended are on their way out for a while."""
        end = time.monotonic() + _PATIENCE_SECONDS
        for place, _ in _trees():
            while (place / self.name).exists():
                _remove(place / self.name)
                if time.monotonic() > end:
                    break
                time.sleep(0.05)


@contextlib.contextmanager
def leaving_none(name: str) -> Iterator[None]:
    """Remove the control groups of this name that somebody makes in the block and leaves, as far as they are empty."""
    there = {place for place, _ in _trees() if (place / name).exists()}
    try:
        yield
    finally:
        for place, _ in _trees():
            if place not in there:
                _remove(place / name)


def _remove(group: Path) -> None:
    for path, _, _ in os.walk(group, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _controller() -> Path | None:
    """Where a group that counts CPU time can be made: v1's cpuacct, else the one tree of v2."""
    trees = _trees()
    for place, after in trees:
        if after[0] == "cgroup" and "cpuacct" in after[2].split(","):
            return place
    return next((place for place, after in trees if after[0] == "cgroup2"), None)


def _trees() -> list[tuple[Path, list[str]]]:
    """Where control groups are, with the kind of file system, its source and its options."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split(" - ") for line in file]
    places = [(Path(before.split()[4]), after.split()) for before, after in rows]
    return [(place, after) for place, after in places if after[0] in ("cgroup", "cgroup2")]


def surroundings() -> dict[str, str]:
    """The environment of what is timed: as a user's, who has set nothing for Python, as this program and whoever develops it may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def warm_memory(size: int) -> None:
    """Touch so much of the machine's free memory, but no more than an eighth of all, in small pages as the page cache has them, and let go
    of it.

    What a virtual machine has given back to its host, or the host has taken from it, costs a second or two a GB when it is used next,
    and nothing tells which it is: who of those that are compared has it would be chance.
    """
    most = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // 8
    with mmap.mmap(-1, min(size, most), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        with contextlib.suppress(OSError):  # there may be no huge pages to do without
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        with contextlib.suppress(OSError):  # not before Linux 5.14
            memory.madvise(_POPULATE_WRITE)


class Launcher:
    """The small process that starts what is timed. A context manager."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, commands: Sequence[Command], account: Account, log: Path, daemons: Sequence[int] = (), memory: int = WARM) -> Sample:
        """Run one command after another, in a machine of which so much free memory is warm. CommandFailed with what it wrote, where one
        fails."""
        warm_memory(memory)
        for pid in daemons:
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        before = account.seconds()
        peak, seconds = 0, 0.0
        for command in commands:
            log.unlink(missing_ok=True)
            took, status, largest = self._once(command, account, log)
            if code := os.waitstatus_to_exitcode(status):
                said = log.read_text(errors="replace")[-3000:]
                raise CommandFailed(f"{' '.join(command.argv)}\nexit code {code}\n{said}")
            seconds += took
            peak = max(peak, largest)
        after = account.seconds()
        cpu = None if before is None or after is None else after - before
        return Sample(seconds, cpu, max([peak, *map(_peak, daemons)]))

    def _once(self, command: Command, account: Account, log: Path) -> tuple[float, int, int]:
        job = {
            "argv": list(command.argv),
            "env": {**surroundings(), **command.environment},
            "log": str(log),
            "procs": account.procs,
            "apart": account.apart,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        seconds, status, peak = json.loads(self._process.stdout.readline())
        return seconds, status, peak


def _peak(pid: int) -> int:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def daemon(argv: Sequence[str], account: Account, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours in the background; it ends with the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=account.join  # noqa: PLW1509 (there are no threads)
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
