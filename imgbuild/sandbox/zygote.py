"""The build's side of the zygote: `Zygote` starts sandboxes, `Sandbox` is one of them. Both are safe for threads."""

from __future__ import annotations

import os
import select
import time

from imgbuild.errors import SandboxError
from imgbuild.hints import TYPE_CHECKING, NoReturn, TracebackType, overload
from imgbuild.light import signal, threading
from imgbuild.light.contextlib import suppress
from imgbuild.linux import sockets, syscalls
from imgbuild.linux.features import Features
from imgbuild.linux.mounts import Bind
from imgbuild.linux.sockets import Socket
from imgbuild.sandbox import capabilities as caps
from imgbuild.sandbox import cgroup, seccomp, wire
from imgbuild.sandbox.group import Place
from imgbuild.sandbox.plan import Entry, Plan, complete, granted, make_plan
from imgbuild.sandbox.spec import ExitStatus, Process, SandboxSpec

if TYPE_CHECKING:
    from imgbuild.sandbox.watch import Listener

_ENTERED = {
    "mnt": syscalls.CLONE_NEWNS,
    "uts": syscalls.CLONE_NEWUTS,
    "ipc": syscalls.CLONE_NEWIPC,
    "net": syscalls.CLONE_NEWNET,
    "cgroup": syscalls.CLONE_NEWCGROUP,
}
_NO_RIGHTS = "imgbuild needs root, or a user namespace: see kernel.unprivileged_userns_clone and user.max_user_namespaces"


class Sandbox:
    """A process in a sandbox: its init, or one that entered it. It is killed when its Sandbox is dropped, as nobody could wait for it.

    `pid` is its process id here; `terminal` the master of its terminal, the caller's to close, where it has one.
    """

    def __init__(self, status: Socket, terminal: bool) -> None:
        self._status = status
        self._lock = threading.Lock()
        self._exit: ExitStatus | None = None
        self.running = False
        """Whether the command is known to have been executed: `wait` hears of it, too."""
        self._guard = threading.Lock()
        self._pidfd = -1
        self.terminal: int | None = None
        self.begun: wire.Begun | None = None
        """How its watch began, where not all of it did."""
        self.pid = 0
        try:
            self._expect_start(terminal)
        except BaseException:
            self._close()
            raise

    @overload
    def wait(self, timeout: None = None) -> ExitStatus: ...

    @overload
    def wait(self, timeout: float | None) -> ExitStatus | None: ...

    def wait(self, timeout: float | None = None) -> ExitStatus | None:
        """Wait until the process has ended; None when `timeout` seconds were over before. Any number of threads, any number of times.
        SandboxError when the zygote died: then the process has been killed."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            return None
        try:
            while self._exit is None:
                if not self._readable(deadline):
                    return None
                self._receive()
            return self._exit
        finally:
            self._lock.release()

    def wait_running(self) -> ExitStatus | None:
        """Wait until the command was executed: None; or its end, if it never was, or is over already."""
        with self._lock:
            while self._exit is None and not self.running:
                self._receive()
            return None if self.running else self._exit

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Signal the process; nothing happens if it is gone. Killing an init kills all that is in its sandbox."""
        with self._guard, suppress(ProcessLookupError):
            if self._pidfd >= 0:
                syscalls.pidfd_send_signal(self._pidfd, signum)

    def _expect_start(self, terminal: bool) -> None:
        while not self.pid or (terminal and self.terminal is None and self._exit is None):
            self._receive()

    def _readable(self, deadline: float | None) -> bool:
        poll = select.poll()
        poll.register(self._status, select.POLLIN)
        if deadline is None:
            poll.poll()
            return True
        return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))

    def _receive(self) -> None:
        packet = wire.receive_packet(self._status)
        if packet is None:
            raise SandboxError("the zygote died, and with it the sandbox", hint="was it killed, or out of memory? see dmesg")
        message, fds = packet
        match message:
            case wire.Started():
                self.pid = message.pid
                (self._pidfd,) = fds
            case wire.Terminal():
                (self.terminal,) = fds
            case wire.Running():
                self.running = True
            case wire.Begun():
                self.begun = message
            case wire.Refused():
                raise SandboxError(message.message, hint=message.hint)
            case wire.Exited():
                self._exit = message.status
                self._close()

    def _close(self) -> None:
        self._status.close()
        with self._guard:
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1


