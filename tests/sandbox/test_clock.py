"""A wall clock that is ahead: in programs of every kind, for what waits for a time, and with whoever dies, stops, or traces."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import signal
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from imgbuild.linux import tracing
from imgbuild.linux.features import probe
from imgbuild.linux.mounts import Bind, Filesystem
from imgbuild.sandbox import clock
from imgbuild.sandbox.describe import describe
from imgbuild.sandbox.spec import UNMOVED, Identity
from imgbuild.sandbox.zygote import Zygote
from sandbox.conftest import ROOT, Result, Run, finish, spawn, spec_of

pytestmark = ROOT

DAY = 86400
AHEAD = 1000 * DAY

PYTHON = """
import ctypes, errno, os, signal, struct, subprocess, sys, threading, time
signal.alarm(100)
libc = ctypes.CDLL(None, use_errno=True)
def until(seconds):
    now = time.clock_gettime(time.CLOCK_REALTIME) + seconds
    return struct.pack("ll", int(now), int(now % 1 * 10**9))
def waits(call):
    began = time.monotonic()
    call()
    return 0.1 < time.monotonic() - began < 60
"""
FIRST_WAITS = """
print(waits(lambda: libc.clock_nanosleep(0, 1, until(0.2), None)))
semaphore = ctypes.create_string_buffer(64)
libc.sem_init(semaphore, 0, 0)
print(waits(lambda: libc.sem_timedwait(semaphore, until(0.2))))
timer = libc.timerfd_create(0, 0)
libc.timerfd_settime(timer, 1, struct.pack("ll", 0, 0) + until(0.2), None)
print(waits(lambda: os.read(timer, 8)))
"""
WAITS = """
shared = until(0.2)
def each():
    mutex, condition = ctypes.create_string_buffer(128), ctypes.create_string_buffer(128)
    libc.pthread_mutex_lock(mutex)
    print(waits(lambda: libc.pthread_cond_timedwait(condition, mutex, shared)) and shared == kept)
