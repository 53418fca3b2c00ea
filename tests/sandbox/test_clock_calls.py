"""The filter of the calls that have to do with the wall clock, call by call; and the stack of a new program, as the kernel makes it."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.errors import SandboxError
from imgbuild.sandbox import seccomp_profile as profile
from imgbuild.sandbox.clock_calls import CALLS, MACHINES, MARK, REGISTERS, Call, compile_filter, moved, vdso_entry
from sandbox.test_seccomp import interpret

ALLOW, TRACE, DENIED = 0x7FFF0000, 0x7FF00000, 0x00050000 | errno.EPERM
TABLES = [(machine, audit, profile.numbers(table)) for machine in sorted(MACHINES) for audit, table in profile.ARCHITECTURES[machine]]
HIGH = 1 << 33  # an address whose lower half is 0

COUNT: list[tuple[str, tuple[int, ...]]] = [
    *(("clock_gettime", (clock, 1)) for clock in (0, 5, 8, 11)),
    ("clock_gettime64", (0, 1)), ("gettimeofday", (1, 0)), ("time", (0,)), ("time", (HIGH,)),
    ("futex", (1, 9 | 0x100 | 0x80, 0, HIGH)), ("futex", (1, 6 | 0x80, 0, 1)), ("futex_time64", (1, 13 | 0x100, 0, 1)),
    ("clock_nanosleep", (0, 1, 1)), ("clock_nanosleep_time64", (11, 1, HIGH)), ("timer_settime", (5, 1, 1)), ("timerfd_settime", (5, 3, 1)),
    ("mq_timedsend", (1, 1, 1, 1, 1)), ("mq_timedreceive_time64", (1, 1, 1, 1, HIGH)), ("futex_waitv", (1, 1, 0, 1, 0)),
    ("futex_wait", (1, 1, 1, 1, 1, 0)), ("clone", (0x800011,)), *(("ptrace", (request, 5)) for request in (0, 16, 0x4206)),
]  # fmt: skip
GO_ON: list[tuple[str, tuple[int, ...]]] = [
    *(("clock_gettime", (clock, 1)) for clock in (1, 2, 3, 4, 6, 7, 9, 12, 0xFFFFFFFA)),
    ("futex", (1, 9 | 0x100, 0, 0)), ("futex", (1, 0, 0, 1)), ("futex", (1, 9 | 0x80, 0, 1)), ("futex", (1, 1, 6, 1)),
    ("clock_nanosleep", (0, 0, 1)), ("clock_nanosleep", (1, 1, 1)), ("timer_settime", (5, 0, 1)), ("timerfd_settime", (5, 2, 1)),
    ("mq_timedsend", (1, 1, 1, 1, 0)), ("futex_waitv", (1, 1, 0, 1, 1)), ("futex_waitv", (1, 1, 0, 0, 0)),
    ("futex_wait", (1, 1, 1, 1, 1, 1)),
    ("ptrace", (7, 5)), ("getpid", ()), ("nanosleep", (1, 1)), ("execve", (1, 1, 1)), ("clone", (0x11,)),
]  # fmt: skip
DENY = ("settimeofday", "stime", "clock_settime", "clock_settime64", "adjtimex", "clock_adjtime")


@pytest.mark.parametrize(("machine", "audit", "numbers"), TABLES, ids=lambda value: str(value)[:12])
def test_the_filter(machine: str, audit: int, numbers: dict[str, int]) -> None:
    program = compile_filter(machine)
    for name, arguments in COUNT:
        if name in numbers:
            verdict = interpret(program, audit, numbers[name], arguments)
            assert verdict & 0xFFFF0000 == TRACE, (name, arguments)
            assert CALLS[(verdict & 0xFFFF) - MARK].name == name
    for name, arguments in GO_ON:
        if name in numbers:
            assert interpret(program, audit, numbers[name], arguments) == ALLOW, (name, arguments)
    reading = compile_filter(machine, may_set=False)
    for name in set(DENY) & set(numbers):
        assert interpret(program, audit, numbers[name], (1, 1)) == DENIED
        assert (interpret(reading, audit, numbers[name], (0, 1)) & 0xFFFF0000 == TRACE) == ("adj" in name), name
    for name in set(numbers) - {call.name for call in CALLS}:
        assert interpret(program, audit, numbers[name], (1,) * 6) == ALLOW
    assert interpret(program, audit, 0x40000000 | numbers["clock_gettime"], (0, 1)) == ALLOW  # x32
    assert interpret(program, 0x12345678, numbers["clock_gettime"], (0, 1)) == ALLOW


def test_every_call_is_known_somewhere() -> None:
    known = {name for _, _, numbers in TABLES for name in numbers}
    assert {call.name for call in CALLS} <= known
    assert {audit for _, audit, _ in TABLES} <= set(REGISTERS)


def test_a_machine_that_is_not_known() -> None:
    with pytest.raises(SandboxError, match="vax"):
        compile_filter("vax")


@pytest.mark.parametrize(
    ("name", "audit", "word"),
    [("clock_gettime", 0xC000003E, 8), ("clock_gettime", 0x40000003, 4), ("futex_time64", 0x40000003, 8), ("futex_waitv", 0x40000003, 8)],
)
def test_the_size_of_seconds(name: str, audit: int, word: int) -> None:
    assert Call(name, "tells").word(audit) == word


def test_moved() -> None:
    assert moved(struct.pack("<qq", 100, 7), 0, 8, 23) == struct.pack("<qq", 123, 7)
    assert moved(struct.pack("<iiii", 1, 2, 3, 4), 8, 4, -2) == struct.pack("<iiii", 1, 2, 1, 4)
    assert moved(struct.pack("<I", 0xFFFFFFFF), 0, 4, 2) == struct.pack("<I", 1)


@given(st.sampled_from(sorted(REGISTERS)), st.data())
def test_a_register_is_changed_alone(audit: int, data: st.DataObject) -> None:
    registers = REGISTERS[audit]
    size = registers.word * 34
    before = data.draw(st.binary(min_size=size, max_size=size))
    place = data.draw(st.sampled_from((*registers.arguments, registers.result)))
    value = data.draw(st.integers(0, (1 << 8 * registers.word) - 1))
    after = registers.changed(before, place, value)
    assert registers.value(after, place) == value
    assert registers.changed(after, place, registers.value(before, place)) == before


@given(
    st.lists(st.integers(1, 1 << 47), max_size=20), st.lists(st.integers(1, 1 << 47), max_size=20),
    st.lists(st.tuples(st.sampled_from((3, 6, 16, 25, 31, 51)), st.integers(0, 99)), max_size=20), st.integers(0, 20),
)  # fmt: skip
def test_the_entry_of_the_vdso(arguments: list[int], environment: list[int], vector: list[tuple[int, int]], place: int) -> None:
    beginning = [len(arguments), *arguments, 0, *environment, 0]
    pairs = [*vector[:place], (33, 0x7FFF0000), *vector[place:]]
    stack = [*beginning, *(word for pair in pairs for word in pair), 0, 0, 33, 1]
    found = vdso_entry(iter(stack))
    assert found is not None
    assert found == len(beginning) + 2 * min(place, len(vector))
    assert stack[found : found + 2] == [33, 0x7FFF0000]
    without = [*beginning, *(word for pair in vector for word in pair), 0, 0, 33, 1]
    assert vdso_entry(iter(without)) is None


@pytest.mark.parametrize("stack", [[], [0], [5], [5, 1], [1, 1, 0, 1], [0, 0, 0], [0, 0, 0, 3], [1 << 20, 33, 33]])
def test_a_stack_that_ends(stack: list[int]) -> None:
    assert vdso_entry(iter(stack)) is None
