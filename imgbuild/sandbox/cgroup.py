"""Control groups: one group for each sandbox, to hold its limits, to read what it cost, and to kill all of it. v1 (also hybrid), v2, none.

Groups lie below the group that this process is in, where it may make them, and are named after their owner
(``imgbuild-PID-STARTTIME-SUFFIX``), so that `sweep` finds those whose owner died. No other group is ever touched.
Writes are single os.write calls: a file object would hide EBUSY until it is closed.
Source: the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/*.rst.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import field

from imgbuild.errors import SandboxError
from imgbuild.sandbox.spec import Limits
from imgbuild.values import dataclass

PREFIX = "imgbuild-"

_PERIOD = 100_000  # microseconds, as everywhere
_ACCOUNTED = ("memory", "cpuacct", "pids")
_DELEGATION = "run in a delegated group: systemd-run --user --scope -p Delegate=yes ... (see systemd.resource-control(5)), or as root"
_NO_SWAP = "boot with swapaccount=1, or leave the limit of swap out"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a group's processes cost; None where its hierarchy can't say."""

    peak_memory: int | None = None
    cpu_seconds: float | None = None
    oom: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process is: `unified`, its directory in the v2 hierarchy, if controllers live there, with its mount point;
    `controllers`: its directory in each v1 hierarchy."""

    unified: str = ""
    unified_top: str = ""
    controllers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Group:
    """A group that we made: its directory for each controller (v1), or one (v2, under the key "")."""

    directories: dict[str, str]

    def descriptor(self) -> int | None:
        """A directory descriptor for CLONE_INTO_CGROUP; None for v1. The caller closes it."""
        path = self.directories.get("")
        return None if path is None else os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def add(self, pid: int) -> None:
        """Put a process into the group."""
        for directory in self.directories.values():
            _write(f"{directory}/cgroup.procs", str(pid))

    def figures(self) -> Figures:
        """What it cost so far."""
        return _figures_v2(self.directories[""]) if "" in self.directories else _figures_v1(self.directories)

    def kill(self) -> None:
        """SIGKILL to all in it: at once where the kernel can (v2, Linux 5.14), else one by one."""
        for directory in self.directories.values():
            if os.path.exists(f"{directory}/cgroup.kill"):
                _write(f"{directory}/cgroup.kill", "1")
                continue
            for pid in _read(f"{directory}/cgroup.procs").split():
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


def here(mountinfo: str = "/proc/self/mountinfo", membership: str = "/proc/self/cgroup") -> Place:
    """Where this process is in the hierarchies that are mounted."""
    paths: dict[str, str] = {}
    for line in _read(membership).splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = path
    controllers: dict[str, str] = {}
    unified = top = ""
    for root, point, fstype, options in _cgroup_mounts(mountinfo):
        if fstype == "cgroup2":
            unified, top = _below(point, root, paths.get("", "/")), point
            continue
        for option in options:
            if option in paths and option not in controllers:
                controllers[option] = _below(point, root, paths[option])
    return Place(unified, top, {name: controllers[name] for name in (*_ACCOUNTED, "cpu", "freezer") if name in controllers})


def step_aside(place: Place) -> None:
    """On v2, where this process is alone in its group, move it into a leaf: a group with processes in it can't have children with
    controllers. To be called before the zygote is forked. Does nothing where it is not needed, or not possible."""
    if place.controllers or place.unified in ("", place.unified_top):
        return
    with suppress(OSError):
        if _read(f"{place.unified}/cgroup.procs").split() == [str(os.getpid())] and os.access(place.unified, os.W_OK):
            leaf = f"{place.unified}/{PREFIX}{owner_of(os.getpid())}-self"
            os.mkdir(leaf)
            _write(f"{leaf}/cgroup.procs", "0")


def create(place: Place, owner: str, suffix: str, limits: Limits) -> Group | None:
    """A group with limits; None where none can be made and no limits were asked for. SandboxError where a limit can't be held."""
    name = f"{PREFIX}{owner}-{suffix}"
    try:
        group = _create_v1(place, name, limits) if place.controllers else _create_v2(place, name, limits) if place.unified else None
    except OSError as error:
        if not limits:
            return None
        raise SandboxError(f"limits can't be set: {error.strerror} ({error.filename})", hint=_DELEGATION) from None
    if group is None and limits:
        raise SandboxError("limits can't be set: no cgroup file system is mounted", hint="ask for no limits")
    return group


