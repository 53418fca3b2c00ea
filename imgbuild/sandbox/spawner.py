"""The zygote's own program: one thread, one poll loop over its requests and its children.

It ends when the build's end of the socket is closed, by intent or by death: then every child is killed and reaped, and every group
removed. If it is killed itself, the kernel kills its children: it is the first process of a PID namespace (unless it was started to
enter other sandboxes), and each child asks for SIGKILL at its death.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import time

from imgbuild.errors import SandboxError
from imgbuild.hints import TYPE_CHECKING, NoReturn
from imgbuild.light import signal
from imgbuild.light.contextlib import suppress
from imgbuild.linux import sockets, syscalls
from imgbuild.linux.features import Features
from imgbuild.linux.sockets import Socket
from imgbuild.sandbox import cgroup, child, wire
from imgbuild.sandbox.group import Figures, Group, Place
from imgbuild.sandbox.lowers import MountedLowers
from imgbuild.sandbox.plan import Entry, Plan
from imgbuild.sandbox.spares import Spare, Stock
from imgbuild.sandbox.spec import ExitStatus, Limits, Usage

if TYPE_CHECKING:
    from imgbuild.sandbox.clock import Clock

_SOCKET = 3
_NAMESPACES = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWIPC


class _Child:
    def __init__(self, pid: int, pidfd: int, report: int, status: Socket, group: Group | None, started: float) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.report = report
        self.status = status
        self.group = group
        self.started = started
        self.failure: wire.Failure | None = None
        self.limited = False
        self.clock: Clock | None = None


_LIBC_SIGNALS = (32, 33)
"""What glibc keeps for its threads, and what may come to us ignored from a parent that was started by posix_spawn."""


def serve(sock: Socket, features: Features, place: Place, owner: str) -> NoReturn:
    """Be the zygote: called in a freshly forked process, never returns."""
    code = 1
    try:
        control = _settle(sock)
        spawner = Spawner(control, features, place, owner)
        cgroup.sweep(place)
        spawner.run()
        code = 0
    finally:
        os._exit(code)


def _settle(sock: Socket) -> Socket:
    """Keep nothing of the build but the socket: no descriptors (locks!), directory, terminal, signals, umask, and, where we may change
    them, no niceness and no score for the OOM killer."""
    os.setsid()
    os.chdir("/")
    os.umask(0)
    for number in range(1, signal.NSIG):
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    for number in _LIBC_SIGNALS:
        with suppress(OSError):
            syscalls.default_signal(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    fd = os.dup(sock.fileno()) if sock.fileno() < _SOCKET else sock.detach()
    null = os.open("/dev/null", os.O_RDWR)
    if fd != _SOCKET:
        if null == _SOCKET:
            null = os.dup(null)
        os.dup2(fd, _SOCKET, inheritable=False)
    for number in range(_SOCKET):
        os.dup2(null, number)
    syscalls.close_range(_SOCKET + 1)
    with open("/proc/self/comm", "wb", buffering=0) as name:
        name.write(b"imgbuild-zygote")
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    with suppress(OSError), open("/proc/self/oom_score_adj", "wb", buffering=0) as score:
        score.write(b"0")
    # Children share our memory until they write to it: no collection, and no collection's marks.
    gc.disable()
    gc.freeze()
    return sockets.opened(_SOCKET)


class Spawner:
    """The loop and its children."""

    def __init__(self, control: Socket, features: Features, place: Place, owner: str) -> None:
        self._control = control
        self._features = features
        self._place = place
        self._owner = owner
        # Groups are named after the owner, who may have several zygotes; to itself each may be process 1.
        self._number, self._serial = os.readlink("/proc/self"), 0
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._by_report: dict[int, _Child] = {}
        self._by_pidfd: dict[int, _Child] = {}
        self._by_status: dict[int, _Child] = {}
        self._leftover: list[Group] = []
        self._devices: Group | None = None
        self._devices_made = False
        self._stock = Stock(features, self._group_of_a_spare)
        self._lowers = MountedLowers()

    def run(self) -> None:
        """Serve until the other end of the control socket is closed; then end all children."""
        control = self._control.fileno()
        while True:
            # While a child is on its way, its mounts wait for other processors, which a fork holds up.
            events = self._poll.poll(0 if self._stock.lacking and not self._by_report else None)
            if not events:
                self._group_of_devices(())
                self._stock.make(_NAMESPACES)
            # Requests last: they open descriptors, whose numbers must not be taken for those that were closed in this round.
            for fd, _ in sorted(events, key=lambda event: event[0] == control):
                if fd in self._by_report:
                    self._hear(self._by_report[fd])
                elif fd in self._by_pidfd:
                    self._reap(self._by_pidfd[fd])
                elif fd in self._by_status:
                    self._poll.unregister(fd)
                    _kill(self._by_status.pop(fd))
                elif fd == self._stock.mounts:
                    self._stock.rest()
                elif fd == control:
                    request = wire.receive_request(self._control)
                    if request is None:
                        self._end()
                        return
                    self._perform(*request)

    def _perform(self, request: Plan | Entry | wire.Expected, fds: list[int], packed: bytes) -> None:
        if isinstance(request, wire.Expected):
            self._stock.expect(request)
            self._poll.register(self._stock.mounts, select.POLLPRI)
            return
        status = sockets.opened(fds[3])
        try:
            if isinstance(request, Plan):
                self._spawn(request, packed, (fds[0], fds[1], fds[2]), status, fds[4:])
            else:
                self._enter(request, (fds[0], fds[1], fds[2]), status, fds[4])
        except SandboxError as error:
            wire.send_packet(status, wire.Refused(error.message, error.hint))
            status.close()
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            wire.send_packet(status, wire.Refused(f"a sandbox can't be started: {error.strerror}{where}", None))
            status.close()
        finally:
            for fd in (*fds[:3], *fds[4:]):
                os.close(fd)

    def _spawn(self, plan: Plan, packed: bytes, stdio: tuple[int, int, int], status: Socket, watch: list[int]) -> None:
        spare = self._stock.take(plan)
        lowers = self._lowers.of(plan.root, again=self._stock.expects)
        if spare is not None and self._send_off(spare, plan, packed, (*stdio, status.fileno(), *lowers, *watch), len(lowers), status):
            return
        group, joined = self._groups(plan)
        descriptor = group.descriptor() if group is not None and self._features.clone3 else None
        joins = tuple(file for each in joined if each is not group or descriptor is None for file in each.entries())
        flags = _NAMESPACES | (syscalls.CLONE_NEWNET if plan.own_network else 0)
        report, reporting = os.pipe()
        clock = None
        if plan.ahead:  # in runs of `repro` alone
            from imgbuild.sandbox.clock import Clock

            clock = Clock(plan.ahead)
        started = time.monotonic()
        try:
            pid, pidfd = self._clone(flags, descriptor)
            if pid == 0:
                told, gate = watch[0] if watch else None, clock.gate if clock else None
                wiring = child.Wiring(stdio, reporting, status, joins, told, gate, lowers)
                child.perform(plan, self._features, wiring)
            if clock is not None:
                clock.trace(pid)
        except OSError:
            os.close(report)
            if clock is not None:
                clock.close()
            if group is not None:
                group.remove()
            raise
        finally:
            for fd in (reporting, descriptor):
                if fd is not None:
                    os.close(fd)
        born = _Child(pid, pidfd, report, status, group, started)
        born.limited = bool(plan.limits)
        born.clock = clock
        self._watch(born)

    def _send_off(self, spare: Spare, plan: Plan, packed: bytes, fds: tuple[int, ...], lowers: int, status: Socket) -> bool:
        """Make a spare the plan's sandbox. False where it has died, as when memory was short."""
        group = spare.group
        try:
            group, joined = (group, []) if group is not None else self._groups(plan)
            started = time.monotonic()
            joins = tuple(file for each in joined for file in each.entries())
            sent = spare.command(packed, joins, fds, lowers)
        except BaseException:
            spare.end()
            raise
        if not sent:
            spare.end()
            self._leftover += [group] if group is not None else []
            return False
        born = _Child(spare.pid, spare.pidfd, spare.report, status, group, started)
        born.limited = bool(plan.limits)
        self._watch(born)
        return True

    def _groups(self, plan: Plan) -> tuple[Group | None, list[Group]]:
        """The group of a sandbox, and with it that of its devices, as far as there are any."""
        group = self._group(plan.cgroup, plan.limits, plan.cgroup_parent)
        devices = None if plan.all_devices else self._group_of_devices(plan.devices)
        return group, [each for each in (group, devices) if each is not None]

    def _enter(self, entry: Entry, stdio: tuple[int, int, int], status: Socket, target: int) -> None:
        report, reporting = os.pipe()
        born, bearing = os.pipe()
        started = time.monotonic()
        try:
            midwife, pidfd = self._clone(0, None)
            if midwife == 0:
                child.bear(entry, target, child.Wiring(stdio, reporting, status), bearing, self._features)
            os.close(pidfd)
            os.close(bearing)
            bearing = -1
            told = os.read(born, child.BORN.size)
            os.waitpid(midwife, 0)
            pid, code = child.BORN.unpack(told) if len(told) == child.BORN.size else (0, errno.ESRCH)
            if code:
                raise OSError(code, f"the sandbox can't be entered: {os.strerror(code)}")
            pidfd = syscalls.pidfd_open(pid)
        except OSError:
            os.close(report)
            raise
        finally:
            for fd in (reporting, born, bearing):
                if fd >= 0:
                    os.close(fd)
        self._watch(_Child(pid, pidfd, report, status, None, started))

    def _clone(self, flags: int, cgroup_fd: int | None) -> tuple[int, int]:
        return syscalls.clone3(flags, cgroup=cgroup_fd) if self._features.clone3 else syscalls.clone(flags)

    def _group(self, suffix: str, limits: Limits, parent: str) -> Group | None:
        if self._features.cgroup == "none":
            if limits or parent:
                raise SandboxError("limits can't be set: control groups are not available here")
            return None
        self._serial += 1
        place = cgroup.within(parent) if parent else self._place
        return cgroup.create(place, self._owner, suffix or f"{self._number}.{self._serial}", limits)

    def _group_of_a_spare(self) -> Group | None:
        """On v2 a process is born in its group, which later takes a grace period of the kernel; on v1 it joins later at no cost."""
        return self._group("", Limits(), "") if self._features.clone3 and not self._place.controllers else None

    def _group_of_devices(self, more: tuple[str, ...]) -> Group | None:
        """The group that all sandboxes of ours join, made for the first; or one for a sandbox that may open more, to be removed when
        that has left it."""
        if more:
            own = cgroup.create_devices(self._place, self._owner, f"{self._number}.{self._serial}", more)
            self._leftover += [own] if own is not None else []
            return own
        if not self._devices_made and self._features.cgroup != "none":
            self._devices = cgroup.create_devices(self._place, self._owner, self._number)
        self._devices_made = True
        return self._devices

    def _watch(self, born: _Child) -> None:
        os.set_blocking(born.report, False)
        self._by_report[born.report] = self._by_pidfd[born.pidfd] = born
        self._poll.register(born.report, select.POLLIN)
        self._poll.register(born.pidfd, select.POLLIN)
        # Of the status socket only the hang-up is of interest: who can't be told of the end wants it at once.
        self._by_status[born.status.fileno()] = born
        self._poll.register(born.status, 0)
        wire.send_packet(born.status, wire.Started(_pid_of(born.pidfd)), [born.pidfd])

    def _hear(self, speaker: _Child) -> None:
        """Read a child's report: words of failure, in one piece, or its end when execve closes it."""
        try:
            data = os.read(speaker.report, wire.FAILURE)
        except BlockingIOError:
            return
        self._close_report(speaker)
        if data:
            speaker.failure = wire.unpack_failure(data)
        elif speaker.failure is None:
            wire.send_packet(speaker.status, wire.Running())

    def _close_report(self, speaker: _Child) -> None:
        self._poll.unregister(speaker.report)
        del self._by_report[speaker.report]
        os.close(speaker.report)

    def _reap(self, dead: _Child) -> None:
        if dead.report in self._by_report:
            self._hear(dead)
        if dead.report in self._by_report:
            self._close_report(dead)
        _, wait_status, usage = os.wait4(dead.pid, 0)
        if dead.clock is not None:
            dead.failure = dead.clock.end() or dead.failure
        wall = time.monotonic() - dead.started
        self._poll.unregister(dead.pidfd)
        del self._by_pidfd[dead.pidfd]
        if self._by_status.pop(dead.status.fileno(), None) is not None:
            self._poll.unregister(dead.status)
        os.close(dead.pidfd)
        figures = Figures() if dead.group is None else dead.group.figures()
        if dead.limited:
            self._remove_groups(dead)
        oom = bool(figures.oom_kills)
        wire.send_packet(dead.status, wire.Exited(_exit_status(wait_status, oom, figures.usage(usage, wall), dead.failure)))
        dead.status.close()
        if not dead.limited:
            self._remove_groups(dead)

    def _remove_groups(self, dead: _Child) -> None:
        """Remove the group of a process that is dead, and those that were left over. That can take the kernel longer than all else, so
        the end is told before; but not where limits were set, whose users see that nothing of them is left."""
        if dead.group is not None:
            self._leftover.append(dead.group)
        self._leftover = [group for group in self._leftover if not group.remove()]

    def _end(self) -> None:
        self._stock.end()
        for each in self._by_pidfd.values():
            _kill(each)
        # The last one first: an init can't end before what entered its PID namespace from here, and came later, is reaped here.
        for each in reversed(tuple(self._by_pidfd.values())):
            self._reap(each)
        for group in (*self._leftover, *((self._devices,) if self._devices is not None else ())):
            group.kill()
            group.remove()


def _kill(child: _Child) -> None:
    with suppress(ProcessLookupError):
        syscalls.pidfd_send_signal(child.pidfd, signal.SIGKILL)


def _exit_status(wait_status: int, oom: bool, usage: Usage, failure: wire.Failure | None) -> ExitStatus:
    if failure is not None:
        return ExitStatus(failure.code, usage=usage, setup_error=failure.message)
    if os.WIFSIGNALED(wait_status):
        signum = os.WTERMSIG(wait_status)
        return ExitStatus(128 + signum, signum, oom, usage)
    return ExitStatus(os.WEXITSTATUS(wait_status), None, oom, usage)


def _pid_of(pidfd: int) -> int:
    """The process id in the PID namespace of /proc as it is mounted here, which is the build's."""
    with open(f"/proc/self/fdinfo/{pidfd}", "rb", buffering=0) as file:
        lines = file.read(4096).splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(b"Pid:")))
