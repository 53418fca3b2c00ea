"""What a cloned child does until it is the command: for a new sandbox (`perform`), and for a process in one that is there (`enter`).

It runs in the namespaces it was cloned into, with the zygote's memory, and never returns. What fails is told to the zygote over a
close-on-exec pipe, as (exit code, words); an end of file there means that the command is running.

Until then it is more than what it is to become: it has the zygote's memory, rights, and descriptors. So where processes of the
sandbox could see it, it is already in all of the namespaces, and not dumpable, which keeps them from its memory, its descriptors
and its /proc/PID/exe, whatever their user is (CVE-2016-9962); execve makes it dumpable again.
"""

from __future__ import annotations

import errno
import os
import struct

from imgbuild.errors import SandboxError
from imgbuild.hints import NoReturn
from imgbuild.light import signal
from imgbuild.linux import syscalls
from imgbuild.linux.features import Features
from imgbuild.linux.interfaces import loopback_up
from imgbuild.linux.paths import Root
from imgbuild.linux.sockets import Socket, opened
from imgbuild.sandbox import command, filesystem, group, terminal, watch, wire
from imgbuild.sandbox.plan import Entry, Plan
from imgbuild.sandbox.spec import UNMOVED, Process
from imgbuild.values import dataclass

_STDIO = 3
READY = b"+"
"""What a spare sandbox says when it can take orders, and a tracer when it is there."""

BORN = struct.Struct("=ii")
"""What `bear` tells: the process id of who was born, or 0 and the errno."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """The child's descriptors: its standard three, where to report failure, where the terminal's master goes; the files by which it
    joins its control groups; where it is told what is opened; where its wall clock is to be moved, by which the tracer that does it
    says that it is there; and the lowers that are mounted (`lowers`)."""

    stdio: tuple[int, int, int]
    report: int
    status: Socket
    joins: tuple[str, ...] = ()
    watch: int | None = None
    gate: int | None = None
    lowers: tuple[int, ...] = ()

    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        more = (fd for fd in (self.watch, self.gate) if fd is not None)
        return (*self.stdio, self.report, self.status.fileno(), *more, *self.lowers)


class _Progress:
    """What is being done, for an error's words."""

    def __init__(self) -> None:
        self.stage = "starting"

    def __call__(self, stage: str) -> None:
        self.stage = stage


def perform(plan: Plan, features: Features, wiring: Wiring) -> NoReturn:
    """Become a new sandbox's first process."""
    progress = _Progress()
    try:
        _begin(wiring.descriptors())
        if wiring.gate is not None:
            _wait_for_tracer(wiring.gate)
        root = filesystem.build(plan, features, progress, wiring.lowers)
        _move_in(root, plan, wiring, progress, bounded=False)
    except BaseException as error:
        _report(wiring.report, error, progress.stage)


def _wait_for_tracer(gate: int) -> None:
    said = os.read(gate, 4096)
    os.close(gate)
    if said != READY:
        raise SandboxError(f"{UNMOVED}: {said.decode('utf-8', 'replace') or 'there is no tracer'}")


def wait_for_orders(plan: Plan, features: Features, report: int, orders: Socket) -> NoReturn:
    """Become a spare sandbox with this plan's foundation, and then the first process of one that has the same."""
    progress = _Progress()
    try:
        _begin((report, orders.fileno()))
        prepared = filesystem.prepare(plan, features, progress)
        progress("setting resource limits")
        command.bound(plan.process, plan.capabilities)
        orders.send(READY)
        request = wire.receive_request(orders)
        if request is None:
            os._exit(0)
        given, fds, _ = request
        orders.close()
        wanted = wire.unpack(given.plan)
        rest = 4 + given.lowers
        root = filesystem.finish(prepared, wanted, features, progress, fds[4:rest])
        wiring = Wiring((fds[0], fds[1], fds[2]), report, opened(fds[3]), given.joins, fds[rest] if len(fds) > rest else None)
        _move_in(root, wanted, wiring, progress, bounded=True)
    except BaseException as error:
        _report(report, error, progress.stage)


def _begin(kept: tuple[int, ...]) -> None:
    syscalls.close_others(_STDIO, kept)
    os.setsid()
    os.umask(0)


def _move_in(root: Root, plan: Plan, wiring: Wiring, progress: _Progress, *, bounded: bool) -> NoReturn:
    """From a root that is mounted to the command in it; `bounded`: `command.bound` has been done."""
    progress("setting the host name")
    syscalls.sethostname(plan.hostname)
    if plan.time_offset:
        progress("moving its clocks")
        _move_clocks(plan.time_offset)
    if plan.processors:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: plan.processors])
    if plan.own_network:
        progress("bringing up the loopback interface")
        loopback_up()
    progress("entering its control group")
    _join(wiring.joins, needed=bool(plan.limits))
    # Only now, as the group that we are in becomes the root of what the namespace shows.
    syscalls.unshare(syscalls.CLONE_NEWCGROUP)
    progress("changing the root")
    filesystem.enter(root)
    if wiring.watch is not None and (begun := watch.begin(wiring.watch, plan.watched, plan.watched_after)) is not None:
        wire.send_packet(wiring.status, begun)
    _start(plan.process, plan.capabilities, plan.seccomp, wiring, progress, console=True, bounded=bounded, clock=plan.clock)