def owner_of(pid: int) -> str:
    """PID-STARTTIME of a process: a name that no later process has."""
    return f"{pid}-{_start_time(pid)}"


def sweep(place: Place) -> int:
    """Remove empty groups whose owners are dead; returns how many. The owner of one with processes may live in another PID namespace."""
    count = 0
    parents = {*place.controllers.values(), place.unified, os.path.dirname(place.unified)} - {""}
    for parent in parents:
        with suppress(OSError):
            for name in os.listdir(parent):
                if name.startswith(PREFIX) and not _owner_lives(name):
                    with suppress(OSError):
                        os.rmdir(f"{parent}/{name}")
                        count += 1
    return count


def joinable(pid: int, mountinfo: str = "/proc/self/mountinfo") -> tuple[str, ...]:
    """The directories of those of our groups that a process is in, for one that shall join it."""
    found = []
    mounts = tuple(_cgroup_mounts(mountinfo))
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if not path.rpartition("/")[2].startswith(PREFIX):
            continue
        for root, point, fstype, options in mounts:
            if (fstype == "cgroup2") if not names else (fstype == "cgroup" and set(names.split(",")) & set(options)):
                found.append(_below(point, root, path))
                break
    return tuple(found)


def join(directory: str) -> None:
    """Put this process into a group."""
    _write(f"{directory}/cgroup.procs", "0")


# --- v1


def _create_v1(place: Place, name: str, limits: Limits) -> Group | None:
    wanted = {
        "memory": limits.memory is not None or limits.memory_swap is not None,
        "cpu": limits.cpus is not None,
        "pids": limits.pids is not None,
    }
    group = Group({})
    try:
        for controller in (*_ACCOUNTED, "cpu"):
            directory = place.controllers.get(controller)
            needed = wanted.get(controller, False)
            if directory is None and needed:
                raise SandboxError(f"limits can't be set: the kernel has no {controller} cgroup controller")
            if directory is None or (controller == "cpu" and not needed):
                continue
            # cpu and cpuacct may be one hierarchy, and so one directory.
            path = f"{directory}/{name}"
            if path in group.directories.values():
                continue
            try:
                os.mkdir(path)
            except OSError:
                if not needed:
                    continue
                raise
            group.directories[controller] = path
        _limit_v1({**group.directories, **_shared(place, group)}, limits)
    except BaseException:
        group.remove()
        raise
    return group if group.directories else None


def _shared(place: Place, group: Group) -> dict[str, str]:
    """Where "cpu" is when its hierarchy is that of "cpuacct"."""
    if place.controllers.get("cpu") == place.controllers.get("cpuacct") and "cpuacct" in group.directories:
        return {"cpu": group.directories["cpuacct"]}
    return {}


def _limit_v1(directories: dict[str, str], limits: Limits) -> None:
    if limits.memory is not None:
        _write(f"{directories['memory']}/memory.limit_in_bytes", str(limits.memory))
    swap = _swap(limits)
    if swap is not None:
        path = f"{directories['memory']}/memory.memsw.limit_in_bytes"
        if os.path.exists(path):
            _write(path, str(swap))
        elif limits.memory_swap is not None:
            raise SandboxError("swap can't be limited: the kernel does not account for it", hint=_NO_SWAP)
    if limits.cpus is not None:
        _write(f"{directories['cpu']}/cpu.cfs_period_us", str(_PERIOD))
        _write(f"{directories['cpu']}/cpu.cfs_quota_us", str(_quota(limits.cpus)))
    if limits.pids is not None:
        _write(f"{directories['pids']}/pids.max", str(limits.pids))


def _figures_v1(directories: dict[str, str]) -> Figures:
    peak: int | None = None
    seconds: float | None = None
    oom = False
    if "memory" in directories:
        with suppress(OSError, ValueError):
            peak = int(_read(f"{directories['memory']}/memory.max_usage_in_bytes"))
        with suppress(OSError, ValueError):
            oom = _pairs(f"{directories['memory']}/memory.oom_control").get("oom_kill", 0) > 0
    if "cpuacct" in directories:
        with suppress(OSError, ValueError):
            seconds = int(_read(f"{directories['cpuacct']}/cpuacct.usage")) / 1e9
    return Figures(peak, seconds, oom)


# --- v2