kept = bytes(bytearray(shared))
threads = [threading.Thread(target=each) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(libc.clock_nanosleep(0, 1, struct.pack("ll", 1, 0), None) == 0)
print(libc.clock_nanosleep(0, 1, ctypes.c_void_p(8), None) == errno.EFAULT)
"""
SIGNALS = """
seen = set()
signal.signal(signal.SIGALRM, lambda number, frame: seen.add((int(time.time() // 86400), "handler")))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
end = time.monotonic() + 0.5
def calls():
    while time.monotonic() < end:
        seen.add((int(time.time() // 86400), "thread"))
        libc.clock_nanosleep(0, 1, until(0.002), None)
threads = [threading.Thread(target=calls) for _ in range(3)]
for thread in threads: thread.start()
children = [subprocess.Popen(["/bin/sleep", "1000"]) for _ in range(8)]
for number, child in enumerate(children):
    child.send_signal(signal.SIGSTOP if number % 2 else signal.SIGKILL)
for child in children[1::2]:
    child.send_signal(signal.SIGCONT)
    child.terminate()
codes = {child.wait() for child in children}
for thread in threads: thread.join()
print(sorted(codes), sorted({kind for _, kind in seen}), *sorted({day for day, _ in seen}))
"""
THREADS = """
def calls():
    for _ in range(200):
        days.add(int(time.time() // 86400))
        subprocess.run(["/bin/true"]) if _ % 50 == 0 else None
days = set()
threads = [threading.Thread(target=calls) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*sorted(days))
sys.stdout.flush()
threading.Thread(target=lambda: os.execv(sys.executable, [sys.executable, "-c", "import time; print(int(time.time() // 86400))"])).start()
time.sleep(60)
"""


def days() -> int:
    return int(time.time() // DAY)


def python(zygote: Zygote, text: str, **changes: Any) -> Result:
    """A program of the host's Python, where all of the host is its root."""
    return finish(zygote, spec_of(Bind("/"), (sys.executable, "-c", PYTHON + text), **changes))


def test_programs(plain: Run) -> None:
    before = days()
    done = plain("sh", "-c", "date +%s; (date +%s); sh -c 'date +%s | cat'; busybox date +%s; cut -d . -f 1 /proc/uptime", ahead=AHEAD)
    *moved, uptime = map(int, done.lines)
    assert done.status.code == 0
    assert {each // DAY - 1000 for each in moved} <= {before, days()}
    assert len(moved) == 4
    assert uptime <= time.monotonic() + DAY
    machines = plain("sh", "-c", "date +%s", ahead=0)
    assert int(machines.lines[0]) // DAY in {before, days()}


def test_every_clock(plain_zygote: Zygote) -> None:
    text = "print(*(int(time.clock_gettime(clock) // 86400) for clock in (0, 5, 11, 1)), int(time.time() // 86400))"
    text += """
state = ctypes.create_string_buffer(256)
for call in (lambda: libc.adjtimex(state), lambda: libc.clock_adjtime(0, state)):
    print(call() >= 0 and struct.unpack_from("l", state, 72)[0] // 86400)
"""
    before = days()
    clocks, *asked = python(plain_zygote, text, ahead=AHEAD).lines
    realtime, coarse, tai, since_boot, now = map(int, clocks.split())
    assert {realtime - 1000, coarse - 1000, tai - 1000, now - 1000, *(int(each) - 1000 for each in asked)} <= {before, days()}
    assert len(asked) == 2
    assert since_boot < 900


I386 = bytes.fromhex(
    "83ec20 b81b000000bb3c000000cd80"  # alarm(60)
    "b80901000031db89e1cd808b3424"  # clock_gettime(CLOCK_REALTIME, %esp)
    "b80b01000031dbb90100000089e231f6cd808b3424"  # clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, %esp): is that still the time?
    "b80d00000031dbcd8089c7"  # time(0)
    "b84e00000089e331c9cd808b2c24"  # gettimeofday(%esp, 0)
    "b89301000031db89e1cd80"  # clock_gettime64(CLOCK_REALTIME, %esp)
    "555756 b804000000bb0100000089e1ba10000000cd80 b80100000031dbcd80"  # write(1, all four, 16), exit(0)
)
"""A program of another architecture that the same kernel runs: its times have four bytes, and its registers are others."""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs another machine than arm64")
def test_programs_of_32_bits(plain_zygote: Zygote) -> None:
    base, size = 0x8048000, 84 + len(I386)
    head = b"\x7fELF\1\1\1".ljust(16, b"\0") + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, base + 84, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    program = head + struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000) + I386
    with tempfile.TemporaryDirectory() as place:
        Path(place, "program").write_bytes(program)
        os.chmod(f"{place}/program", 0o755)
        text = f"print(*struct.unpack('<4I', subprocess.run(['{place}/program'], stdout=-1, check=True).stdout))"
        before = days()
        moved, machines = (set(map(int, python(plain_zygote, text, ahead=ahead).out.split())) for ahead in (AHEAD, 0))
    assert {each // DAY - 1000 for each in moved} <= {before, days()}
    assert {each // DAY for each in machines} <= {before, days()}


def test_what_waits_for_a_time(plain_zygote: Zygote) -> None:
    done = python(plain_zygote, FIRST_WAITS + WAITS, ahead=AHEAD)
    assert done.lines == ["True"] * 9, done.out


def test_a_time_that_has_no_place_below_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is changed where it is, and changed back."""
    monkeypatch.setattr(clock, "_BELOW_STACK", 1 << 40)
    kept = "deadline = until(0.2); kept = bytes(bytearray(deadline)); libc.clock_nanosleep(0, 1, deadline, None); print(deadline == kept)"
    with Zygote.start(probe()) as zygote:
        done = python(zygote, FIRST_WAITS + kept, ahead=AHEAD)
    assert done.lines == ["True"] * 4, done.out


def test_signals_meanwhile(plain_zygote: Zygote) -> None:
    before = days()
    *words, day = python(plain_zygote, SIGNALS, ahead=AHEAD).out.split()
    assert " ".join(words) == "[-15, -9] ['handler', 'thread']"
    assert int(day) - 1000 in {before, days()}


def test_threads_and_their_exec(plain_zygote: Zygote) -> None:
    before = days()
    done = python(plain_zygote, THREADS, ahead=AHEAD)
    assert done.status.code == 0
    assert {int(word) - 1000 for word in done.out.split()} <= {before, days()}
    assert len(done.lines) == 2


def test_files_have_the_machine_s_time(plain: Run) -> None:
    before = days()
    done = plain("sh", "-c", "touch /x && stat -c %Y /x", ahead=AHEAD)
    assert int(done.lines[0]) // DAY in {before, days()}


def test_how_it_ends_is_as_ever(plain: Run) -> None:
    assert plain("sh", "-c", "exit 7", ahead=AHEAD).status.code == 7
    assert plain("sh", "-c", "sh -c 'kill -9 $$'; echo $?", ahead=AHEAD).lines[-1] == "137"
    assert plain("sh", "-c", "trap 'echo caught; exit 4' TERM; sh -c \"kill -TERM $$\"", ahead=AHEAD).status.code == 4
    assert plain("nothing-there", ahead=AHEAD).status.code == 127
    stopped = "sleep 1000 & kill -STOP $!; kill -CONT $!; kill $!; wait $!; echo $?"
    assert plain("sh", "-c", stopped, ahead=AHEAD).lines[-1] == "143"


def test_a_daemon_is_no_reason_to_wait(plain: Run) -> None:
    assert plain("sh", "-c", "(sleep 1000 &); (trap '' TERM HUP; sleep 1000 &); date > /dev/null", ahead=AHEAD).status.code == 0


def test_another_user_and_a_setuid_program(plain_zygote: Zygote) -> None:
    """Of whom a tracer of too few rights would take away what the mode gives."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        shutil.copy(shutil.which("date") or "", f"{place}/date")
        shutil.copy(shutil.which("cat") or "", f"{place}/cat")
        os.chmod(f"{place}/cat", 0o4755)
        os.chmod(f"{place}/date", 0o711)
        Path(place, "secret").write_text("read")
        os.chmod(f"{place}/secret", 0o600)
        command = f"{place}/date +%s; {place}/cat {place}/secret"
        done = finish(plain_zygote, spec_of(Bind("/"), ("/bin/sh", "-c", command), ahead=AHEAD, identity=Identity(1000, 1000, (), "/")))
    assert int(done.lines[0]) // DAY - 1000 in {days(), days() - 1}
    assert done.lines[1] == "read"


def test_who_traces_is_told_apart(plain_zygote: Zygote) -> None:
    done = python(plain_zygote, "libc.ptrace(0, 0, 0, 0); print('went on')", ahead=AHEAD)
    assert (done.status.code, done.status.setup_error) == (125, f"{UNMOVED}: the step traces processes itself")
    assert done.out == ""
    assert python(plain_zygote, "print(libc.ptrace(0, 0, 0, 0))").out == "0\n"


def test_who_would_be_without_a_tracer_is_told_apart(plain_zygote: Zygote) -> None:
    done = python(plain_zygote, "libc.syscall(56 if os.uname().machine == 'x86_64' else 220, 0x800011, 0, 0, 0, 0)", ahead=AHEAD)
    assert done.status.setup_error.startswith(UNMOVED)


def test_the_machine_s_clock_is_not_set(plain_zygote: Zygote) -> None:
    """Not even by who may, in a run whose clock is another one."""
    text = "print(libc.clock_settime(0, struct.pack('ll', 10**9, 0)), ctypes.get_errno())"
    assert python(plain_zygote, text, ahead=AHEAD, privileged=True).out == f"-1 {errno.EPERM}\n"


def _refused(pid: int, options: int) -> None:
    raise PermissionError(errno.EPERM, "ptrace", str(pid))


def test_tracing_that_is_refused(root: Filesystem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "seize", _refused)
    with Zygote.start(probe()) as zygote:
        status = finish(zygote, spec_of(root, ("date",), ahead=AHEAD)).status
        assert (status.code, status.setup_error) == (125, f"{UNMOVED}: operation not permitted")
        assert finish(zygote, spec_of(root, ("date",))).status.code == 0


def _dies(pid: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fails(pid: int) -> None:
    raise ValueError("what now")


@pytest.mark.parametrize(("end", "why"), [(_dies, "who moves it was ended"), (_fails, "ValueError: what now")])
def test_a_tracer_that_ends(root: Filesystem, monkeypatch: pytest.MonkeyPatch, end: Any, why: str) -> None:
    """What it traces ends with it."""
    monkeypatch.setattr(clock, "_hide_vdso", end)
    with Zygote.start(probe()) as zygote:
        status = finish(zygote, spec_of(root, ("sleep", "1000"), ahead=AHEAD)).status
        assert (status.code, status.setup_error) == (125, f"{UNMOVED}: {why}")


def test_who_is_killed_takes_the_tracer_along(root: Filesystem) -> None:
    with Zygote.start(probe()) as zygote:
        before = _children(zygote)
        sandbox = spawn(zygote, root, "sh", "-c", "sleep 1000 & sleep 1000", ahead=AHEAD)
        assert sandbox.wait_running() is None
        assert len(_children(zygote)) == len(before) + 2
        sandbox.kill()
        status = sandbox.wait()
        assert status is not None
        assert status.signal == signal.SIGKILL
        assert _children(zygote) == before
        spawn(zygote, root, "sleep", "1000", ahead=AHEAD)


def _children(zygote: Zygote) -> list[str]:
    return Path(f"/proc/{zygote._pid}/task/{zygote._pid}/children").read_text().split()


def test_it_is_described(root: Filesystem, plain_zygote: Zygote) -> None:
    lines = describe(plain_zygote.plan(spec_of(root, ("date",), ahead=AHEAD)))
    assert any(line.startswith(f"wall clock ahead by {AHEAD} s") for line in lines)
    assert not any("wall clock" in line for line in describe(plain_zygote.plan(spec_of(root, ("date",)))))
