"""``-t``: a real terminal on both sides."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
from collections.abc import Iterator

import pytest

from imgbuild.runtime import terminal

from .conftest import Shop


class Screen:
    """A user's terminal: what is shown in it, and keys to press."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (33, 99))
        self.shown = b""

    def start(self, shop: Shop, *words: str) -> subprocess.Popen[bytes]:
        """A command of imgbuild in the foreground of this terminal."""

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        return shop.start(
            *words, stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True, preexec_fn=take_terminal
        )

    def until(self, text: bytes) -> bytes:
        """Wait until something is shown; all up to it, which is then forgotten."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        while text not in self.shown:
            assert poll.poll(60_000), self.shown
            self.shown += os.read(self.master, 4096)
        before, _, self.shown = self.shown.partition(text)
        return before + text

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.close()


def test_a_session(shop: Shop, screen: Screen) -> None:
    before = termios.tcgetattr(screen.slave)
    process = screen.start(shop, "run", "--rm", "-it", "box", "sh", "-c", "tty; stty size; echo $TERM; read x; echo got $x; exit 4")
    assert screen.until(b"xterm\r\n").splitlines() == [b"/dev/pts/0", b"33 99", b"xterm"]
    assert termios.tcgetattr(screen.slave)[3] & (termios.ECHO | termios.ICANON | termios.ISIG) == 0
    screen.press(b"word\r")
    screen.until(b"got word\r\n")
    assert process.wait(60) == 4
    assert termios.tcgetattr(screen.slave) == before


def test_the_size_follows(shop: Shop, screen: Screen) -> None:
    script = "trap 'stty size' WINCH; echo ready; while :; do sleep 1 & wait $!; done"
    process = screen.start(shop, "run", "--rm", "-it", "box", "sh", "-c", script)
    screen.until(b"ready\r\n")
    termios.tcsetwinsize(screen.master, (12, 34))
    screen.until(b"12 34\r\n")
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGKILL)
    process.wait(60)


def test_keys_of_job_control_reach_the_container(shop: Shop, screen: Screen) -> None:
    process = screen.start(shop, "run", "--rm", "-it", "box", "sh", "-c", "trap 'echo interrupted; exit 3' INT; echo ready; read x")
    screen.until(b"ready\r\n")
    screen.press(b"\x03\n")  # the line is for a shell that began to read just after it looked for signals
    screen.until(b"interrupted\r\n")
    assert process.wait(60) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_terminal_is_given_back_when_a_signal_ends_it(shop: Shop, screen: Screen, number: signal.Signals) -> None:
    before = termios.tcgetattr(screen.slave)
    name = number.name[3:]
    script = f"trap 'exit 6' {name}; echo ready; while :; do sleep 1 & wait $!; done"
    process = screen.start(shop, "run", "--rm", "-it", "box", "sh", "-c", script)
    screen.until(b"ready\r\n")
    process.send_signal(number)
    assert process.wait(60) == 6
    assert termios.tcgetattr(screen.slave) == before


def test_the_terminal_is_given_back_when_the_container_is_killed(shop: Shop, screen: Screen) -> None:
    before = termios.tcgetattr(screen.slave)
    process = screen.start(shop, "run", "--name", "victim", "-it", "box", "sh", "-c", "echo ready; read x")
    screen.until(b"ready\r\n")
    shop("kill", "victim")
    assert process.wait(60) == 137
    assert termios.tcgetattr(screen.slave) == before
    assert shop("logs", "victim").stdout == "ready\n"


def test_a_terminal_that_is_closed_hangs_up_the_containers(shop: Shop) -> None:
    screen = Screen()
    process = screen.start(shop, "run", "--name", "left", "-it", "box", "sh", "-c", "echo ready; read x; exit 5")
    screen.until(b"ready\r\n")
    screen.close()
    assert process.wait(60) == 5


def test_a_terminal_for_output_only(shop: Shop) -> None:
    done = shop.run("-t", "box", "sh", "-c", "test -t 0 && test -t 1 && test -t 2 && seq 20000", text="ignored")
    assert done.stdout == "".join(f"{n}\n" for n in range(1, 20001))


def test_without_t_there_is_no_terminal(shop: Shop, screen: Screen) -> None:
    process = screen.start(shop, "run", "--rm", "box", "sh", "-c", "for n in 0 1 2; do test -t $n && echo $n is one; done; echo over")
    assert screen.until(b"over\r\n") == b"over\r\n"
    assert process.wait(60) == 0
    process = screen.start(shop, "run", "--rm", "-i", "box", "cat")
    screen.press(b"typed\n\x04")
    assert screen.until(b"typed\r\ntyped\r\n")
    assert process.wait(60) == 0


def test_t_and_i_need_a_terminal(shop: Shop) -> None:
    done = shop.run("-it", "box", "true", check=False)
    assert done.returncode == 125
    assert "not a terminal" in done.stderr


def test_detached_terminal(shop: Shop) -> None:
    shop("run", "-dit", "--name", "d", "box", "sh", "-c", "tty; read x")
    with shop.start("logs", "-f", "d", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"/dev/pts/0\r\n"
        shop("rm", "-f", "d")


def test_exec_with_a_terminal(shop: Shop, screen: Screen) -> None:
    shop("run", "-d", "--name", "e", "box", "sleep", "1000")
    # What stays behind in the terminal, and does not mind that it is hung up, surely does so before the command ends.
    stays = "(trap '' HUP; touch /tmp/stays; sleep 1000) & until [ -e /tmp/stays ]; do :; done"
    process = screen.start(shop, "exec", "-it", "e", "sh", "-c", f"tty; stty size; read x; {stays}; echo got $x; exit 8")
    screen.until(b"33 99\r\n")
    screen.press(b"a\r")
    screen.until(b"got a\r\n")
    assert process.wait(60) == 8
    shop("rm", "-f", "e")


def test_raw_mode_by_itself(screen: Screen) -> None:
    before = termios.tcgetattr(screen.slave)
    with pytest.raises(KeyError), terminal.raw(screen.slave):
        assert termios.tcgetattr(screen.slave) != before
        raise KeyError
    assert termios.tcgetattr(screen.slave) == before
    assert terminal.size(screen.slave) == (33, 99)
    assert not terminal.is_terminal(-1)
    with open(os.devnull) as null:
        assert terminal.size(null.fileno()) == (24, 80)