def _move_clocks(seconds: int) -> None:
    """Enter a time namespace, whose clocks since boot are ahead. By the host's /proc, which is still there."""
    syscalls.unshare(syscalls.CLONE_NEWTIME)
    offsets = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(offsets, f"monotonic {seconds} 0\nboottime {seconds} 0\n".encode())
    finally:
        os.close(offsets)
    # Only children would be in it; execve takes a process there from Linux 6.3 on.
    own = os.open("/proc/self/ns/time_for_children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(own, syscalls.CLONE_NEWTIME)
    finally:
        os.close(own)


def bear(entry: Entry, target: int, wiring: Wiring, bearing: int, features: Features) -> NoReturn:
    """Have a process born in the sandbox whose first process `target` is a pidfd of, and tell `bearing` about it (`BORN`).

    Only who is born after a setns is in the PID namespace, and there may be no way back for who called it. So a process for just that
    goes into all of the namespaces at once, itself still out of sight; its child is a sibling of it (CLONE_PARENT).
    """
    try:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        syscalls.close_others(_STDIO, (*wiring.descriptors(), target, bearing))
        _join(entry.cgroups, needed=True)
        syscalls.setns(target, entry.namespaces | syscalls.CLONE_NEWPID)
        os.close(target)
        os.chdir("/")
        clone = syscalls.clone3 if features.clone3 else syscalls.clone
        pid, _ = clone(syscalls.CLONE_PARENT, pidfd=False, exit_signal=0)
        if pid == 0:
            os.close(bearing)
            enter(entry, wiring)
        os.write(bearing, BORN.pack(pid, 0))
    except BaseException as error:
        os.write(bearing, BORN.pack(0, (error.errno if isinstance(error, OSError) else None) or errno.EINVAL))
    finally:
        os._exit(0)


def enter(entry: Entry, wiring: Wiring) -> NoReturn:
    """Become another process of the sandbox whose namespaces and groups this one was born in."""
    progress = _Progress()
    try:
        os.setsid()
        _start(entry.process, entry.capabilities, entry.seccomp, wiring, progress, console=False)
    except BaseException as error:
        _report(wiring.report, error, progress.stage)


def _join(files: tuple[str, ...], *, needed: bool) -> None:
    """Enter control groups; one that can't be is an error only where limits depend on it."""
    for file in files:
        try:
            group.join(file)
        except OSError:
            if needed:
                raise


def _start(
    process: Process,
    capabilities: int,
    seccomp: bytes,
    wiring: Wiring,
    progress: _Progress,
    *,
    console: bool,
    bounded: bool = False,
    clock: bytes = b"",
) -> NoReturn:
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    stdio = wiring.stdio
    if process.terminal:
        progress("opening a terminal")
        master, slave, path = terminal.open_terminal(process.identity.uid, process.terminal_size)
        if console:
            terminal.make_console(path)
        terminal.control(slave)
        wire.send_packet(wiring.status, wire.Terminal(), [master])
        stdio = (slave, slave, slave)
    report = _arrange_descriptors(stdio, wiring.report)
    wiring = Wiring((0, 1, 2), report, wiring.status)
    try:
        if not process.terminal:
            _give_pipes(process.identity.uid)
        if not bounded:
            progress("setting resource limits")
            command.bound(process, capabilities)
        progress(f"entering the working directory {process.cwd}")
        os.umask(0o022)
        command.enter_directory(process.cwd)
        identity = process.identity
        progress(f"becoming user {identity.uid}:{identity.gid}")
        if clock:  # while it still has the right
            syscalls.seccomp_filter(clock)
        command.become(process, capabilities, seccomp)
        # After the change of identity, which clears it.
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        progress("executing the command")
        command.execute(process)
        raise AssertionError("execve returned")
    except BaseException as error:
        _report(report, error, progress.stage)


def _arrange_descriptors(stdio: tuple[int, int, int], report: int) -> int:
    """Put the standard three to 0, 1, 2, the report to 3, and close all others."""
    high = [os.dup(fd) for fd in (*stdio, report)]
    # The copies may lie on 0..3 themselves only if those were free, which they are not: the zygote has them open.
    for number, fd in enumerate(high):
        os.dup2(fd, number, inheritable=number < _STDIO)
    syscalls.close_range(_STDIO + 1)
    return _STDIO


def _give_pipes(uid: int) -> None:
    """Let the user open /dev/stdout again: a pipe belongs to who made it. Never a file or terminal of the host."""
    if not uid:
        return
    for fd in range(_STDIO):
        info = os.fstat(fd)
        if info.st_mode & 0o170000 == 0o010000 and info.st_uid != uid:
            try:
                os.fchown(fd, uid, -1)
            except OSError:
                continue


def _report(report: int, error: BaseException, stage: str) -> NoReturn:
    code = wire.SETUP_FAILED
    if isinstance(error, command.CommandError):
        code, words = error.code, str(error)
    elif isinstance(error, SandboxError):
        words = error.message
    elif isinstance(error, OSError):
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        words = f"{stage}: {error.strerror}" + (f" ({name})" if name else "")
    else:
        words = f"{stage}: {type(error).__name__}: {error}"
    try:
        os.write(report, wire.pack_failure(code, words))
    finally:
        os._exit(code)
