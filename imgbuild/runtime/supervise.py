"""Supervises one process in a sandbox, from its start to its end: its streams, the caller's terminal, signals, and its log."""

from __future__ import annotations

import os

from imgbuild.errors import SandboxError
from imgbuild.hints import TYPE_CHECKING, Callable
from imgbuild.light import signal
from imgbuild.light.contextlib import ExitStack, nullcontext, suppress
from imgbuild.runtime import terminal
from imgbuild.runtime.relay import Pump, Relay
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.runtime.logs import LogWriter, Stream
    from imgbuild.runtime.signals import SignalPipe
    from imgbuild.sandbox.spec import ExitStatus
    from imgbuild.sandbox.zygote import Sandbox

Spawn = Callable[[int, int, int], "Sandbox"]

_ENDING = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 3
"""So many SIGINT or SIGTERM in all end a container that does not listen to them."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The caller's standard streams, as descriptors, closed ones included; they stay the caller's. None: there is nobody."""

    stdin: int | None = 0
    stdout: int | None = 1
    stderr: int | None = 2


@dataclass(frozen=True, slots=True)
class Wiring:
    """How the process's streams are connected: a terminal of its own or not, and whether it is given input."""

    terminal: bool = False
    interactive: bool = False


def screen_size(streams: Streams, wiring: Wiring) -> tuple[int, int]:
    """Rows and columns of the caller's terminal, which a terminal of the process begins with."""
    screen = _screen(_usable(streams.stdin) if wiring.interactive else None, _usable(streams.stdout))
    return terminal.DEFAULT_SIZE if screen is None else terminal.size(screen)


def supervise(
    spawn: Spawn,
    streams: Streams,
    wiring: Wiring,
    *,
    log: LogWriter | None = None,
    signals: SignalPipe | None = None,
    started: Callable[[Sandbox], None] = lambda _: None,
) -> ExitStatus:
    """Start a process, pass everything on until it ends, and say how. `started` is called when it runs."""
    with ExitStack() as stack:
        connection = _Connection(stack, streams, wiring, log)
        try:
            sandbox = spawn(*connection.ends)
        finally:
            connection.close_ends()
        try:
            return _attend(stack, sandbox, connection, signals, started)
        except BaseException:
            # Whatever of ours failed, nothing runs on that nobody attends to.
            sandbox.kill()
            with suppress(SandboxError):
                sandbox.wait()
            raise


def _attend(
    stack: ExitStack,
    sandbox: Sandbox,
    connection: _Connection,
    signals: SignalPipe | None,
    started: Callable[[Sandbox], None],
) -> ExitStatus:
    connection.attach(sandbox.terminal)
    ended = sandbox.wait_running()
    if ended is not None and ended.setup_error:
        return ended
    pidfd = _pidfd(sandbox)
    if pidfd is not None:
        stack.callback(os.close, pidfd)
    started(sandbox)
    with terminal.raw(connection.keyboard) if connection.keyboard is not None else nullcontext():
        listener = _Listener(sandbox, signals, connection)
        Relay(pidfd, connection.outputs, connection.inputs, signals.descriptor if signals else None, listener.hear).run()
    return sandbox.wait()


def _screen(source: int | None, shown: int | None) -> int | None:
    """The caller's terminal, if it is one, that input comes from or output goes to."""
    return next((fd for fd in (source, shown) if fd is not None and terminal.is_terminal(fd)), None)


class _Connection:
    """The descriptors between the caller and the process, and the pumps that work them."""

    def __init__(self, stack: ExitStack, streams: Streams, wiring: Wiring, log: LogWriter | None) -> None:
        self._stack = stack
        self._streams = streams
        self._wiring = wiring
        self._log = log
        self._own_ends: list[int] = []
        self.outputs: list[Pump] = []
        self.inputs: list[Pump] = []
        self.screen: int | None = None  # the caller's terminal, whose size the process's terminal has
        self.keyboard: int | None = None  # the same, where its keys go to the process
        if wiring.terminal:
            null = self._null()
            self.ends = (null, null, null)
        else:
            self.ends = (self._input(), self._output(streams.stdout, "stdout"), self._output(streams.stderr, "stderr"))

    def close_ends(self) -> None:
        """The process has its ends: ours go."""
        while self._own_ends:
            os.close(self._own_ends.pop())

    def attach(self, master: int | None) -> None:
        """Connect the process's terminal, where it has one."""
        if master is None:
            return
        os.set_blocking(master, False)
        close = _once(master)
        self._stack.callback(close)
        shown = _usable(self._streams.stdout)
        screen = Pump(master, shown, self._tap("stdout"))
        self.outputs.append(screen)

        def hang_up() -> None:
            """Our user's terminal is gone, and so is the process's: it gets SIGHUP, and the end of its input."""
            screen.cut()
            self.screen = None
            close()

        source = _usable(self._streams.stdin) if self._wiring.interactive else None
        if source is not None:
            self.inputs.append(Pump(source, master, at_end=hang_up))
            self.keyboard = source if terminal.is_terminal(source) else None
        self.screen = _screen(source, shown)
        if self.screen is not None:
            terminal.copy_size(self.screen, master)

    def _input(self) -> int:
        if not self._wiring.interactive:
            return self._null()
        if self._streams.stdin is None:
            # Nobody writes, but nobody ends it either: what reads its input waits.
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            self._own_ends.append(read_end)
            self._stack.callback(os.close, write_end)
            return read_end
        source = _usable(self._streams.stdin)
        return self._null() if source is None else source

    def _output(self, sink: int | None, stream: Stream) -> int:
        usable = _usable(sink)
        if self._log is None and usable is None:
            return self._null()
        if self._log is None and usable is not None and not terminal.is_terminal(usable):
            return usable
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        self._own_ends.append(write_end)
        close = _once(read_end)
        self._stack.callback(close)
        self.outputs.append(Pump(read_end, usable, self._tap(stream), close_source=close))
        return write_end

    def _tap(self, stream: Stream) -> Callable[[bytes], None] | None:
        log = self._log
        return None if log is None else lambda data: log.write(stream, data)

    def _null(self) -> int:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._own_ends.append(null)
        return null


class _Listener:
    """What to do on signals: pass them on, keep the terminal's size, and lose patience in the end."""

    def __init__(self, sandbox: Sandbox, signals: SignalPipe | None, connection: _Connection) -> None:
        self._sandbox = sandbox
        self._signals = signals
        self._connection = connection
        self._asked = 0

    def hear(self) -> bool:
        ending = False
        for number in self._signals.read() if self._signals else ():
            if number == signal.SIGWINCH:
                if self._connection.screen is not None and self._sandbox.terminal is not None:
                    terminal.copy_size(self._connection.screen, self._sandbox.terminal)
                continue
            ending = ending or number in _ENDING
            self._asked += number in _ENDING
            self._sandbox.kill(signal.SIGKILL if self._asked >= _PATIENCE else number)
        return ending


def _usable(descriptor: int | None) -> int | None:
    if descriptor is None or descriptor < 0:
        return None
    try:
        os.fstat(descriptor)
    except OSError:
        return None
    return descriptor


def _pidfd(sandbox: Sandbox) -> int | None:
    """What becomes readable when the process ends; None where it has ended."""
    if sandbox.pid <= 0 or sandbox.wait(0) is not None:
        return None
    try:
        return os.pidfd_open(sandbox.pid)
    except ProcessLookupError:
        return None


def _once(descriptor: int) -> Callable[[], None]:
    left = [descriptor]

    def close() -> None:
        if left:
            os.close(left.pop())

    return close
