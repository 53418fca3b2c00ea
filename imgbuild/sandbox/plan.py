"""From a spec to a plan: every decision is taken here, as values, before anything is done. Pure.

The plan is what goes to the zygote, what the child performs from top to bottom, and what ``describe`` prints.
"""

from __future__ import annotations

from imgbuild.errors import SandboxError
from imgbuild.linux.features import Features
from imgbuild.linux.mounts import Bind, Filesystem, Mount
from imgbuild.sandbox import capabilities as caps
from imgbuild.sandbox.spec import Limits, Process, SandboxSpec
from imgbuild.values import dataclass, replace

DEVICES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0))

DEVICE_LINKS = (
    ("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"), ("ptmx", "pts/ptmx"),
)  # fmt: skip

DEVICE_DIRECTORIES = ("pts", "shm", "mqueue")

MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
    "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
)  # fmt: skip

READ_ONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_TTY_GROUP = "5"

_OWN = ("/proc", "/sys")

_HARMLESS = frozenset(f"/dev/{name}" for name, _, _ in DEVICES)


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is to be done for one sandbox, in this order. `seccomp` is a BPF program, empty for none; `capabilities` a
    bit mask. `bind_devices`: devices come from the host, as a user namespace may not make them; `all_devices`: nodes of any
    device can be opened, wherever they are; `devices`: those beyond every sandbox's, as control groups call them; `clock`: a second
    BPF program, of calls that have to do with a wall clock that is `ahead`."""

    root: Filesystem | Bind
    system_mounts: tuple[Mount, ...]
    bind_devices: bool
    all_devices: bool
    device_mounts: tuple[Mount, ...]
    mounts: tuple[Mount, ...]
    sysctl: tuple[tuple[str, str], ...]
    masked: tuple[str, ...]
    read_only: tuple[str, ...]
    read_only_root: bool
    hostname: str
    own_network: bool
    process: Process
    capabilities: int
    seccomp: bytes
    limits: Limits
    cgroup: str
    cgroup_parent: str
    devices: tuple[str, ...]
    time_offset: int
    processors: int
    ahead: int
    clock: bytes
    watched: tuple[str, ...]
    watched_after: int

    @property
    def foundation(self) -> tuple[object, ...]:
        """What is done before the root file system is needed. Sandboxes that are alike in this can begin alike."""
        mounts = (self.system_mounts, self.bind_devices, self.all_devices, self.device_mounts)
        rights = (self.process.rlimits, self.capabilities)
        return (*mounts, self.sysctl, self.masked, self.read_only, self.own_network, self.ahead, *rights)


@dataclass(frozen=True, slots=True)
class Entry:
    """A process to be run in a sandbox that is there."""

    process: Process
    capabilities: int
    seccomp: bytes
    namespaces: int
    cgroups: tuple[str, ...]


def make_plan(spec: SandboxSpec, features: Features, seccomp: bytes, tty_group: bool = True, clock: bytes = b"") -> Plan:
    """What `spec` means here. `seccomp` is the program, to be used if the spec wants one, and `clock` that for its wall clock;
    `tty_group`: the group of terminals (5) exists in our user namespace. SandboxError for a mount where the sandbox's own are."""
    for mount in spec.mounts:
        check_target(mount.target, "/" + "/".join(_parts(mount.target)))
    return Plan(
        root=spec.root,
        system_mounts=_system_mounts(spec, features),
        bind_devices=features.rootless,
        all_devices=spec.privileged,
        device_mounts=_device_mounts(tty_group),
        mounts=spec.mounts if spec.privileged else _restricted(spec),
        sysctl=spec.sysctl,
        masked=() if spec.privileged else MASKED_PATHS,
        read_only=() if spec.privileged else READ_ONLY_PATHS,
        read_only_root=spec.read_only_root,
        hostname=spec.hostname,
        own_network=spec.network == "none",
        process=complete(spec.process),
        capabilities=caps.mask(granted(spec.process, spec.privileged)),
        seccomp=seccomp if spec.process.seccomp and not spec.privileged else b"",
        limits=spec.limits,
        cgroup=spec.cgroup_name,
        cgroup_parent=spec.cgroup_parent,
        devices=tuple(sorted({rule for _, rule in spec.devices})),
        time_offset=spec.time_offset,
        processors=spec.processors,
        ahead=spec.ahead,
        clock=clock,
        watched=spec.watched,
        watched_after=spec.watched_after,
    )


