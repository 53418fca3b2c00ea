"""A wall clock of a sandbox's own, which is ahead of the machine's: by a tracer of all of its processes. For runs of `repro` alone.

Namespaces of time have no wall clock, and the machine's is not to be touched. So a filter (`clock_calls`) brings the few calls that tell
the date, or wait for one, before the tracer, a process beside the zygote, which adds or takes away what the clock is ahead; and from each
program that is executed it hides the vDSO, by which C libraries and Go would read the clock without a call. What a file system says of
files stays the machine's time. Who traces processes itself can't be traced: that ends the run, and so does the tracer's end
(PTRACE_O_EXITKILL); both are told as a failure of the set-up (`spec.UNMOVED`).
"""

from __future__ import annotations

import errno
import os
import struct

from imgbuild.hints import Iterator, NoReturn
from imgbuild.light import signal
from imgbuild.light.contextlib import suppress
from imgbuild.linux import syscalls, tracing
from imgbuild.sandbox import capabilities as caps
from imgbuild.sandbox import wire
from imgbuild.sandbox.child import READY
from imgbuild.sandbox.clock_calls import AT_IGNORE, CALLS, MARK, REGISTERS, Call, moved, vdso_entry
from imgbuild.sandbox.spec import UNMOVED
from imgbuild.values import dataclass

_OPTIONS = (
    tracing.OPTION_SYSGOOD | tracing.OPTION_FORK | tracing.OPTION_VFORK | tracing.OPTION_CLONE | tracing.OPTION_EXEC
    | tracing.OPTION_SECCOMP | tracing.OPTION_EXITKILL
)  # fmt: skip
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_IS_64_BIT = 0x80000000
_BLOCK = 4096
_MOST_STACK = 8 << 20
_BELOW_STACK = 256
"""So far below a thread's stack pointer there is nothing that it uses: 128 bytes may be (the red zone)."""
_A_DATE = 10**9
"""Seconds that are a time since 1970, and not since the machine was started: no machine runs for 31 years."""
_FIRST = 3


class Clock:
    """The zygote's side: who is born waits at `gate` until it is traced."""

    def __init__(self, ahead: int) -> None:
        self._ahead = ahead
        self.gate, self._opening = os.pipe()
        self._notes = -1
        self._tracer = 0

    def trace(self, pid: int) -> None:
        """Start the tracer of a process. Where that fails, the process is told by the end of its gate."""
        notes = -1
        try:
            self._notes, notes = os.pipe()
            own = os.getpid()
            self._tracer = os.fork()
            if self._tracer == 0:
                _serve(pid, self._ahead, self._opening, notes, own)
        except OSError:
            self._tracer = 0
        finally:
            if notes >= 0:
                os.close(notes)
            self._close_gate()

    def close(self) -> None:
        """There is nobody to be traced."""
        self._close_gate()
        self.end()

    def end(self) -> wire.Failure | None:
        """The process is gone: so will be the tracer; what it says of why there is nothing to be learnt from the run."""
        status = 0
        if self._tracer:
            ended, status = os.waitpid(self._tracer, os.WNOHANG)
            if not ended:
                status = 0
                os.kill(self._tracer, signal.SIGKILL)
                os.waitpid(self._tracer, 0)
            self._tracer = 0
        if self._notes < 0:
            return None
        said = os.read(self._notes, wire.FAILURE)
        os.close(self._notes)
        self._notes = -1
        if said:
            return wire.unpack_failure(said)
        return wire.Failure(wire.SETUP_FAILED, f"{UNMOVED}: who moves it was ended") if status else None

    def _close_gate(self) -> None:
        if self._opening >= 0:
            os.close(self.gate)
            os.close(self._opening)
            self._opening = -1


def _serve(pid: int, ahead: int, opening: int, notes: int, parent: int) -> NoReturn:
    """Be the tracer."""
    words = ""
    try:
        syscalls.close_others(_FIRST, (opening, notes))
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        with open("/proc/self/comm", "wb", buffering=0) as name:
            name.write(b"imgbuild-clock")
        try:
            _check_rights()
            tracing.seize(pid, _OPTIONS)
        except OSError as error:
            os.write(opening, os.strerror(error.errno or 0).lower().encode())
            os._exit(0)
        os.write(opening, READY)
        os.close(opening)
        _Tracer(ahead).run()
    except _TracesItselfError:
        words = "the step traces processes itself"
    except BaseException as error:
        words = f"{type(error).__name__}: {error}"
    if words:
        os.write(notes, wire.pack_failure(wire.SETUP_FAILED, f"{UNMOVED}: {words}"))
    os._exit(0)


def _check_rights() -> None:
    """A tracer without the right to it would take theirs from setuid programs."""
    effective, _, _ = syscalls.capget()
    if not effective & caps.mask(frozenset(("SYS_PTRACE",))):
        raise PermissionError(errno.EPERM, "CAP_SYS_PTRACE")


