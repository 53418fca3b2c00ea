"""Which system calls tell the date, or are told one, and how a program is kept from reading it past them. Pure.

`compile_filter` makes of the table a BPF program beside the sandbox's own (`seccomp`): the calls that have to do with the wall clock are
brought before the tracer (`clock`), with their place in the table; all others go on, those of an architecture that is not known, too.
What the kernel maps into each program to tell the time without a call (vDSO) is found by its vector of values (getauxval(3)).
"""

from __future__ import annotations

import errno
import struct

from imgbuild.errors import SandboxError
from imgbuild.hints import Iterator, Literal
from imgbuild.sandbox import seccomp_profile as profile
from imgbuild.values import dataclass

_LOAD, _AND, _JUMP, _JEQ, _JSET, _RET = 0x20, 0x54, 0x05, 0x15, 0x45, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _TRACE, _DENIED = 0x7FFF0000, 0x7FF00000, 0x00050000 | errno.EPERM
_IS_64_BIT = 0x80000000  # of an AUDIT_ARCH_*

MARK = 0x4300
"""What the filter says to the tracer is this and the call's place in the table: a filter of the program's own says something else."""

_WALL_CLOCKS = (0, 5, 8, 11)  # CLOCK_REALTIME, _COARSE, _ALARM, CLOCK_TAI
_ABSOLUTE = 1  # TIMER_ABSTIME, TFD_TIMER_ABSTIME
_FUTEX_REALTIME, _FUTEX_COMMAND, _FUTEX_LOCK_PI = 0x100, 0x7F, 6
_TRACES = (0, 16, 0x4206)  # PTRACE_TRACEME, _ATTACH, _SEIZE
_UNTRACED = 0x800000  # CLONE_UNTRACED
_TIMERS = ("timer_settime", "timer_settime64", "timerfd_settime", "timerfd_settime64")
_NEW = ("futex_waitv", "futex_wait")  # their times have eight bytes everywhere

AT_SYSINFO_EHDR, AT_IGNORE = 33, 1

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Condition:
    """Of a call that counts: its argument is one `of` some numbers; or has the `bit`; or is not 0 (`given`); or is an operation of futex(2)
    that knows the wall clock (`futex`)."""

    argument: int
    test: Literal["of", "bit", "given", "futex"]
    values: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """A call, and what is done where all conditions hold. `tells`: the time is written to where an argument points, its seconds at `place`;
    `returns`: it is the result, too; `takes`: an argument points to a time until which is waited, `words` long, of which the seconds are at
    `place`; `traces`: the program is a tracer itself, or makes a process that has none; `sets`: refused, whatever its rights are: it would
    set this machine's clock by a wrong one; `adjusts`: that, where it has the right to, and else `tells`."""

    name: str
    does: Literal["tells", "returns", "takes", "traces", "sets", "adjusts"]
    argument: int = 0
    conditions: tuple[Condition, ...] = ()
    words: int = 2
    place: int = 0

    @property
    def of_any_clock(self) -> bool:
        """Whether its arguments do not say of which clock its time is."""
        return self.name in _TIMERS

    def word(self, architecture: int) -> int:
        """How many bytes its seconds have."""
        return 8 if architecture & _IS_64_BIT or self.name.endswith("64") or self.name in _NEW else 4


def _takes(names: tuple[str, ...], argument: int, *conditions: Condition, words: int = 2, place: int = 0) -> tuple[Call, ...]:
    return tuple(Call(name, "takes", argument, (*conditions, Condition(argument, "given")), words, place) for name in names)


_CLOCK = Condition(0, "of", _WALL_CLOCKS)
_UNTIL = Condition(1, "bit", (_ABSOLUTE,))
_QUEUES = ("mq_timedsend", "mq_timedsend_time64", "mq_timedreceive", "mq_timedreceive_time64")

CALLS: tuple[Call, ...] = (
    Call("clock_gettime", "tells", 1, (_CLOCK,)),
    Call("clock_gettime64", "tells", 1, (_CLOCK,)),
    Call("gettimeofday", "tells"),
    Call("time", "returns"),
    *_takes(("futex", "futex_time64"), 3, Condition(1, "futex")),
    *_takes(("clock_nanosleep", "clock_nanosleep_time64"), 2, _CLOCK, _UNTIL),
    *_takes(_TIMERS, 2, _UNTIL, words=4, place=2),
    *_takes(_QUEUES, 4),
    *_takes(("futex_waitv",), 3, Condition(4, "of", (0,))),
    *_takes(("futex_wait",), 4, Condition(5, "of", (0,))),
    Call("ptrace", "traces", 0, (Condition(0, "of", _TRACES),)),
    Call("clone", "traces", 0, (Condition(0, "bit", (_UNTRACED,)),)),
    *(Call(name, "sets") for name in ("settimeofday", "stime", "clock_settime", "clock_settime64")),
    Call("adjtimex", "adjusts", place=9),
    *(Call(name, "adjusts", 1, place=9) for name in ("clock_adjtime", "clock_adjtime64")),
)


