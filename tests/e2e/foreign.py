"""Programs of another architecture, and a user namespace of a test's own in which a handler for them can be registered.

From Linux 6.7 on, handlers belong to the user namespace in which binfmt_misc is mounted: nothing of this is seen by anybody else.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from .harness import PATIENCE, Bench, Done

MAGIC = rb"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
QEMU = Path("/usr/bin/qemu-aarch64-static")
MOUNT = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc"


def arm64_program(text: bytes) -> bytes:
    """A program for arm64 that writes a text to its standard output."""
    base, start, count = 0x400000, 64 + 56, 8

    def move(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    to_text = 4 * (count - 1)  # the text stands behind the instructions; its address is the second one's business
    address = 0x10000000 | (to_text & 3) << 29 | to_text >> 2 << 5 | 1
    call = 0xD4000001
    instructions = (move(0, 1), address, move(2, len(text)), move(8, 64), call, move(0, 0), move(8, 93), call)
    code = struct.pack("<8I", *instructions)
    size = start + len(code) + len(text)
    identity = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return header + segment + code + text


def registration(interpreter: str | Path = QEMU, flags: str = "F") -> str:
    """The shell command that registers a handler for arm64, called "arm64"."""
    line = b":arm64:M::" + MAGIC + b":" + MASK + f":{interpreter}:{flags}".encode()
    return f"printf %s '{line.decode()}' > /proc/sys/fs/binfmt_misc/register"


def within(bench: Bench, setup: str, *arguments: str | Path, code: int | None = 0) -> Done:
    """Run imgbuild in a new user namespace after a shell command; skips the test where there are no handlers in such a namespace."""
    probe = subprocess.run(["unshare", "-Ur", "-m", "sh", "-c", MOUNT], capture_output=True, check=False, timeout=PATIENCE)
    if probe.returncode != 0:
        pytest.skip("needs binfmt_misc in a user namespace")
    script = f'set -e; {setup}; exec "$@"'
    command = ["unshare", "-Ur", "-m", "sh", "-c", script, "sh", *bench.command(*arguments)]
    done = subprocess.run(command, capture_output=True, env=bench.environ, cwd=bench.context, timeout=PATIENCE, check=False)
    result = Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))
    assert code is None or result.code == code, f"ended with {result.code}\n{result.out}\n{result.err}"
    assert "Traceback" not in result.err
    return result
