"""A control group that we made, what it cost, and the small files by which the kernel is asked.

Writes are single os.write calls: a file object would hide EBUSY until it is closed.
"""

from __future__ import annotations

import errno
import os

from imgbuild.hints import TYPE_CHECKING
from imgbuild.light.contextlib import suppress
from imgbuild.sandbox.spec import Usage
from imgbuild.values import dataclass, field

if TYPE_CHECKING:
    from resource import struct_rusage

ACCOUNTED = ("memory", "cpuacct", "pids")
_NOWHERE = "/nonexistent"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a group's processes cost, as `spec.Usage` has it; None where its hierarchy can't say."""

    peak_memory: int | None = None
    cpu_seconds: float | None = None
    oom_kills: int | None = None
    peak_held: int | None = None
    cpu_user: float | None = None
    cpu_system: float | None = None
    bytes_read: int | None = None
    bytes_written: int | None = None
    throttled: int | None = None
    throttled_seconds: float | None = None

    def usage(self, waited: struct_rusage, wall: float) -> Usage:
        """What a group says, and what it does not, of the processes that were waited for; `wall` seconds after their start."""
        largest = waited.ru_maxrss * 1024
        seconds = waited.ru_utime + waited.ru_stime if self.cpu_seconds is None else self.cpu_seconds
        # Of v1 these are counted in ticks, and the sum is not: they only say how it is divided.
        user, system = self.cpu_user or 0.0, self.cpu_system or 0.0
        if user + system <= 0:
            user, system = waited.ru_utime, waited.ru_stime
        part = user / (user + system) if user + system > 0 else 0.5
        return Usage(
            peak_memory=largest if self.peak_memory is None else self.peak_memory,
            cpu_seconds=seconds,
            bytes_written=waited.ru_oublock * 512 if self.bytes_written is None else self.bytes_written,
            wall_seconds=wall,
            cpu_user=seconds * part,
            cpu_system=seconds * (1 - part),
            peak_held=largest if self.peak_held is None else max(largest, self.peak_held),
            bytes_read=waited.ru_inblock * 512 if self.bytes_read is None else self.bytes_read,
            oom_kills=self.oom_kills,
            throttled=self.throttled,
            throttled_seconds=self.throttled_seconds,
        )


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
    memory, accounts = directories.get("memory", _NOWHERE), directories.get("cpuacct", _NOWHERE)
    stat = _pairs(f"{memory}/memory.stat")
    peak = _number(f"{memory}/memory.max_usage_in_bytes")
    cache = stat.get("total_cache", 0) - stat.get("total_shmem", 0)
    throttle = _pairs(f"{directories.get('cpu', accounts)}/cpu.stat")
    io = _io_v1(f"{directories['blkio']}/blkio.throttle.io_service_bytes") if "blkio" in directories else (None, None)
    return Figures(
        peak_memory=peak,
        peak_held=_held(peak, cache),
        cpu_seconds=_scaled(_number(f"{accounts}/cpuacct.usage"), 1e9),
        cpu_user=_scaled(_number(f"{accounts}/cpuacct.usage_user"), 1e9),
        cpu_system=_scaled(_number(f"{accounts}/cpuacct.usage_sys"), 1e9),
        oom_kills=_pairs(f"{memory}/memory.oom_control").get("oom_kill"),
        bytes_read=io[0],
        bytes_written=io[1],
        throttled=throttle.get("nr_throttled"),
        throttled_seconds=_scaled(throttle.get("throttled_time"), 1e9),
    )


def _figures_v2(path: str) -> Figures:
    cpu, stat = _pairs(f"{path}/cpu.stat"), _pairs(f"{path}/memory.stat")
    peak = _number(f"{path}/memory.peak")
    io = _io_v2(f"{path}/io.stat")
    return Figures(
        peak_memory=peak,
        peak_held=_held(peak, stat.get("file", 0) - stat.get("shmem", 0)),
        cpu_seconds=_scaled(cpu.get("usage_usec"), 1e6),
        cpu_user=_scaled(cpu.get("user_usec"), 1e6),
        cpu_system=_scaled(cpu.get("system_usec"), 1e6),
        oom_kills=_pairs(f"{path}/memory.events").get("oom_kill"),
        bytes_read=io[0],
        bytes_written=io[1],
        throttled=cpu.get("nr_throttled"),
        throttled_seconds=_scaled(cpu.get("throttled_usec"), 1e6),
    )


def _held(peak: int | None, cache: int) -> int | None:
    return None if peak is None else max(0, peak - max(0, cache))


def _scaled(number: int | None, unit: float) -> float | None:
    return None if number is None else number / unit


def _number(path: str) -> int | None:
    with suppress(OSError, ValueError):
        return int(read(path))
    return None


def _pairs(path: str) -> dict[str, int]:
    with suppress(OSError, ValueError):
        return pairs(path)
    return {}


def _io_v1(path: str) -> tuple[int | None, int | None]:
    """Bytes read and written, of lines that are a device, what was done, and a number."""
    with suppress(OSError, ValueError):
        words = [line.split() for line in read(path).splitlines()]
        done = {kind: sum(int(each[2]) for each in words if each[1:2] == [kind]) for kind in ("Read", "Write")}
        return done["Read"], done["Write"]
    return None, None


def _io_v2(path: str) -> tuple[int | None, int | None]:
    """Bytes read and written, of lines that are a device and what was done, as NAME=NUMBER."""
    with suppress(OSError, ValueError):
        words = [word.partition("=") for line in read(path).splitlines() for word in line.split()[1:]]
        read_, written = (sum(int(value) for name, _, value in words if name == kind) for kind in ("rbytes", "wbytes"))
        return read_, written
    return None, None


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