class _TracesItselfError(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Underway:
    """A call that goes on: at its end its result is changed, or what was changed for it is put back, an argument or `memory`."""

    call: Call
    address: int
    registers: bool = False
    memory: bytes = b""


class _Tracer:
    def __init__(self, ahead: int) -> None:
        self._ahead = ahead
        self._underway: dict[int, _Underway] = {}

    def run(self) -> None:
        """Until nobody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, tracing.WALL)
            except ChildProcessError:
                return
            if not os.WIFSTOPPED(status):
                self._underway.pop(pid, None)
                continue
            with suppress(ProcessLookupError):  # it was killed meanwhile, and is heard of again
                self._go_on(pid, os.WSTOPSIG(status), status >> 16)

    def _go_on(self, pid: int, signum: int, event: int) -> None:
        if event == tracing.EVENT_SECCOMP:
            self._begin(pid)
        elif event == tracing.EVENT_STOP and signum in _STOPPING:
            tracing.listen(pid)
        elif event:
            if event == tracing.EVENT_EXEC:
                self._underway.pop(pid, None)
                _hide_vdso(pid)
            tracing.resume(pid)
        elif signum == _SYSCALL_STOP:
            with suppress(OSError):
                self._finish(pid)
            tracing.resume(pid)
        else:
            tracing.resume(pid, signum)

    def _begin(self, pid: int) -> None:
        """At the beginning of a call that counts."""
        stop = tracing.stop_of(pid)
        place = stop.data - MARK
        if not 0 <= place < len(CALLS):  # a filter of its own, which has no tracer
            tracing.resume(pid)
            return
        call = CALLS[place]
        if call.does == "traces":
            raise _TracesItselfError
        address = stop.arguments[call.argument]
        underway: _Underway | None = _Underway(call, address)
        if call.does == "takes":
            try:
                underway = self._give(pid, call, stop, address)
            except ProcessLookupError:
                raise
            except OSError:  # not an address: the call will say it
                underway = None
        if underway is not None:
            self._underway[pid] = underway
        tracing.resume(pid, to_exit=underway is not None)

    def _give(self, pid: int, call: Call, stop: tracing.Stop, address: int) -> _Underway | None:
        """Let the call have a time of the machine's clock: another one, below the stack, as other threads may use what it points to. None
        where the time is no date, or one that is long over."""
        word = call.word(stop.architecture)
        size, at = call.words * word, call.place * word
        time = b"".join(tracing.peek(pid, address + offset) for offset in range(0, size, 8))
        least = _A_DATE if call.of_any_clock else self._ahead
        if not least <= int.from_bytes(time[at : at + word], "little") < 1 << 8 * word - 1:
            return None
        machines = moved(time, at, word, -self._ahead)
        registers = REGISTERS[stop.architecture]
        place = (stop.stack - _BELOW_STACK) & ~15
        try:
            tracing.poke(pid, place, machines)
        except ProcessLookupError:
            raise
        except OSError:  # its stack ends here
            tracing.poke(pid, address, machines)
            return _Underway(call, address, memory=time)
        data = tracing.registers(pid)
        tracing.set_registers(pid, registers.changed(data, registers.arguments[call.argument], place))
        return _Underway(call, address, registers=True)

    def _finish(self, pid: int) -> None:
        """At the end of a call, also of one that was interrupted, and will be begun again."""
        underway, stop = self._underway.pop(pid, None), tracing.stop_of(pid)
        if underway is None or stop.kind != tracing.AT_EXIT:
            return
        call, address = underway.call, underway.address
        if underway.memory:
            tracing.poke(pid, address, underway.memory)
        elif underway.registers:
            registers = REGISTERS[stop.architecture]
            tracing.set_registers(pid, registers.changed(tracing.registers(pid), registers.arguments[call.argument], address))
        elif stop.result >= 0 and call.does in ("tells", "returns", "adjusts"):
            if address:
                word = call.word(stop.architecture)
                seconds = address + call.place * word
                tracing.poke(pid, seconds, moved(tracing.peek(pid, seconds), 0, word, self._ahead))
            if call.does == "returns":
                registers = REGISTERS[stop.architecture]
                tracing.set_registers(pid, registers.changed(tracing.registers(pid), registers.result, stop.result + self._ahead))


def _hide_vdso(pid: int) -> None:
    """Before a new program's first instruction: call the entry of its vector that names the vDSO one to be ignored."""
    stop = tracing.stop_of(pid)
    word = 8 if stop.architecture & _IS_64_BIT else 4
    place = vdso_entry(_words(pid, stop.stack, word))
    if place is not None:
        address = stop.stack + place * word
        data = tracing.peek(pid, address)
        tracing.poke(pid, address, AT_IGNORE.to_bytes(word, "little") + data[word:])


def _words(pid: int, address: int, word: int) -> Iterator[int]:
    """The words of a stack, from an address up to its end."""
    form = struct.Struct("=Q" if word == 8 else "=I")
    for start in range(address, address + _MOST_STACK, _BLOCK):
        data = tracing.read(pid, start, _BLOCK)
        yield from (value for (value,) in form.iter_unpack(data[: len(data) // word * word]))
        if len(data) < _BLOCK:
            return
