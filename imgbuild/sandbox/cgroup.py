"""Control groups: one group for each sandbox, to hold its limits, to read what it cost, and to kill all of it. v1 (also hybrid), v2, none.

Groups lie below the group that this process is in, where it may make them, and are named after their owner
(``imgbuild-PID-STARTTIME-SUFFIX``), so that `sweep` finds those whose owner died. No other group is ever touched.
Source: the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/*.rst.
"""

from __future__ import annotations

import os

from imgbuild.errors import SandboxError
from imgbuild.hints import Iterator
from imgbuild.light.contextlib import suppress
from imgbuild.sandbox import group_making
from imgbuild.sandbox.group import ACCOUNTED, Group, Place, entry, read, write
from imgbuild.sandbox.spec import Limits

PREFIX = "imgbuild-"

_DELEGATION = "run in a delegated group: systemd-run --user --scope -p Delegate=yes ... (see systemd.resource-control(5)), or as root"


def here(mountinfo: str = "/proc/self/mountinfo", membership: str = "/proc/self/cgroup", parent: str = "") -> Place:
    """Where this process is in the hierarchies that are mounted; or the group `parent`, a path from the top of each, where it exists."""
    paths: dict[str, str] = {}
    for line in read(membership).splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            paths[name] = f"/{parent.strip('/')}" if parent else path
    controllers: dict[str, str] = {}
    unified = top = ""
    for root, point, fstype, options in _cgroup_mounts(mountinfo):
        if fstype == "cgroup2":
            unified, top = _below(point, root, paths.get("", "/")), point
            continue
        for option in options:
            if option in paths and option not in controllers:
                controllers[option] = _below(point, root, paths[option])
    used = {name: controllers[name] for name in (*ACCOUNTED, "cpu", "blkio", "freezer") if name in controllers}
    return Place(unified, top, used, controllers.get("devices", ""))


def within(parent: str, mountinfo: str = "/proc/self/mountinfo", membership: str = "/proc/self/cgroup") -> Place:
    """The group `parent` in those hierarchies that have it. SandboxError where none has."""
    whole = here(mountinfo, membership, parent)
    controllers = {name: path for name, path in whole.controllers.items() if os.path.isdir(path)}
    unified = whole.unified if whole.unified and os.path.isdir(whole.unified) else ""
    if not controllers and not unified:
        raise SandboxError(f"there is no control group {parent}", hint="make it first; it is a path from the top, as in /proc/self/cgroup")
    return Place(unified, whole.unified_top, controllers)


def step_aside(place: Place) -> None:
    """On v2, where this process is alone in its group, move it into a leaf: a group with processes in it can't have children with
    controllers. To be called before the zygote is forked. Does nothing where it is not needed, or not possible."""
    if place.controllers or place.unified in ("", place.unified_top):
        return
    with suppress(OSError):
        if read(f"{place.unified}/cgroup.procs").split() == [str(os.getpid())] and os.access(place.unified, os.W_OK):
            leaf = f"{place.unified}/{PREFIX}{owner_of(os.getpid())}-self"
            os.mkdir(leaf)
            write(f"{leaf}/cgroup.procs", "0")


def create(place: Place, owner: str, suffix: str, limits: Limits) -> Group | None:
    """A group with limits; None where none can be made and no limits were asked for. SandboxError where a limit can't be held."""
    name = f"{PREFIX}{owner}-{suffix}"
    try:
        made = group_making.create_v1 if place.controllers else group_making.create_v2
        group = made(place, name, limits) if place.controllers or place.unified else None
    except OSError as error:
        if not limits:
            return None
        raise SandboxError(f"limits can't be set: {error.strerror} ({error.filename})", hint=_DELEGATION) from None
    if group is None and limits:
        raise SandboxError("limits can't be set: no cgroup file system is mounted", hint="ask for no limits")
    return group


def create_devices(place: Place, owner: str, suffix: str, more: tuple[str, ...] = ()) -> Group | None:
    """A group for any number of sandboxes, whose processes can open only the devices that every sandbox has, and `more`. None where there
    can't be one: what keeps devices closed then is that no mount of a sandbox has any (`nodev`), but for those of its /dev, and `more`."""
    if not place.devices:
        return None
    with suppress(OSError):
        return group_making.create_devices(f"{place.devices}/{PREFIX}{owner}-{suffix}.devices", more)
    return None


def owner_of(pid: int) -> str:
    """PID-STARTTIME of a process: a name that no later process has."""
    return f"{pid}-{_start_time(pid)}"


def sweep(place: Place) -> int:
    """Remove empty groups whose owners are dead; returns how many. The owner of one with processes may live in another PID namespace."""
    count = 0
    parents = {*place.controllers.values(), place.devices, place.unified, os.path.dirname(place.unified)} - {""}
    for parent in parents:
        with suppress(OSError):
            for name in os.listdir(parent):
                if name.startswith(PREFIX) and not _owner_lives(name):
                    with suppress(OSError):
                        os.rmdir(f"{parent}/{name}")
                        count += 1
    return count


def joinable(pid: int, mountinfo: str = "/proc/self/mountinfo") -> tuple[str, ...]:
    """The entries (`group.entry`) of those of our groups that a process is in, for one that shall join it."""
    found = []
    mounts = tuple(_cgroup_mounts(mountinfo))
    for line in read(f"/proc/{pid}/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if not path.rpartition("/")[2].startswith(PREFIX):
            continue
        for root, point, fstype, options in mounts:
            if (fstype == "cgroup2") if not names else (fstype == "cgroup" and set(names.split(",")) & set(options)):
                found.append(entry(_below(point, root, path), second=not names))
                break
    return tuple(found)


def _below(point: str, root: str, path: str) -> str:
    """A group's directory below a mount that may show only a part (`root`) of its hierarchy."""
    if root != "/" and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return point + path.rstrip("/")


def _cgroup_mounts(mountinfo: str) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """(root, mount point, type, super options) of each cgroup file system."""
    for line in read(mountinfo).splitlines():
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
        return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]
    except OSError:
        return ""