class Zygote:
    """Starts sandboxes. A context manager: leaving it kills what still runs, and reaps."""

    def __init__(self, pid: int, control: Socket, features: Features, tty_group: bool) -> None:
        self._pid = pid
        self._control = control
        self._features = features
        self._tty_group = tty_group
        self._lock = threading.Lock()
        self._programs: dict[frozenset[str], bytes] = {}
        self._foreseen = 0
        self._ended = False

    @classmethod
    def start(cls, features: Features, *, enters_others: bool = False) -> Zygote:
        """Fork the zygote. To be called before this process has threads, file locks that must not be shared for a moment, or much memory.

        With `enters_others` its `enter` also works on sandboxes of other zygotes; it then has no PID namespace of its own, so that
        sandboxes of it survive a SIGKILL of it if they took back their parent-death signal.
        """
        place = cgroup.here() if features.cgroup != "none" else Place()
        cgroup.step_aside(place)
        owner = cgroup.owner_of(os.getpid())
        ours, theirs = sockets.pair(sockets.STREAM)
        with theirs:
            try:
                pid = _fork(features, nested=not enters_others)
            except OSError as error:
                ours.close()
                raise SandboxError(f"namespaces can't be made: {error.strerror}", hint=_NO_RIGHTS) from None
            if pid == 0:
                _serve(theirs, features, place, owner)
        return cls(pid, ours, features, _has_tty_group())

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def retire(self) -> None:
        """Nothing more is asked of it: it ends, as after `close`, which only waits for that then."""
        with self._lock:
            self._control.close()

    def close(self) -> None:
        """Kill what still runs, and wait until it and its groups are gone. May be called again."""
        with self._lock:
            self._control.close()
            if self._ended:
                return
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)
            self._ended = True

    def plan(self, spec: SandboxSpec) -> Plan:
        """What `spawn` will do."""
        wants = spec.process.seccomp and not spec.privileged
        clock = b""
        if spec.ahead:
            from imgbuild.sandbox.clock_calls import compile_filter

            clock = compile_filter(self._features.machine, may_set=spec.privileged or "SYS_TIME" in spec.process.capabilities)
        return make_plan(spec, self._features, self._program(spec.process.capabilities) if wants else b"", self._tty_group, clock)

    def expect(self, count: int, width: int = 1) -> None:
        """Tell that so many more sandboxes will be asked for, up to `width` at once: as far as they are ordinary ones, they are made
        before that. Nothing depends on it."""
        with self._lock:
            known = min(self._foreseen, count)
            self._foreseen -= known
        if count > known or width > 1 or not known:
            self._expect(count - known, width)

    def foresee(self) -> None:
        """As `expect` of one, which the next `expect` has then counted."""
        self._expect(1, 1)
        with self._lock:
            self._foreseen += 1

    def _expect(self, count: int, width: int) -> None:
        if not self._features.spare:
            return
        plan = make_plan(SandboxSpec(Bind("/"), Process((), ())), self._features, b"", self._tty_group)
        with self._lock, suppress(OSError):
            wire.send_request(self._control, wire.Expected(plan, count, width), ())

    def spawn(self, spec: SandboxSpec, stdin: int, stdout: int, stderr: int, listener: Listener | None = None) -> Sandbox:
        """Start a sandbox; returns when its process exists (with its terminal, if it has one). The descriptors stay the caller's.
        What fails later, as a command that is not found, is in the `ExitStatus`. `listener` is told of the spec's `watched`."""
        more = (listener.fd,) if listener is not None else ()
        return self._request(self.plan(spec), (stdin, stdout, stderr), spec.process.terminal, *more)

    def enter(self, pid: int, process: Process, stdin: int, stdout: int, stderr: int, *, privileged: bool = False) -> Sandbox:
        """Run a process in the sandbox whose init is `pid`: its namespaces, its groups, the given identity and rights."""
        try:
            target = syscalls.pidfd_open(pid)
        except OSError as error:
            raise SandboxError(f"there is no process {pid}: {error.strerror}") from None
        try:
            wants = process.seccomp and not privileged
            entry = Entry(
                process=complete(process),
                capabilities=caps.mask(granted(process, privileged)),
                seccomp=self._program(process.capabilities) if wants else b"",
                namespaces=_foreign_namespaces(pid),
                cgroups=cgroup.joinable(pid) if self._features.cgroup != "none" else (),
            )
            return self._request(entry, (stdin, stdout, stderr), process.terminal, target)
        finally:
            os.close(target)

    def _request(self, message: Plan | Entry, stdio: tuple[int, int, int], terminal: bool, *more: int) -> Sandbox:
        ours, theirs = sockets.pair(sockets.PACKETS)
        with theirs:
            try:
                with self._lock:
                    wire.send_request(self._control, message, (*stdio, theirs.fileno(), *more))
            except OSError as error:
                ours.close()
                raise SandboxError(f"the zygote can't be reached: {error.strerror}") from None
        return Sandbox(ours, terminal)

    def _program(self, capabilities: frozenset[str]) -> bytes:
        program = self._programs.get(capabilities)
        if program is None:
            program = self._programs[capabilities] = seccomp.compile_profile(self._features.machine, capabilities)
        return program


def _serve(sock: Socket, features: Features, place: Place, owner: str) -> NoReturn:
    """Be the zygote. What only it needs it imports itself, while the build goes on."""
    try:
        from imgbuild.sandbox.spawner import serve

        serve(sock, features, place, owner)
    finally:
        os._exit(1)


def _fork(features: Features, nested: bool) -> int:
    """fork(2), the child as the first process of a new PID namespace where `nested`."""
    if not nested:
        return os.fork()
    pid, pidfd = (syscalls.clone3 if features.clone3 else syscalls.clone)(syscalls.CLONE_NEWPID)
    if pid:
        os.close(pidfd)
    return pid


def _foreign_namespaces(pid: int) -> int:
    """Those namespaces of a process that are not ours: to enter one's own is refused in a user namespace that does not own it."""
    flags = 0
    for name, flag in _ENTERED.items():
        try:
            if os.readlink(f"/proc/{pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"):
                flags |= flag
        except OSError as error:
            raise SandboxError(f"the namespaces of process {pid} can't be read: {error.strerror}") from None
    return flags


def _has_tty_group() -> bool:
    """Whether group 5 exists in this user namespace."""
    with open("/proc/self/gid_map", encoding="utf-8") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return any(first <= 5 < first + count for first, _, count in ranges)