def check_target(target: str, place: str) -> None:
    """Refuse a mount that would hide what the sandbox's own mounts protect, or all of /dev; `place` is where its target leads."""
    if place in ("/", "/dev") or place in _OWN or place.startswith(tuple(f"{own}/" for own in _OWN)):
        leads = "" if place == target.rstrip("/") or place == target else f" (it leads to {place})"
        hint = "/, /proc, /sys, what is below these two, and /dev are the sandbox's own"
        raise SandboxError(f"nothing can be mounted at {target}{leads}", hint=hint)


def _parts(path: str) -> list[str]:
    """The names of a path without symlinks."""
    done: list[str] = []
    for name in path.split("/"):
        if name == "..":
            done = done[:-1]
        elif name not in ("", "."):
            done.append(name)
    return done


def granted(process: Process, privileged: bool = False) -> frozenset[str]:
    """The capabilities that a process gets."""
    return caps.ALL if privileged else process.capabilities


def complete(process: Process) -> Process:
    """A process with HOME in its environment, as login would set it, if it says nothing else."""
    if any(entry.startswith("HOME=") for entry in process.env):
        return process
    return replace(process, env=(*process.env, f"HOME={process.identity.home}"))


def _restricted(spec: SandboxSpec) -> tuple[Mount, ...]:
    """The mounts, with no other devices in them than those that were asked for."""
    devices = _HARMLESS | {path for path, _ in spec.devices}
    return tuple(_without_devices(mount, devices) for mount in spec.mounts)


def _without_devices(mount: Mount, devices: frozenset[str]) -> Mount:
    """A mount in which no device can be opened; but one of `devices` or those that every sandbox has, put somewhere (to hide a file, say),
    stays one: its mode and owner are the host's, and can't be changed."""
    if isinstance(mount.what, Bind) and not mount.subpath and mount.what.source in devices:
        return replace(mount, read_only=True)
    return replace(mount, nodev=True)


def _system_mounts(spec: SandboxSpec, features: Features) -> tuple[Mount, ...]:
    sys: Filesystem | Bind = Filesystem("sysfs", source="sysfs")
    if features.rootless and spec.network == "host":
        # sysfs shows a network namespace, and may be mounted only by who owns that.
        sys = Bind("/sys", recursive=True)
    return (
        Mount(Filesystem("proc", source="proc"), "/proc", nosuid=True, nodev=True, noexec=True),
        Mount(sys, "/sys", read_only=not spec.privileged, nosuid=True, nodev=True, noexec=True),
        Mount(Filesystem("tmpfs", (("mode", "755"), ("size", "65536k")), source="tmpfs"), "/dev", nosuid=True),
    )


def _device_mounts(tty_group: bool) -> tuple[Mount, ...]:
    terminals: tuple[tuple[str, str | None], ...] = (("newinstance", None), ("ptmxmode", "0666"), ("mode", "0620"))
    if tty_group:
        terminals += (("gid", _TTY_GROUP),)
    return (
        Mount(Filesystem("devpts", terminals, source="devpts"), "/dev/pts", nosuid=True, noexec=True),
        Mount(Filesystem("tmpfs", (("mode", "1777"), ("size", "65536k")), source="shm"), "/dev/shm", nosuid=True, nodev=True, noexec=True),
        Mount(Filesystem("mqueue", source="mqueue"), "/dev/mqueue", nosuid=True, nodev=True, noexec=True),
    )
