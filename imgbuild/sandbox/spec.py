"""What a sandbox is, as values, in the OCI runtime-spec's words. A spec is complete: performing it decides nothing."""

from __future__ import annotations

from imgbuild.hints import Literal
from imgbuild.linux.mounts import Bind, Filesystem, Mount
from imgbuild.values import dataclass, field

Network = Literal["none", "host"]

DEFAULT_CAPABILITIES = frozenset({
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW",
    "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP",
})  # fmt: skip
"""The set that docker gives a container, without the ``CAP_`` prefix."""

UNLIMITED = -1
"""RLIM_INFINITY."""

DEFAULT_RLIMITS = (
    ("NOFILE", 1024, 1 << 20), ("STACK", 8 << 20, UNLIMITED), ("CORE", 0, UNLIMITED), ("MEMLOCK", 8 << 20, 8 << 20),
    *((name, UNLIMITED, UNLIMITED) for name in ("NPROC", "CPU", "FSIZE", "DATA", "AS", "RSS")),
    ("MSGQUEUE", 819200, 819200), ("NICE", 0, 0), ("RTPRIO", 0, 0), ("RTTIME", UNLIMITED, UNLIMITED),
)  # fmt: skip
"""What every process starts with, (name, soft, hard), so that it does not depend on who runs imgbuild: the kernel's own values but for
NPROC, which it takes from the size of the machine, and more descriptors for who asks. No core files: they would be in layers.
SIGPENDING stays as it is; of a hard limit that we may not raise to this, what we have."""

UNMOVED = "the wall clock can't be moved"
"""How a failure begins whose reason is just that."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is: numbers only; names were looked up in the image before."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a cgroup. None: not asked for. Sizes in bytes; `memory_swap` is memory and swap together (-1: unlimited);
    `cpus` is a number of processors, fractions allowed. `io_weight` is from 10 to 1000, the others are a second's bytes and operations
    of `io_device`, a disk as MAJOR:MINOR."""

    memory: int | None = None
    memory_swap: int | None = None
    cpus: float | None = None
    pids: int | None = None
    io_weight: int | None = None
    io_read_bps: int | None = None
    io_write_bps: int | None = None
    io_read_iops: int | None = None
    io_write_iops: int | None = None
    io_device: str = ""

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.memory, self.memory_swap, self.cpus, self.pids)) or self.limits_io

    @property
    def limits_io(self) -> bool:
        """Whether the disk's use is limited."""
        rates = (self.io_read_bps, self.io_write_bps, self.io_read_iops, self.io_write_iops)
        return any(limit is not None for limit in (self.io_weight, *rates))


@dataclass(frozen=True, slots=True)
class Process:
    """What is executed, by execve after a search in the PATH of its own `env` inside the root. `terminal_size`: the rows and columns
    that its terminal begins with."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str = "/"
    identity: Identity = Identity()
    capabilities: frozenset[str] = DEFAULT_CAPABILITIES
    no_new_privileges: bool = False
    seccomp: bool = True
    terminal: bool = False
    rlimits: tuple[tuple[str, int, int], ...] = ()
    terminal_size: tuple[int, int] = (24, 80)


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """A root file system, what is mounted in it, a process, and its limits.

    /proc, /sys, /dev (with null, zero, full, random, urandom, tty, ptmx, pts, shm, mqueue, fd, stdin, stdout, stderr), the masked and the
    read-only paths are the sandbox's own and are not listed in `mounts`. `mounts` are made after them, in order.
    Every target in `mounts` exists in the root; so do /proc, /sys and /dev. `devices` are further devices of the host that may be
    opened: each one's path there and what control groups call it ("c 10:229"); they are among the mounts, as binds of that path.
    `cgroup_parent`: the group that the sandbox's own is made in, from the top of each hierarchy; else it is imgbuild's own.
    `time_offset`: by how many seconds its clocks since boot are ahead of the machine's (0: they are the machine's); `processors`: how
    many of the machine's it may run on (0: all); `ahead`: by how many seconds its wall clock is (0: it is the machine's). `watched` are
    directories of the root of which a `watch.Watch` is to tell what is opened, by numbers that follow `watched_after`.
    """

    root: Filesystem | Bind
    process: Process
    mounts: tuple[Mount, ...] = ()
    hostname: str = "imgbuild"
    network: Network = "host"
    read_only_root: bool = False
    limits: Limits = Limits()
    privileged: bool = False
    cgroup_name: str = ""
    cgroup_parent: str = ""
    devices: tuple[tuple[str, str], ...] = ()
    sysctl: tuple[tuple[str, str], ...] = field(default=())
    time_offset: int = 0
    processors: int = 0
    ahead: int = 0
    watched: tuple[str, ...] = ()
    watched_after: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children cost. Bytes and seconds; `peak_memory` of the whole cgroup where there is one, else
    of its largest process; None where nothing could be read. `peak_held` is as much of that peak as could not have been given back: without
    the files that the page cache still held at the end. `bytes_read` and `bytes_written` are what disks did for it, the network's what
    went through a network of its own; `throttled` says how often its limit of processors held it back, for `throttled_seconds` in all."""

    peak_memory: int | None = None
    cpu_seconds: float = 0.0
    bytes_written: int | None = None
    wall_seconds: float = 0.0
    cpu_user: float | None = None
    cpu_system: float | None = None
    peak_held: int | None = None
    bytes_read: int | None = None
    network_received: int | None = None
    network_sent: int | None = None
    oom_kills: int | None = None
    throttled: int | None = None
    throttled_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How the process ended: `code` 0..255, or `signal` where a signal ended it. `oom` where the kernel killed something
    in its cgroup for memory. `setup_error` says why the command never ran (126: not executable, 127: not found, 125: else)."""

    code: int
    signal: int | None = None
    oom: bool = False
    usage: Usage = Usage()
    setup_error: str = ""
