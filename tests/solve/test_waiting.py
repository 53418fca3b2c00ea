"""What processes wait for: from values to words, and from processes that really wait."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgbuild.solve.waiting import waits_for
from imgbuild.solve.waits import Connection, Seen, Thread, in_words

PATIENCE = 60
REMOTE = {7: Connection(7, 2, "10.0.0.1:80"), 8: Connection(8, 1, "10.0.0.2:443"), 9: Connection(9, 10, "0.0.0.0:0")}


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Seen(1, "make", "R", 12.0), "is computing (12 s of processor time so far)"),
        (Seen(1, "make", "T"), "is stopped by a signal"),
        (Seen(1, "cp a b", "D", threads=(Thread("", place="io_schedule"),)), "waits for a device or file system (in io_schedule)"),
        (Seen(1, "cat", threads=(Thread("read", 0),), files={0: "/dev/pts/0"}), "reads from stdin, which is /dev/pts/0"),
        (Seen(1, "cat", threads=(Thread("read", 0),), files={0: "pipe:[5]"}), "reads from a pipe (stdin)"),
        (Seen(1, "yes", threads=(Thread("write", 1),), files={1: "pipe:[5]"}), "writes to a pipe (stdout) that is full"),
        (Seen(1, "x", threads=(Thread("connect", 3),), files={3: "socket:[7]"}), "is connecting to 10.0.0.1:80"),
        (Seen(1, "x", threads=(Thread("receive", 3),), files={3: "socket:[8]"}), "waits for data from 10.0.0.2:443"),
        (Seen(1, "x", threads=(Thread("read", 3),), files={3: "socket:[8]"}), "waits for data from 10.0.0.2:443"),
        (Seen(1, "x", threads=(Thread("accept", 3),), files={3: "socket:[9]"}), "waits for somebody to connect to it"),
        (Seen(1, "x", threads=(Thread("poll"),), files={3: "socket:[7]"}), "is connecting to 10.0.0.1:80"),
        (Seen(1, "x", threads=(Thread("epoll"),), files={3: "socket:[8]"}), "waits for data, connected to 10.0.0.2:443"),
        (Seen(1, "x", threads=(Thread("select"),)), "waits for events"),
        (Seen(1, "dpkg", threads=(Thread("fcntl", 4, 7),), files={4: "/var/lib/dpkg/lock"}, lock="`apt` (process 2)"),
         "waits for a lock on /var/lib/dpkg/lock, held by `apt` (process 2)"),
        (Seen(1, "x", threads=(Thread("flock", 4),), files={4: "/l"}), "waits for a lock on /l"),
        (Seen(1, "x", threads=(Thread("futex"), Thread("sleep"))), "waits for a lock of its own (futex)"),
        (Seen(1, "x", threads=(Thread("futex"), Thread("receive", 3)), files={3: "socket:[8]"}), "waits for data from 10.0.0.2:443"),
        (Seen(1, "sleep 9", threads=(Thread("sleep"),)), "sleeps"),
        (Seen(1, "x", threads=(Thread("", place="kauditd"),)), "waits in kauditd"),
        (Seen(1, "x"), "waits"),
    ],
)  # fmt: skip
def test_words(seen: Seen, words: str) -> None:
    (line,) = in_words([seen], REMOTE)
    assert line == f"`{seen.command}` (process 1) {words}"


def test_who_waits_for_a_child_says_nothing() -> None:
    shell = Seen(1, "sh", threads=(Thread("wait"),), children=1)
    lines = in_words([shell, Seen(2, "sleep 9", threads=(Thread("sleep"),)), Seen(3, "gone", "Z")], {})
    assert lines == ("`sleep 9` (process 2) sleeps",)


def test_both_ends_of_a_pipe() -> None:
    files = {0: "pipe:[5]"}
    lines = in_words([Seen(2, "cat", threads=(Thread("read", 0),), files=files), Seen(3, "sleep 9", "R", files={1: "pipe:[5]"})], {})
    assert lines[0] == "`cat` (process 2) reads from a pipe (stdin), which `sleep 9` has open, too"


def test_it_is_not_longer_than_can_be_read() -> None:
    lines = in_words([Seen(number, "x" * 500, "R") for number in range(10)], {})
    assert lines[-1] == "and 6 more"
    assert all(len(line) < 200 for line in lines)


@contextmanager
def waiting(program: str, *words: str) -> Iterator[int]:
    """A process that runs `program`, and what it starts; all are gone afterwards."""
    command = [sys.executable, "-c", program, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def said(pid: int, words: str, without: str = "\0") -> str:
    """What is said of the processes, once it holds `words`, and no longer what it shall be `without`."""
    end = time.monotonic() + PATIENCE
    while True:
        text = "; ".join(waits_for(pid))
        if (words in text and without not in text) or time.monotonic() > end:
            return text


def test_processes_that_wait_for_locks(tmp_path: Path) -> None:
    program = """
import fcntl, os, sys, time
file = open(sys.argv[1], "w")
getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX)
if os.fork() == 0:
    other = open(sys.argv[1], "w")
    getattr(fcntl, sys.argv[2])(other, fcntl.LOCK_EX)
time.sleep(1000)
"""
    for kind in ("lockf", "flock"):
        with waiting(program, str(tmp_path / "lock"), kind) as pid:
            text = said(pid, f"waits for a lock on {tmp_path}/lock, held by `")
            assert f"waits for a lock on {tmp_path}/lock, held by `" in text
            assert "sleeps" in text


def test_processes_that_wait_for_input_and_for_others() -> None:
    with waiting("import sys; sys.stdin.read()") as pid:
        assert "reads from a pipe (stdin)" in said(pid, "pipe")
    with waiting("import subprocess; subprocess.run(['sleep', '1000'])") as pid:
        text = said(pid, "sleeps", without="python")  # which computes until it waits, as the other does at first
        assert "`sleep 1000`" in text
        assert "sleeps" in text
        assert "python" not in text


def test_processes_that_wait_for_the_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = f"import socket; socket.create_connection(('127.0.0.1', {port})).recv(1)"
        with waiting(program) as pid:
            assert f"waits for data from 127.0.0.1:{port}" in said(pid, "data")
    with waiting("import socket; socket.create_server(('127.0.0.1', 0)).accept()") as pid:
        assert "waits for somebody to connect to it" in said(pid, "connect")


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert waits_for(process.pid) == ()
