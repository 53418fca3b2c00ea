"""From the profile to a BPF program (seccomp(2), struct sock_filter): a binary search over ranges of call numbers.

Pure: the program depends on the machine and the capabilities only. A few dozen comparisons deep, it costs a call well under 100 ns.
"""

from __future__ import annotations

import errno
import struct

from imgbuild.errors import SandboxError
from imgbuild.sandbox import seccomp_profile as profile
from imgbuild.sandbox.seccomp_profile import ArgumentRule

_LOAD, _JUMP, _JEQ, _JGE, _JSET, _RET = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
_NR, _ARCH, _ARGS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_DENIED = _ERRNO | errno.EPERM
_UNKNOWN = _ERRNO | errno.ENOSYS
_NEAR = 255  # the farthest that a conditional jump reaches
_LONGEST = 4096  # BPF_MAXINSNS

Instruction = tuple[int, int, int, int]
Verdict = int | ArgumentRule


def compile_profile(machine: str, capabilities: frozenset[str]) -> bytes:
    """The default profile's program for a machine and a set of capabilities."""
    architectures = profile.ARCHITECTURES.get(machine)
    if architectures is None:
        known = ", ".join(sorted(profile.ARCHITECTURES))
        raise SandboxError(f"there is no seccomp profile for {machine}", hint=f"machines with one: {known}")
    program: list[Instruction] = [(_LOAD, 0, 0, _ARCH)]
    for audit, table in architectures:
        body = [(_LOAD, 0, 0, _NR), *_search(_ranges(profile.numbers(table), capabilities))]
        program += [(_JEQ, 1, 0, audit), (_JUMP, 0, 0, len(body)), *body]
    program.append((_RET, 0, 0, _KILL))
    if len(program) > _LONGEST:
        raise SandboxError("the seccomp program is too long")
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _verdict(name: str, capabilities: frozenset[str]) -> Verdict:
    if name in profile.UNKNOWN_WITHOUT and capabilities.isdisjoint(profile.UNKNOWN_WITHOUT[name]):
        return _UNKNOWN
    if name in profile.WITHHELD and capabilities.isdisjoint(profile.WITHHELD[name]):
        return _DENIED
    rule = profile.ARGUMENTS.get(name)
    if rule is not None and capabilities.isdisjoint(rule.unless):
        return rule
    return _ALLOW


def _ranges(numbers: dict[str, int], capabilities: frozenset[str]) -> list[tuple[int, Verdict]]:
    """(first number, verdict) of each range, in order; the last has no end."""
    verdicts: dict[int, Verdict] = {number: _verdict(name, capabilities) for name, number in numbers.items()}
    ranges: list[tuple[int, Verdict]] = []
    for number in range(max(verdicts) + 2):
        verdict = verdicts.get(number, _UNKNOWN)
        if not ranges or ranges[-1][1] != verdict:
            ranges.append((number, verdict))
    return ranges


def _search(ranges: list[tuple[int, Verdict]]) -> list[Instruction]:
    if len(ranges) == 1:
        return _leaf(ranges[0][1])
    middle = len(ranges) // 2
    low, high = _search(ranges[:middle]), _search(ranges[middle:])
    first = ranges[middle][0]
    if len(low) <= _NEAR:
        return [(_JGE, len(low), 0, first), *low, *high]
    return [(_JGE, 0, 1, first), (_JUMP, 0, 0, len(low)), *low, *high]


def _leaf(verdict: Verdict) -> list[Instruction]:
    if isinstance(verdict, int):
        return [(_RET, 0, 0, verdict)]
    load = (_LOAD, 0, 0, _ARGS + 8 * verdict.index)
    allow, deny = (_RET, 0, 0, _ALLOW), (_RET, 0, 0, _DENIED)
    if verdict.test == "without":
        return [load, (_JSET, 1, 0, verdict.values[0]), allow, deny]
    count = len(verdict.values)
    tests = [(_JEQ, count - i, 0, value) for i, value in enumerate(verdict.values)]
    return [load, *tests, deny, allow] if verdict.test == "in" else [load, *tests, allow, deny]