def compile_filter(machine: str, *, may_set: bool = True) -> bytes:
    """The program for a machine; SandboxError where its calls are not known. `may_set`: its processes may have the right to set a clock."""
    if machine not in MACHINES:
        raise SandboxError(f"the calls of {machine} that tell the time are not known")
    program: list[Instruction] = [(_LOAD, 0, 0, _ARCH)]
    for audit, table in profile.ARCHITECTURES[machine]:
        numbers = profile.numbers(table)
        body: list[Instruction] = [(_LOAD, 0, 0, _NR)]
        for place, call in enumerate(CALLS):
            if call.name in numbers:
                refused = call.does == "sets" or (call.does == "adjusts" and may_set)
                verdict = _DENIED if refused else _TRACE | MARK | place
                block = _block(call.conditions, verdict)
                body += [(_JEQ, 0, len(block), numbers[call.name]), *block]
        body.append((_RET, 0, 0, _ALLOW))
        program += [(_JEQ, 1, 0, audit), (_JUMP, 0, 0, len(body)), *body]
    program.append((_RET, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _block(conditions: tuple[Condition, ...], verdict: int) -> list[Instruction]:
    """Ends with the verdict where all conditions hold, else with the call's going on."""
    block: list[Instruction] = [(_RET, 0, 0, verdict), (_RET, 0, 0, _ALLOW)]
    for condition in reversed(conditions):
        block = [*_condition(condition, len(block) - 1), *block]
    return block


def _condition(condition: Condition, rest: int) -> list[Instruction]:
    """Goes on after itself where it holds, else to so many instructions later."""
    low = (_LOAD, 0, 0, _ARGS + 8 * condition.argument)
    if condition.test == "of":
        last = len(condition.values) - 1
        return [low, *((_JEQ, last - at, rest if at == last else 0, value) for at, value in enumerate(condition.values))]
    if condition.test == "bit":
        return [low, (_JSET, 0, rest, condition.values[0])]
    if condition.test == "given":
        return [low, (_JEQ, 0, 2, 0), (_LOAD, 0, 0, _ARGS + 8 * condition.argument + 4), (_JEQ, rest, 0, 0)]
    return [low, (_JSET, 2, 0, _FUTEX_REALTIME), (_AND, 0, 0, _FUTEX_COMMAND), (_JEQ, 0, rest, _FUTEX_LOCK_PI)]


@dataclass(frozen=True, slots=True)
class Registers:
    """Where, in the general registers of an architecture, the arguments and the result of a call are; `word` is the size of one."""

    word: int
    arguments: tuple[int, ...]
    result: int

    def value(self, data: bytes, place: int) -> int:
        """What one of them holds."""
        return int.from_bytes(data[place * self.word :][: self.word], "little")

    def changed(self, data: bytes, place: int, value: int) -> bytes:
        """All of them, with another value in one."""
        at = place * self.word
        return data[:at] + value.to_bytes(self.word, "little") + data[at + self.word :]


REGISTERS: dict[int, Registers] = {
    0xC000003E: Registers(8, (14, 13, 12, 7, 9, 8), 10),
    0x40000003: Registers(4, (0, 1, 2, 3, 4, 5), 6),
    0xC00000B7: Registers(8, (0, 1, 2, 3, 4, 5), 0),
}
"""By AUDIT_ARCH_*: x86_64 (struct user_regs_struct), i386, aarch64 (struct user_pt_regs)."""

MACHINES = frozenset({"x86_64", "aarch64"})
"""The machines whose architectures are all known here."""


def moved(data: bytes, at: int, word: int, seconds: int) -> bytes:
    """A time in memory, whose seconds are at `at`, moved by so many; it may go around, as in the kernel."""
    value = int.from_bytes(data[at : at + word], "little") + seconds
    return data[:at] + (value % (1 << 8 * word)).to_bytes(word, "little") + data[at + word :]


def vdso_entry(words: Iterator[int]) -> int | None:
    """Which of the words on a new program's stack, from its top on, says where the vDSO is; None where none does. They are the number of
    arguments, these, 0, the environment, 0, and pairs of a name and a value, of which the last is named 0 (AT_NULL)."""
    position = 1
    for _ in range(next(words, 0) + 1):
        next(words, 0)
        position += 1
    while next(words, 0):
        position += 1
    position += 1
    for name in words:
        if name == AT_SYSINFO_EHDR:
            return position
        if not name:
            break
        next(words, 0)
        position += 2
    return None