def _create_v2(place: Place, name: str, limits: Limits) -> Group | None:
    needed = {
        *(("memory",) if limits.memory is not None or limits.memory_swap is not None else ()),
        *(("cpu",) if limits.cpus is not None else ()),
        *(("pids",) if limits.pids is not None else ()),
    }
    problem: OSError | None = None
    for parent in _parents_v2(place):
        path = f"{parent}/{name}"
        try:
            _enable(parent, needed, ours=parent == place.unified)
            os.mkdir(path)
        except OSError as error:
            problem = problem or error
            continue
        group = Group({"": path})
        try:
            _limit_v2(path, limits)
        except BaseException:
            group.remove()
            raise
        return group
    if problem is not None:
        raise problem
    return None


def _parents_v2(place: Place) -> Iterator[str]:
    """Where a group may be made: below our own group; if that can't have controllers because processes are in it ("no internal
    processes"), beside it."""
    yield place.unified
    if place.unified != place.unified_top:
        yield os.path.dirname(place.unified)


def _enable(parent: str, needed: set[str], *, ours: bool) -> None:
    """See to it that the children of `parent` have controllers. Only our own group is changed for that."""
    enabled = set(_read(f"{parent}/cgroup.subtree_control").split())
    missing = needed - enabled
    if not missing:
        return
    lacking = missing - set(_read(f"{parent}/cgroup.controllers").split())
    if lacking:
        raise OSError(errno.ENOENT, f"the controller {min(lacking)!r} is not available", parent)
    if not ours:
        raise OSError(errno.EPERM, f"the controller {min(missing)!r} is not enabled", parent)
    _write(f"{parent}/cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))


def _limit_v2(path: str, limits: Limits) -> None:
    if limits.memory is not None:
        _write(f"{path}/memory.max", str(limits.memory))
    swap = _swap(limits)
    if swap is not None:
        file = f"{path}/memory.swap.max"
        if os.path.exists(file):
            _write(file, "max" if swap < 0 else str(swap - (limits.memory or 0)))
        elif limits.memory_swap is not None:
            raise SandboxError("swap can't be limited: the kernel does not account for it", hint=_NO_SWAP)
    if limits.cpus is not None:
        _write(f"{path}/cpu.max", f"{_quota(limits.cpus)} {_PERIOD}")
    if limits.pids is not None:
        _write(f"{path}/pids.max", str(limits.pids))


def _figures_v2(path: str) -> Figures:
    peak: int | None = None
    seconds: float | None = None
    oom = False
    with suppress(OSError, ValueError):
        seconds = _pairs(f"{path}/cpu.stat")["usage_usec"] / 1e6
    with suppress(OSError, ValueError):
        peak = int(_read(f"{path}/memory.peak"))
    with suppress(OSError, ValueError):
        oom = _pairs(f"{path}/memory.events").get("oom_kill", 0) > 0
    return Figures(peak, seconds, oom)


# --- both


def _swap(limits: Limits) -> int | None:
    """Memory and swap together: as asked, else twice the memory, as docker has it."""
    if limits.memory_swap is not None:
        return limits.memory_swap
    return None if limits.memory is None else 2 * limits.memory


def _quota(cpus: float) -> int:
    return max(1000, round(cpus * _PERIOD))


def _below(point: str, root: str, path: str) -> str:
    """A group's directory below a mount that may show only a part (`root`) of its hierarchy."""
    if root != "/" and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return point + path.rstrip("/")


def _cgroup_mounts(mountinfo: str) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """(root, mount point, type, super options) of each cgroup file system."""
    for line in _read(mountinfo).splitlines():
        before, _, after = line.partition(" - ")
        fstype, _, options = after.split(" ", 2)
        if fstype in ("cgroup", "cgroup2"):
            parts = before.split()
            yield parts[3], parts[4], fstype, tuple(options.split(","))


def _owner_lives(name: str) -> bool:
    parts = name.removeprefix(PREFIX).split("-")
    if len(parts) < 2 or not parts[0].isdigit():
        return True  # not one of ours
    return _start_time(int(parts[0])) == parts[1]


def _start_time(pid: int) -> str:
    try:
        return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _pairs(path: str) -> dict[str, int]:
    return {key: int(value) for key, _, value in (line.partition(" ") for line in _read(path).splitlines())}


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 65536):
            pieces.append(piece)
        return b"".join(pieces).decode(errors="surrogateescape")
    finally:
        os.close(fd)


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"writing {value}: {error.strerror}", path) from None
    finally:
        os.close(fd)
