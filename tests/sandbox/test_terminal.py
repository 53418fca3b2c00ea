"""A sandbox with a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

import pytest

from imgbuild.linux.features import Features, probe
from imgbuild.linux.mounts import Filesystem
from imgbuild.sandbox.spec import ExitStatus, Process
from imgbuild.sandbox.zygote import Sandbox, Zygote
from sandbox.conftest import ROOT, USER, spawn

pytestmark = ROOT


def _talk(sandbox: Sandbox, line: bytes = b"") -> tuple[str, ExitStatus]:
    assert sandbox.terminal is not None
    fcntl.ioctl(sandbox.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 123, 0, 0))
    os.write(sandbox.terminal, line)
    pieces = []
    while True:
        try:
            pieces.append(os.read(sandbox.terminal, 4096))
        except OSError:  # EIO: no slave is open any more
            break
    os.close(sandbox.terminal)
    return b"".join(pieces).decode().replace("\r\n", "\n"), sandbox.wait()


@pytest.mark.parametrize("user", [False, True], ids=["root", "user"])
def test_terminal(features: Features, root: Filesystem, user: bool) -> None:
    with Zygote.start(features) as zygote:
        script = "read line; tty; ls /dev/console; stty size; echo got $line; echo again > /dev/tty; echo third > $(tty)"
        script += "; ls -1 /proc/self/fd"
        identity = {"identity": USER} if user else {}
        sandbox = spawn(zygote, root, "sh", "-c", script, terminal=True, **identity)
        out, status = _talk(sandbox, b"hello\n")
        assert status.code == 0, out
        assert out.splitlines() == ["hello", "/dev/pts/0", "/dev/console", "40 123", "got hello", "again", "third", "0", "1", "2", "3"]


def test_control_c(root: Filesystem) -> None:
    with Zygote.start(probe()) as zygote:
        sandbox = spawn(zygote, root, "sh", "-c", "trap 'echo caught; exit 5' INT; echo ready; while :; do read x; done", terminal=True)
        assert sandbox.terminal is not None
        seen = b""
        while b"ready" not in seen:
            seen += os.read(sandbox.terminal, 100)
        # The line is for a shell that looked for signals just before the key, and began to read just after it.
        out, status = _talk(sandbox, b"\x03\n")
        assert "caught" in out
        assert status.code == 5


def test_entering_with_a_terminal(root: Filesystem) -> None:
    with Zygote.start(probe()) as zygote:
        first = spawn(zygote, root, "sleep", "1000")
        assert first.wait_running() is None
        sandbox = zygote.enter(first.pid, Process(("sh", "-c", "tty; stty size"), ("PATH=/bin",), terminal=True), 0, 1, 2)
        out, status = _talk(sandbox)
        assert status.code == 0
        assert "/dev/pts/" in out
        first.kill()
        first.wait()


def test_terminal_that_fails(root: Filesystem) -> None:
    with Zygote.start(probe()) as zygote:
        sandbox = spawn(zygote, root, "true", terminal=True, mounts=(), rlimits=(("NOFILE", 200, 100),))
        out, status = _talk(sandbox)
        assert (out, status.code) == ("", 125)
