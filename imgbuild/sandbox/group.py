"""A control group that we made, what it cost, and the small files by which the kernel is asked.

Writes are single os.write calls: a file object would hide EBUSY until it is closed.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from imgbuild.values import dataclass, field

ACCOUNTED = ("memory", "cpuacct", "pids")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a group's processes cost; None where its hierarchy can't say."""

    peak_memory: int | None = None
    cpu_seconds: float | None = None
    oom: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process is: `unified`, its directory in the v2 hierarchy, if controllers live there, with its mount point;
    `controllers`: its directory in each v1 hierarchy that limits or accounts; `devices`: the one in the v1 hierarchy of devices."""

    unified: str = ""
    unified_top: str = ""
    controllers: dict[str, str] = field(default_factory=dict)
    devices: str = ""


@dataclass(slots=True)
class Group:
    """A group that we made: its directory for each controller (v1), or one (v2, under the key "")."""

    directories: dict[str, str]

    def descriptor(self) -> int | None:
        """A directory descriptor for CLONE_INTO_CGROUP; None for v1. The caller closes it."""
        path = self.directories.get("")
        return None if path is None else os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def entries(self) -> tuple[str, ...]:
        """The files by which a process of one thread joins the group (`join`)."""
        return tuple(entry(directory, second=not key) for key, directory in self.directories.items())

    def figures(self) -> Figures:
        """What it cost so far."""
        return _figures_v2(self.directories[""]) if "" in self.directories else _figures_v1(self.directories)

    def kill(self) -> None:
        """SIGKILL to all in it: at once where the kernel can (v2, Linux 5.14), else one by one."""
        for directory in self.directories.values():
            if os.path.exists(f"{directory}/cgroup.kill"):
                write(f"{directory}/cgroup.kill", "1")
                continue
            for pid in read(f"{directory}/cgroup.procs").split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), 9)

    def remove(self) -> bool:
        """Remove its directories; False when some process is still on its way out of it (call again)."""
        for key, directory in tuple(self.directories.items()):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno == errno.EBUSY:
                    continue
                raise
            del self.directories[key]
        return not self.directories


def _figures_v1(directories: dict[str, str]) -> Figures:
    peak: int | None = None
    seconds: float | None = None
    oom = False
    if "memory" in directories:
        with suppress(OSError, ValueError):
            peak = int(read(f"{directories['memory']}/memory.max_usage_in_bytes"))
        with suppress(OSError, ValueError):
            oom = pairs(f"{directories['memory']}/memory.oom_control").get("oom_kill", 0) > 0
    if "cpuacct" in directories:
        with suppress(OSError, ValueError):
            seconds = int(read(f"{directories['cpuacct']}/cpuacct.usage")) / 1e9
    return Figures(peak, seconds, oom)


def _figures_v2(path: str) -> Figures:
    peak: int | None = None
    seconds: float | None = None
    oom = False
    with suppress(OSError, ValueError):
        seconds = pairs(f"{path}/cpu.stat")["usage_usec"] / 1e6
    with suppress(OSError, ValueError):
        peak = int(read(f"{path}/memory.peak"))
    with suppress(OSError, ValueError):
        oom = pairs(f"{path}/memory.events").get("oom_kill", 0) > 0
    return Figures(peak, seconds, oom)


def entry(directory: str, *, second: bool) -> str:
    """The file by which a process of one thread joins a group, of cgroup v2 where that is the `second`.

    In v1 it is the one for threads: a thread that moves itself alone can neither fork nor end meanwhile, so that the kernel does not
    wait for all processors to agree that nobody does (a grace period of RCU: 5 to 12 ms; cgroup_procs_write_start)."""
    return f"{directory}/cgroup.procs" if second else f"{directory}/tasks"


def join(file: str) -> None:
    """Put this process, which has one thread, into the group whose `entry` it is."""
    write(file, "0")


def pairs(path: str) -> dict[str, int]:
    return {key: int(value) for key, _, value in (line.partition(" ") for line in read(path).splitlines())}


def read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
        return b"".join(pieces).decode(errors="surrogateescape")
    finally:
        os.close(fd)


def write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"writing {value}: {error.strerror}", path) from None
    finally:
        os.close(fd)
