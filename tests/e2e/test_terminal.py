"""What a terminal shows of a build, on real ones of several sizes, while it runs and when it is over."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pytest
from screen import Screen

from .harness import PATIENCE, Bench
from .test_watch import session

WHERE = {"TERM": "xterm-256color"}


class Terminal:
    """A process on a terminal, and what is seen there."""

    def __init__(self, master: int, process: subprocess.Popen[bytes], screen: Screen) -> None:
        self._master = master
        self.process = process
        self.screen = screen
        self.seen = b""

    def until(self, wanted: Callable[[Screen], bool]) -> Screen:
        """Read on until the screen is as is wanted."""
        while not wanted(self.screen):
            assert self._read(), "\n".join(self.screen.everything)
        return self.screen

    def ended(self) -> int:
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def no_writing_from_behind(self) -> None:
        """As ``stty tostop`` does."""
        modes = termios.tcgetattr(self._master)
        modes[3] |= termios.TOSTOP
        termios.tcsetattr(self._master, termios.TCSANOW, modes)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._master], [], [], PATIENCE)
        assert ready, "\n".join(self.screen.everything)
        try:
            data = os.read(self._master, 65536)
        except OSError:  # nobody is there any more
            return False
        self.seen += data
        self.screen.show(data)
        return bool(data)


@contextmanager
def terminal(
    bench: Bench, columns: int, rows: int, *arguments: str, environ: Mapping[str, str] = WHERE
) -> Iterator[Terminal]:
    master, slave = os.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        ["setsid", "--ctty", *bench.command(*arguments)], stdin=slave, stdout=slave, stderr=slave, cwd=bench.context,
        env={**bench.environ, **environ},
    )  # fmt: skip
    os.close(slave)
    with process:
        try:
            yield Terminal(master, process, Screen(columns, rows))
        finally:
            if process.poll() is None:
                process.kill()
            os.close(master)


@contextmanager
def gates(count: int) -> Iterator[tuple[socket.socket, int]]:
    """Where steps wait: `nc` to this port ends when its connection is closed."""
    with socket.create_server(("127.0.0.1", 0), backlog=count) as server:
        server.settimeout(PATIENCE)
        yield server, server.getsockname()[1]


def test_what_runs_is_seen_and_what_has_run_stays(bench: Bench) -> None:
    with gates(2) as (server, port):
        wait = f"nc 127.0.0.1 {port} </dev/null"
        bench.write({"Buildfile": f"FROM busybox\nRUN echo first; echo working; {wait}\nRUN echo second; {wait}; false\n"})
        with terminal(bench, 80, 24, "build", "-t", "x", ".") as shown:
            first = server.accept()[0]
            screen = shown.until(lambda screen: len(screen.rows) > 2 and "working" in screen.rows[-2] and "0/2" in screen.rows[-1])
            assert re.fullmatch(r" +\d+s #1 \[1/2\] RUN echo first; .*\u2026", screen.rows[-3])
            assert screen.rows[-2] == "             working"
            assert re.fullmatch(r" +\d+s 0/2 steps, 1 running", screen.rows[-1])
            shown.resize(40, 10)
            first.close()
            second = server.accept()[0]
            screen = shown.until(lambda screen: "1/2 steps" in screen.rows[-1])
            assert screen.rows[-2] == "             second"
            assert all(len(row) <= 40 for row in screen.rows)
            second.close()
            assert shown.ended() == 1
    text = "\n".join(shown.screen.everything)
    assert text.count("DONE") == text.count("FAILED") == 1
    assert text.index("DONE") < text.index("FAILED") < text.index("imgbuild: error")
    assert "running" not in text.split("DONE")[1]
    assert b"\x1b[?25l" not in shown.seen


def test_more_runs_than_fits(bench: Bench) -> None:
    count = 12
    with gates(count) as (server, port):
        stages = "".join(f"FROM busybox AS s{number}\nRUN echo out {number}; nc 127.0.0.1 {port} </dev/null\n" for number in range(count))
        copies = "".join(f"COPY --from=s{number} /etc/passwd /{number}\n" for number in range(count))
        bench.write({"Buildfile": f"{stages}FROM scratch\n{copies}"})
        with terminal(bench, 40, 10, "build", "--parallel", str(count), "-t", "x", ".") as shown:
            waiting = [server.accept()[0] for _ in range(count)]
            screen = shown.until(lambda screen: bool(screen.rows) and f"0/{2 * count} steps, {count} running" in screen.rows[-1])
            assert len(screen.rows) == 9
            assert screen.rows[-2] == "             and 5 more"
            assert [row.split()[1] for row in screen.rows[:7]] == [f"#{number}" for number in range(1, 8)]
            for connection in waiting:
                connection.close()
            assert shown.ended() == 0
    everything = shown.screen.everything
    numbers = [int(number) for row in everything for number in re.findall(r"DONE \d+\.\ds #(\d+)", row)]
    assert sorted(numbers) == list(range(1, 2 * count + 1))
    assert not any("more" in row or "steps," in row for row in everything)


def test_two_hundred_steps_are_all_there(bench: Bench) -> None:
    copies = "".join(f"COPY file /{number}\n" for number in range(200))
    bench.write({"Buildfile": f"FROM scratch\n{copies}", "file": ""})
    for outcome in ("DONE 0.0s", "CACHED"):
        with terminal(bench, 80, 24, "build", "-t", "x", ".") as shown:
            assert shown.ended() == 0
        rows = [row.strip() for row in shown.screen.everything]
        steps = [re.sub(r"DONE \d+\.\ds", "DONE 0.0s", row) for row in rows if "COPY" in row]
        assert steps == [f"{outcome} #{number} [{number}/200] COPY file /{number - 1}" for number in range(1, 201)]
        assert rows[-2].startswith("built x:latest in ")


def test_hostile_output_stays_in_its_row(bench: Bench) -> None:
    hostile = (
        r"printf '\033[2J\033[H\033[?1049h\033[1;3r\033c\033]0;x\007\r50%%\r100%%\n'; printf '\377\376%%0999d\n' 7; "
        r"printf '\344\275\240%.0s' $(seq 100); "
    )
    with gates(1) as (server, port):
        bench.write({"Buildfile": f"FROM busybox\nCOPY Buildfile /\nRUN {hostile} nc 127.0.0.1 {port} </dev/null\n"})
        with terminal(bench, 60, 12, "build", "-t", "x", ".") as shown:
            connection = server.accept()[0]
            screen = shown.until(lambda screen: bool(screen.rows) and "1/2 steps" in screen.rows[-1] and "\u4f60" in screen.rows[-2])
            assert len(screen.rows) == 4
            assert "DONE" in screen.rows[0]
            connection.close()
            assert shown.ended() == 0
    assert [row.split()[0] for row in shown.screen.everything][:2] == ["DONE", "DONE"]


def test_interrupted(bench: Bench) -> None:
    with gates(1) as (server, port):
        bench.write({"Buildfile": f"FROM busybox\nRUN echo out; nc 127.0.0.1 {port} </dev/null\n"})
        with terminal(bench, 80, 24, "build", ".") as shown:
            connection = server.accept()[0]
            shown.until(lambda screen: bool(screen.rows) and "0/1 steps" in screen.rows[-1])
            shown.type(b"\x03")
            assert shown.ended() == 130
            connection.close()
    assert "steps" not in "\n".join(shown.screen.everything)
    assert b"\x1b[?25l" not in shown.seen
    assert shown.seen.rfind(b"\x1b[?7h") > shown.seen.rfind(b"\x1b[?7l")
    bench.assert_whole()


def test_a_watch_where_what_is_in_the_background_may_not_write(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nCOPY file /\n", "file": "1"})
    with terminal(bench, 80, 24, "build", "--watch", ".") as shown:
        shown.until(lambda screen: screen.rows[-1:] == ["imgbuild: waiting for changes"])
        shown.no_writing_from_behind()
        bench.write({"file": "2"})
        shown.until(lambda screen: screen.everything.count("imgbuild: waiting for changes") == 2)
        shown.type(b"\x03")
        assert shown.ended() == 130


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"TERM": ""}, {**WHERE, "NO_COLOR": "1"}, {**WHERE, "CI": "true"}])
def test_plain_where_a_view_can_not_be(bench: Bench, environ: Mapping[str, str]) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo out\n"})
    with terminal(bench, 80, 24, "build", ".", environ=environ) as shown:
        assert shown.ended() == 0
    assert "#1 | out" in shown.screen.everything
    assert b"\x1b" not in shown.seen


def test_a_view_without_colors_where_it_is_asked_for(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo out\n"})
    with terminal(bench, 80, 24, "build", "--progress=tty", ".", environ={**WHERE, "NO_COLOR": "1"}) as shown:
        assert shown.ended() == 0
    assert any(re.match(r" +DONE \d\.\ds #1 \[1/1\] RUN echo out", row) for row in shown.screen.everything)
    assert re.search(rb"\x1b\[[0-9;]*m", shown.seen) is None
    done = bench.run("build", "--progress=tty", ".", environ=WHERE)
    assert "#1 CACHED" in done.err


def test_a_cached_build_draws_nothing(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo out\n"})
    bench.run("build", ".")
    for _ in range(2):  # the second is told again
        with terminal(bench, 80, 24, "build", "-t", "x", ".", environ={**WHERE, "PYTHONPROFILEIMPORTTIME": "1"}) as shown:
            assert shown.ended() == 0
        assert b"CACHED" in shown.seen
        assert b"imgbuild.cli.view" in shown.seen
        assert b" rich" not in shown.seen


@pytest.mark.parametrize("building", [True, False])
def test_a_watch_is_interrupted(bench: Bench, building: bool) -> None:
    with gates(1) as (server, port):
        step = f"nc 127.0.0.1 {port} </dev/null" if building else "true"
        bench.write({"Buildfile": f"FROM busybox\nCOPY file /\nRUN {step}\n", "file": "1"})
        with terminal(bench, 80, 24, "build", "--watch", ".") as shown:
            connection = server.accept()[0] if building else None
            wanted = "1/2 steps" if building else "waiting for changes"
            shown.until(lambda screen: bool(screen.rows) and wanted in screen.rows[-1])
            shown.type(b"\x03")
            assert shown.ended() == 130
            if connection is not None:
                connection.close()
    assert session(shown.process.pid) == []
    bench.assert_whole()


def test_terminated(bench: Bench) -> None:
    with gates(1) as (server, port):
        bench.write({"Buildfile": f"FROM busybox\nRUN nc 127.0.0.1 {port} </dev/null\n"})
        with terminal(bench, 80, 24, "build", ".") as shown:
            connection = server.accept()[0]
            shown.process.send_signal(signal.SIGTERM)
            assert shown.ended() == 143
            connection.close()
