"""Builds that are interrupted or killed: they end at once, with nothing left, and the next one works."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from .harness import PATIENCE, SOURCE, Bench, ended, wait_for_line

LONG = PATIENCE * 10
RUNS = f"FROM busybox AS a\nRUN echo ready; sleep {LONG}\nFROM busybox AS b\nRUN sleep {LONG} & sleep {LONG}\nFROM a\nCOPY --from=b / /b\n"


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_run(bench: Bench, signum: signal.Signals, code: int) -> None:
    bench.write({"Buildfile": RUNS})
    with bench.started("build", "--progress=plain", "-t", "x", ".") as process:
        wait_for_line(process, b"| ready")
        ended_with, err = ended(process, signum)
    assert ended_with == code
    assert "Traceback" not in err
    assert "imgbuild: " not in err
    bench.assert_whole()
    bench.build("FROM busybox\nRUN true\n")


def test_a_signal_to_the_whole_group_as_a_terminal_sends_it(bench: Bench) -> None:
    bench.write({"Buildfile": RUNS})
    with bench.started("build", "--progress=plain", "-t", "x", ".") as process:
        wait_for_line(process, b"| ready")
        os.killpg(process.pid, signal.SIGINT)
        assert ended(process)[0] == 130
    bench.assert_whole()


def test_a_signal_during_a_large_copy_and_its_capture(bench: Bench) -> None:
    # Sparse, so that it costs the disk nothing; hashing, copying and compressing it takes long enough.
    with (bench.context / "big").open("wb") as file:
        file.truncate(2 << 30)
    bench.write({"Buildfile": "FROM busybox\nRUN echo ready\nCOPY big /big\n"})
    for signum, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with bench.started("build", "--progress=plain", "-t", "x", ".") as process:
            wait_for_line(process, b"COPY big" if signum == signal.SIGINT else b"#1 ")
            assert ended(process, signum)[0] == code
        bench.assert_whole()


def test_a_signal_while_the_step_is_another_builds(bench: Bench) -> None:
    bench.write({"Buildfile": f"FROM busybox\nRUN echo ready; sleep {LONG}\n"})
    with bench.started("build", "--progress=plain", "-t", "x", ".") as first:
        wait_for_line(first, b"| ready")
        with bench.started("build", "--progress=plain", "-t", "y", ".") as second:
            wait_for_line(second, b"#1 ")
            assert ended(second, signal.SIGTERM)[0] == 143
        assert first.poll() is None
        assert ended(first, signal.SIGTERM)[0] == 143
    bench.assert_whole()


@pytest.fixture
def slow_registry(bench: Bench) -> Iterator[str]:
    """A registry whose blobs trickle, with the image base:latest."""
    bench.run("tag", "busybox", "base")
    command = [sys.executable, str(SOURCE / "registry-mock"), "--port", "0", "--root", str(bench.place / "registry")]
    slow = "do=slow rate=1000 method=GET path=/blobs/ count=0"
    with subprocess.Popen([*command, "--fault", slow], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host = process.stdout.readline().split("//")[1].strip()
        bench.run("tag", "busybox", f"{host}/base")
        bench.run("push", f"{host}/base")
        bench.run("rmi", f"{host}/base", "busybox", "base")
        bench.run("prune", "--all")
        try:
            yield f"{host}/base"
        finally:
            process.kill()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_a_pull(bench: Bench, slow_registry: str, signum: signal.Signals, code: int) -> None:
    bench.write({"Buildfile": f"FROM {slow_registry}\nRUN true\n"})
    with bench.started("build", "--progress=plain", "-t", "x", ".") as process:
        wait_for_line(process, b"fetched")
        ended_with, err = ended(process, signum)
    assert ended_with == code
    assert "Traceback" not in err
    bench.assert_whole()


@pytest.mark.parametrize("moment", [b"#1 ", b"| first", b"#2 ", b"| second", b"#3 "])
def test_kill_9_leaves_nothing_that_matters(bench: Bench, moment: bytes) -> None:
    bench.write({"file": "x" * 100_000})
    first = "FROM busybox AS a\nRUN echo first; mkdir /d; echo > /d/f\n"
    text = f"{first}FROM busybox\nCOPY --from=a /d /d\nRUN echo second; sleep 0.1\nCOPY file /\n"
    bench.write({"Buildfile": text})
    with bench.started("build", "--progress=plain", "-t", "x", ".") as process:
        wait_for_line(process, moment)
        others = _opened(pid for pid in bench.processes() if pid != process.pid)
        ended(process, signal.SIGKILL)
    _wait_until_gone(others)
    bench.build(text)
    assert {"d/f", "file"} <= set(bench.files())
    bench.assert_whole()


def _opened(pids: Iterable[int]) -> list[int]:
    found = []
    for pid in pids:
        with suppress(ProcessLookupError):  # gone since it was seen
            found.append(os.pidfd_open(pid))
    return found


def _wait_until_gone(pidfds: list[int]) -> None:
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], PATIENCE)[0], "a process outlived its build"
        os.close(pidfd)


def test_a_full_disk_is_one_error_and_the_store_survives(template: Bench, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=27m", "small", str(place)], check=True)
    try:
        bench = Bench(place, template.environ)
        bench.context.mkdir()
        subprocess.run(["cp", "-a", str(template.root), str(bench.root)], check=True)
        said = bench.refused("FROM busybox\nRUN dd if=/dev/urandom of=/big bs=1M count=100\n", code=1)
        assert "space" in said
        # Room for what the step writes, and not for its layer beside that, in whichever form the base is there.
        with (place / "filler").open("wb") as file:
            file.write(bytes(max(0, shutil.disk_usage(place).free - (18 << 20))))
        said = bench.refused("FROM busybox\nRUN head -c 11000000 /dev/urandom > /big\n", code=21)
        assert "space" in said
        (place / "filler").unlink()
        with (bench.context / "big").open("wb") as file:
            file.write(os.urandom(8 << 20))
        said = bench.refused("FROM busybox\nCOPY big big /a/\nCOPY big /b\nCOPY big /c\n", code=21)
        assert "space" in said
        (bench.context / "big").unlink()
        bench.run("prune", "--all")
        bench.build("FROM busybox\nRUN true\n")
        assert "damaged" not in bench.run("fsck").out
        assert os.listdir(bench.root / "tmp") == []
    finally:
        subprocess.run(["umount", str(place)], check=True)
