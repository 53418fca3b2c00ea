"""This process's own standard streams: closed, full, or read by nobody. It is always one line, and the right exit code."""

from __future__ import annotations

import os
import subprocess

import pytest

from .conftest import PATIENCE, Shop

FULL = "imgbuild: error: can't write to stdout: no space left on device\n"


def in_shell(shop: Shop, redirections: str, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command of imgbuild with redirections of a shell."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", *shop.command, *words],
        env=shop.environ | environ, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams(shop: Shop, closed: str) -> None:
    done = in_shell(shop, closed, "images")
    assert (done.returncode, done.stderr) == (0, "")
    assert ("box" in done.stdout) == (">&-" not in closed.split())
    assert in_shell(shop, closed, "run", "--rm", "box", "sh", "-c", "exit 7").returncode == 7
    assert in_shell(shop, closed, "rmi", "no-such").returncode == 13
    assert in_shell(shop, closed, "images", "--no-such-option").returncode == 2


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nothing_can_be_written(shop: Shop, unbuffered: str) -> None:
    for words in (("images",), ("--help",), ("inspect", "box"), ("save", "-o", "-", "box")):
        done = in_shell(shop, ">/dev/full", *words, PYTHONUNBUFFERED=unbuffered)
        assert (done.returncode, done.stderr) == (74, FULL), words
    for words, code in {
        ("rmi", "no-such"): 13,
        ("images", "--no-such-option"): 2,
        ("run", "--rm", "box", "no-such"): 127,
        ("run", "--rm", "no-such", "--pull", "never"): 125,
        ("pull", "box", "--no-such-option"): 2,
    }.items():
        assert in_shell(shop, "2>/dev/full", *words, PYTHONUNBUFFERED=unbuffered).returncode == code, words


def test_nothing_can_be_written_during_a_build(shop: Shop) -> None:
    context = shop.directory / "context"
    context.mkdir()
    (context / "Buildfile").write_text("FROM box\nRUN echo a\nRUN echo b\n")
    assert in_shell(shop, "2>/dev/full", "build", str(context)).returncode == 74
    done = in_shell(shop, ">/dev/full", "build", "-q", str(context))
    assert (done.returncode, done.stderr) == (74, FULL)
    done = in_shell(shop, ">/dev/full", "build", "-q", "-o", "type=tar,dest=-", str(context))
    assert (done.returncode, done.stderr) == (74, FULL)


@pytest.mark.parametrize("words", [("images",), ("--help",), ("inspect", "box"), ("save", "-o", "-", "box")])
def test_nobody_reads(shop: Shop, words: tuple[str, ...]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with shop.start(*words, stdout=write_end, stderr=subprocess.PIPE) as process:
        os.close(write_end)
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_pipe_that_does_not_block(shop: Shop) -> None:
    """As some parents make it: writing waits all the same."""
    shop.image("large", labels=tuple((f"label{number}", "x" * 1000) for number in range(300)))
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    with shop.start("inspect", "large", stdout=write_end) as process, os.fdopen(read_end, "rb") as pipe:
        os.close(write_end)
        os.set_blocking(read_end, True)
        assert len(pipe.read()) > 300_000
        assert process.wait() == 0
