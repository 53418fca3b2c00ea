"""How a control group comes to be: its directories and its limits in v1 (also hybrid) and v2, and the devices that it may open."""

from __future__ import annotations

import errno
import os

from imgbuild.errors import SandboxError
from imgbuild.hints import Iterator
from imgbuild.light.contextlib import suppress
from imgbuild.sandbox.group import ACCOUNTED, Group, Place, read, write
from imgbuild.sandbox.spec import Limits

_PERIOD = 100_000  # microseconds, as everywhere
_DEVICES = (
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm",
    "c 136:* rwm",
)  # fmt: skip
"""What container engines allow: to make any node; to open null, zero, full, random, urandom, tty, console, ptmx, terminals."""
_NO_WEIGHTS = "use the bfq scheduler, or limit by --io-read-bps and the like"
_NO_SWAP = "boot with swapaccount=1, or leave the limit of swap out"


# --- v1


def create_v1(place: Place, name: str, limits: Limits) -> Group | None:
    wanted = {
        "memory": limits.memory is not None or limits.memory_swap is not None,
        "cpu": limits.cpus is not None,
        "pids": limits.pids is not None,
        "blkio": limits.limits_io,
    }
    group = Group({})
    try:
        for controller in (*ACCOUNTED, "cpu", "blkio"):
            directory = place.controllers.get(controller)
            needed = wanted.get(controller, False)
            if directory is None and needed:
                raise SandboxError(f"limits can't be set: the kernel has no {controller} cgroup controller")
            if directory is None or (controller in ("cpu", "blkio") and not needed):
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
        write(f"{directories['memory']}/memory.limit_in_bytes", str(limits.memory))
    swap = _swap(limits)
    if swap is not None:
        path = f"{directories['memory']}/memory.memsw.limit_in_bytes"
        if os.path.exists(path):
            write(path, str(swap))
        elif limits.memory_swap is not None:
            raise SandboxError("swap can't be limited: the kernel does not account for it", hint=_NO_SWAP)
    if limits.cpus is not None:
        write(f"{directories['cpu']}/cpu.cfs_period_us", str(_PERIOD))
        write(f"{directories['cpu']}/cpu.cfs_quota_us", str(_quota(limits.cpus)))
    if limits.pids is not None:
        write(f"{directories['pids']}/pids.max", str(limits.pids))
    if limits.limits_io:
        _limit_io_v1(directories["blkio"], limits)


def _limit_io_v1(path: str, limits: Limits) -> None:
    if limits.io_weight is not None:
        # Which of the two there is depends on the disk's scheduler; most have none.
        files = (f"{path}/blkio.weight", f"{path}/blkio.bfq.weight")
        file = next((file for file in files if os.path.exists(file)), None)
        if file is None:
            raise SandboxError("--io-weight can't be held: no scheduler of a disk knows weights", hint=_NO_WEIGHTS)
        write(file, str(limits.io_weight))
    for name, value in _io_rates(limits).items():
        kind, unit = ("read" if name[0] == "r" else "write"), name[1:]
        write(f"{path}/blkio.throttle.{kind}_{unit}_device", f"{limits.io_device} {value}")


# --- v2


def create_v2(place: Place, name: str, limits: Limits) -> Group | None:
    needed = {
        *(("memory",) if limits.memory is not None or limits.memory_swap is not None else ()),
        *(("cpu",) if limits.cpus is not None else ()),
        *(("pids",) if limits.pids is not None else ()),
        *(("io",) if limits.limits_io else ()),
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
    enabled = set(read(f"{parent}/cgroup.subtree_control").split())
    missing = needed - enabled
    if not missing:
        return
    lacking = missing - set(read(f"{parent}/cgroup.controllers").split())
    if lacking:
        raise OSError(errno.ENOENT, f"the controller {min(lacking)!r} is not available", parent)
    if not ours:
        raise OSError(errno.EPERM, f"the controller {min(missing)!r} is not enabled", parent)
    write(f"{parent}/cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))


def _limit_v2(path: str, limits: Limits) -> None:
    if limits.memory is not None:
        write(f"{path}/memory.max", str(limits.memory))
    swap = _swap(limits)
    if swap is not None:
        file = f"{path}/memory.swap.max"
        if os.path.exists(file):
            write(file, "max" if swap < 0 else str(swap - (limits.memory or 0)))
        elif limits.memory_swap is not None:
            raise SandboxError("swap can't be limited: the kernel does not account for it", hint=_NO_SWAP)
    if limits.cpus is not None:
        write(f"{path}/cpu.max", f"{_quota(limits.cpus)} {_PERIOD}")
    if limits.pids is not None:
        write(f"{path}/pids.max", str(limits.pids))
    if limits.io_weight is not None:
        if not os.path.exists(f"{path}/io.weight"):
            raise SandboxError("--io-weight can't be held: no scheduler of a disk knows weights", hint=_NO_WEIGHTS)
        write(f"{path}/io.weight", f"default {1 + (limits.io_weight - 10) * 9999 // 990}")
    rates = _io_rates(limits)
    if rates:
        write(f"{path}/io.max", " ".join((limits.io_device, *(f"{name}={value}" for name, value in rates.items()))))


# --- both


def _io_rates(limits: Limits) -> dict[str, int]:
    """The limits of a disk's use in a second, by io.max's names."""
    rates = {"rbps": limits.io_read_bps, "wbps": limits.io_write_bps, "riops": limits.io_read_iops, "wiops": limits.io_write_iops}
    return {name: value for name, value in rates.items() if value is not None}


def _swap(limits: Limits) -> int | None:
    """Memory and swap together: as asked, else twice the memory, as docker has it."""
    if limits.memory_swap is not None:
        return limits.memory_swap
    return None if limits.memory is None else 2 * limits.memory


def _quota(cpus: float) -> int:
    return max(1000, round(cpus * _PERIOD))


# --- devices


def create_devices(path: str, more: tuple[str, ...] = ()) -> Group:
    """A group of the v1 hierarchy of devices that allows what every sandbox has, and `more`."""
    os.mkdir(path)
    group = Group({"devices": path})
    try:
        write(f"{path}/devices.deny", "a")
        for rule in (*_DEVICES, *(f"{device} rwm" for device in more)):
            # What our own group lacks can't be given on.
            with suppress(PermissionError):
                write(f"{path}/devices.allow", rule)
    except BaseException:
        group.remove()
        raise
    return group
