"""The filter: interpreted call by call against the profile, and installed for real."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable

import pytest

from imgbuild.errors import SandboxError
from imgbuild.linux import syscalls
from imgbuild.sandbox import seccomp_profile as profile
from imgbuild.sandbox.capabilities import ALL
from imgbuild.sandbox.seccomp import compile_profile
from imgbuild.sandbox.spec import DEFAULT_CAPABILITIES
from sandbox.conftest import ROOT, Run

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
TABLES = [(machine, audit, table) for machine, kinds in profile.ARCHITECTURES.items() for audit, table in kinds]


def interpret(program: bytes, audit: int, number: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel's machine would return."""
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, audit, 0, *arguments, *(0,) * (6 - len(arguments)))
    accumulator = position = 0
    while True:
        code, true, false, k = struct.unpack_from("=HBBI", program, position * 8)
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, k)
        elif code == 0x05:
            position += k
        elif code == 0x06:
            return int(k)
        else:
            if code == 0x54:
                accumulator &= k
                continue
            holds = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
            position += true if holds else false


@pytest.mark.parametrize(("machine", "audit", "table"), TABLES, ids=lambda value: str(value)[:12].strip())
@pytest.mark.parametrize("capabilities", [DEFAULT_CAPABILITIES, frozenset(), ALL], ids=["default", "none", "all"])
def test_every_call(machine: str, audit: int, table: str, capabilities: frozenset[str]) -> None:
    program = compile_profile(machine, capabilities)
    numbers = profile.numbers(table)
    for name, number in numbers.items():
        verdict = interpret(program, audit, number)
        if name == "clone3" and "SYS_ADMIN" not in capabilities:
            assert verdict == ENOSYS
        elif name in profile.WITHHELD:
            assert verdict == (ALLOW if capabilities & set(profile.WITHHELD[name]) else EPERM), name
        else:
            assert verdict == ALLOW, name
    for number in set(range(600)) - set(numbers.values()) | {0x40000000, 0x40000000 | numbers["getpid"], 0xFFFFFFFF}:
        assert interpret(program, audit, number) == ENOSYS
    assert interpret(program, 0x12345678, numbers["getpid"]) == KILL


@pytest.mark.parametrize(
    ("call", "argument", "verdict"),
    [
        ("clone", 0x11, ALLOW), ("clone", 0x3D0F00, ALLOW), ("clone", 0x10000000 | 0x11, EPERM), ("clone", 0x00020000, EPERM),
        ("clone", 0x40000000, EPERM), ("personality", 0, ALLOW), ("personality", 8, ALLOW), ("personality", 0x20008, ALLOW),
        ("personality", 0xFFFFFFFF, ALLOW), ("personality", 0x40000, EPERM), ("socket", 2, ALLOW), ("socket", 1, ALLOW),
        ("socket", 40, EPERM),
    ],
)  # fmt: skip
def test_arguments(call: str, argument: int, verdict: int) -> None:
    for machine, audit, table in TABLES:
        number = profile.numbers(table)[call]
        assert interpret(compile_profile(machine, DEFAULT_CAPABILITIES), audit, number, (argument,)) == verdict


def test_what_is_withheld_is_known() -> None:
    known = {name for _, _, table in TABLES for name in profile.numbers(table)}
    assert set(profile.WITHHELD) | set(profile.ARGUMENTS) | set(profile.UNKNOWN_WITHOUT) <= known
    for machine, _, table in TABLES:
        numbers = profile.numbers(table)
        assert len(set(numbers.values())) == len(numbers), machine


def test_some_numbers() -> None:
    x86_64, i386 = (profile.numbers(table) for _, table in profile.ARCHITECTURES["x86_64"])
    ((_, generic),) = profile.ARCHITECTURES["aarch64"]
    aarch64 = profile.numbers(generic)
    assert [x86_64[name] for name in ("read", "execve", "mount", "rseq", "clone3", "mseal")] == [0, 59, 165, 334, 435, 462]
    assert [i386[name] for name in ("read", "execve", "mount", "rseq", "clone3", "mseal")] == [3, 11, 21, 386, 435, 462]
    assert [aarch64[name] for name in ("read", "execve", "mount", "rseq", "clone3", "mseal")] == [63, 221, 40, 293, 435, 462]


def test_same_program_each_time() -> None:
    assert compile_profile("x86_64", DEFAULT_CAPABILITIES) == compile_profile("x86_64", frozenset(sorted(DEFAULT_CAPABILITIES)))


def test_unknown_machine() -> None:
    with pytest.raises(SandboxError, match="no seccomp profile for pdp11"):
        compile_profile("pdp11", frozenset())


def _filtered(body: Callable[[], int]) -> int:
    """What `body` returns in a child under the default filter."""
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
            syscalls.seccomp_filter(compile_profile(os.uname().machine, DEFAULT_CAPABILITIES))
            os._exit(body())
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _errno_of(call: str, *arguments: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    ((_, table), *_) = profile.ARCHITECTURES[os.uname().machine]
    number = profile.numbers(table).get(call, 9999)
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return ctypes.get_errno() if result < 0 else 0


@pytest.mark.parametrize(
    ("call", "arguments", "expected"),
    [
        ("mount", (0, 0, 0, 0, 0), errno.EPERM), ("unshare", (0x10000000,), errno.EPERM), ("keyctl", (0, 0, 0), errno.EPERM),
        ("bpf", (0, 0, 0), errno.EPERM), ("io_uring_setup", (1, 0), errno.EPERM), ("clone3", (0, 0), errno.ENOSYS),
        ("future", (), errno.ENOSYS),
        ("socket", (40, 1, 0), errno.EPERM), ("personality", (0xFFFFFFFF,), 0), ("getpid", (), 0),
    ],
)  # fmt: skip
def test_installed(call: str, arguments: tuple[int, ...], expected: int) -> None:
    assert _filtered(lambda: _errno_of(call, *arguments)) == expected


def test_threads_and_children_work() -> None:
    def body() -> int:
        import subprocess
        import threading

        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        return subprocess.run(["/bin/sh", "-c", "exit $(echo 7)"], check=False).returncode

    assert _filtered(body) == 7


@ROOT
def test_in_a_sandbox(plain: Run) -> None:
    result = plain("sh", "-c", "mount -t tmpfs none /mnt; unshare -m true; mknod /tmp/null c 1 3 && chroot / true && echo fine")
    assert "mount: permission denied" in result.out
    assert "unshare: unshare(0x20000): Operation not permitted" in result.out
    assert result.lines[-1] == "fine"
    result = plain("unshare", "-m", "true", capabilities=DEFAULT_CAPABILITIES | {"SYS_ADMIN"})
    assert result.status.code == 0
