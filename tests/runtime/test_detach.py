"""A process that stays behind: what it reports, what it raises, and when it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SOURCE

HEAD = """
import os, signal, sys
from imgbuild.errors import NotFoundError
from imgbuild.runtime.detach import detached
"""


def script(body: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + body], capture_output=True, text=True, timeout=60, check=False, env={"PYTHONPATH": str(SOURCE)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_report_comes_and_the_work_goes_on(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    out = script(f"""
def work(report):
    print("seen", flush=True)
    report("hello")
    print("not seen", flush=True)
    with open({str(pipe)!r}, "w") as file:
        file.write(f"{{os.getsid(0) != int(sys.argv[1])}}")
sys.argv.append(str(os.getsid(0)))
print(detached(work))
""")
    assert out == "seen\nhello\n"
    assert pipe.read_text() == "True"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise NotFoundError('no image', hint='pull it')", "NotFoundError no image pull it"),
        ("raise LookupError('odd')", "LookupError odd None"),
        ("os._exit(3)", "SandboxError the container's supervisor ended before the container was started None"),
        ("raise type('Local', (Exception,), {})('x')", "SandboxError Local: x None"),
    ],
)
def test_errors_before_the_report_are_the_callers(body: str, words: str) -> None:
    out = script(f"""
def work(report):
    {body}
try:
    detached(work)
except BaseException as error:
    print(type(error).__name__, getattr(error, "message", error), getattr(error, "hint", None))
""")
    assert out == words + "\n"


def test_an_interrupted_caller_ends_it() -> None:
    body = """
def work(report):
    print(os.getpid(), flush=True)
    signal.pause()
detached(work)
"""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + body], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={"PYTHONPATH": str(SOURCE)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b""  # at the end of the file nobody has it open any more
        assert process.wait() != 0


def test_nothing_of_the_callers_stays(tmp_path: Path) -> None:
    """A lock, the end of a pipe, a directory."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    script(f"""
import fcntl
os.chdir({str(tmp_path)!r})
lock = open("lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
os.set_inheritable(lock.fileno(), True)
os.dup2(lock.fileno(), 100)
def work(report):
    assert os.getcwd() == {str(tmp_path)!r}
    report("")
    with open({str(pipe)!r}, "w") as file:
        file.write(os.getcwd() + " " + " ".join(os.readlink(f"/proc/self/fd/{{name}}") for name in os.listdir("/proc/self/fd")[:-1]))
detached(work)
os.close(100)
lock.close()
fcntl.flock(open("lock"), fcntl.LOCK_EX | fcntl.LOCK_NB)
""")
    assert pipe.read_text() == f"/ /dev/null /dev/null /dev/null {pipe}"
