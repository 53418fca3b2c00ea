"""A full disk, a store that can't be written: one clear error, and all is well when there is room again."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from registry_mock.client import Mock

from .harness import Bench, base_tar, clean_environ, ended, wait_for_line

MIB = 1 << 20
SIZE = 24 * MIB


@dataclass
class SmallBench(Bench):
    """A bench whose store is on a small file system, which only its own processes see."""

    holder: int = 0

    def command(self, *arguments: str | Path) -> list[str]:
        return ["nsenter", "--target", str(self.holder), "--mount", "--", *super().command(*arguments)]

    @property
    def inside(self) -> Path:
        """The store, from outside."""
        return Path(f"/proc/{self.holder}/root{self.root}")

    def _free(self) -> int:
        status = os.statvfs(self.inside)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int) -> None:
        """Take all room but so many bytes."""
        with (self.inside.parent / "store" / "trash" / "ballast").open("wb") as file:
            # A build that is under way takes and gives some meanwhile.
            while (free := self._free() - leave) > 0:
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)

    def free(self) -> None:
        """Give it back."""
        (self.inside / "trash" / "ballast").unlink(missing_ok=True)

    def assert_whole(self) -> None:
        done = self.run("fsck")
        assert "damaged" not in done.out, done.out
        assert os.listdir(self.inside / "tmp") == []
        mounts = Path(f"/proc/{self.holder}/mountinfo").read_text().splitlines()
        assert [line.split()[4] for line in mounts if str(self.root) in line] == [str(self.root)]


@contextmanager
def small(place: Path) -> Iterator[SmallBench]:
    """A bench with "busybox" in its store."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    (place / "store").mkdir(parents=True)
    (place / "context").mkdir()
    (place / "base.tar").write_bytes(base_tar())
    script = f'mount -t tmpfs -o size={SIZE},mode=700 tmpfs "$1" && echo ready && read end'
    with subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", str(place / "store")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            bench = SmallBench(place, clean_environ(place / "home"), holder.pid)
            bench.run("import", place / "base.tar", "busybox")
            bench.run("build", "-q", "-f", "-", ".", cwd=place, stdin=b"FROM busybox\nRUN true\n")
            yield bench
        finally:
            holder.kill()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[SmallBench]:
    with small(tmp_path / "small") as bench:
        yield bench


def _is_full(said: str) -> bool:
    return "no space" in said.lower()


def test_a_step_that_fills_the_disk(bench: SmallBench) -> None:
    done = bench.build("FROM busybox\nRUN seq 10 > /ok\nRUN head -c 60000000 /dev/urandom > /big\n", code=1)
    assert len(done.errors) == 1
    assert _is_full(done.err)
    assert "Buildfile:3" in done.err
    bench.assert_whole()
    shown = json.loads(bench.run("builds", "show", "--format", "json").out)
    assert [step["outcome"] for step in shown["steps"]] == ["done", "failed"]
    assert _is_full(shown["error"]["message"] + shown["error"]["detail"])
    done = bench.build("FROM busybox\nRUN seq 10 > /ok\nRUN seq 10 > /small\n")
    assert done.steps["RUN seq 10 > /ok"] == "CACHED"


def test_a_step_that_fails_while_the_disk_is_full(bench: SmallBench) -> None:
    """There is room for nothing, for the record neither, and nobody gives any back."""
    cache, command = "--mount=type=cache,target=/meet", "echo begun; read go < /meet/go; echo over; exit 3"
    bench.write({"Buildfile": f"FROM busybox\nRUN {cache} mkfifo /meet/go\nRUN {cache} {command}\n"})
    with bench.started("build", "--progress=plain", bench.context) as process:
        wait_for_line(process, b"| begun")
        (go,) = bench.inside.glob("cache/*/**/go")
        bench.fill(0)
        go.write_text("go\n")
        code, _ = ended(process)
    assert code == 1
    listed = json.loads(bench.run("builds", "ls", "-n", "1", "--format", "json").out)
    assert [build["status"] for build in listed] == ["failed"]
    bench.free()
    shown = json.loads(bench.run("builds", "show", "--format", "json").out)
    assert shown["status"] == "failed"
    assert [step["outcome"] for step in shown["steps"]] == ["done", "failed"]
    assert shown["error"]["message"] == shown["steps"][1]["error"]["message"]
    assert "exit code 3" in shown["error"]["message"]
    assert shown["ended"] - shown["started"] >= shown["steps"][1]["started"]


def test_a_copy_that_does_not_fit(bench: SmallBench) -> None:
    bench.write({"big": os.urandom(SIZE + MIB)})
    said = bench.refused("FROM busybox\nCOPY big /\n", code=21)
    assert _is_full(said)
    bench.assert_whole()
    bench.write({"big": b"small"})
    bench.build(None)


def test_a_capture_that_does_not_fit(bench: SmallBench) -> None:
    """The step's own files fit, its layer beside them does not."""
    status = os.statvfs(bench.inside)
    half = status.f_bavail * status.f_frsize * 2 // 3
    said = bench.refused(f"FROM busybox\nRUN head -c {half} /dev/urandom > /big\n", code=21)
    assert _is_full(said)
    bench.assert_whole()
    bench.build("FROM busybox\nRUN head -c 1000 /dev/urandom > /big\n")


def test_a_pull_and_a_load_that_do_not_fit(bench: SmallBench, tmp_path: Path) -> None:
    other = Bench(tmp_path / "other", clean_environ(tmp_path / "other" / "home"))
    other.context.mkdir(parents=True)
    other.write({"big": os.urandom(SIZE + MIB)})
    other.build("FROM scratch\nCOPY big /\n")
    with Mock(tmp_path / "registry") as mock:
        other.run("push", "x", f"{mock.authority}/x:1")
        other.run("save", "-o", tmp_path / "saved.tar", "x")
        for command in (("pull", f"{mock.authority}/x:1"), ("load", tmp_path / "saved.tar"), ("import", tmp_path / "saved.tar", "y")):
            done = bench.run(*command, code=21)
            assert len(done.errors) == 1
            assert _is_full(done.err)
            bench.assert_whole()
    assert bench.run("run", "--rm", "busybox", "echo", "fine").out == "fine\n"


@pytest.mark.parametrize("left", [0, 4096, 16384, 65536, 300_000])
def test_nearly_no_room(bench: SmallBench, tmp_path: Path, left: int) -> None:
    """Wherever it gives out, in a record or in a name: it is said, and what is there stays whole."""
    bench.write({"file": os.urandom(50_000)})
    bench.build("FROM busybox\nRUN seq 5 > /five\n", "-t", "kept")
    bench.run("tag", "busybox", *(f"name-{number}" for number in range(60)))  # index.json has more than a few pages
    bench.fill(left)
    done = bench.build("FROM busybox\nRUN echo hello > /greeting\nCOPY file /\nRUN echo $(wc -c < /file) > /size\n", code=None)
    assert done.code in (0, 1, 21), done.err
    if done.code:
        assert len(done.errors) == 1
        assert _is_full(done.err)
    for command in (("images",), ("inspect", "kept"), ("du",), ("history", "kept"), ("prune",)):
        assert bench.run(*command, code=None).code in (0, 21)
    bench.run("tag", "kept", "another", code=None)
    bench.run("rmi", "kept")  # to remove needs no room
    bench.free()
    bench.assert_whole()
    bench.build(None)
    assert bench.run("run", "--rm", "x", "cat", "/size").out == "50000\n"


def test_a_container_that_fills_the_disk(bench: SmallBench) -> None:
    fill = "cat /dev/zero > /big; echo said; exit 7"
    assert bench.run("run", "--rm", "busybox", "sh", "-c", fill, code=7).out == "said\n"
    (bench.inside / "reserve").write_bytes(b"")  # as the last write of one on a disk that stayed full leaves it
    assert bench.run("run", "--name", "kept", "busybox", "sh", "-c", fill, code=7).out == "said\n"
    assert bench.run("wait", "kept").out == "7\n"
    bench.run("rm", "kept")
    bench.fill(0)
    bench.run("run", "--rm", "busybox", "true", code=None)
    bench.free()
    bench.assert_whole()
    assert bench.run("ps", "-aq").out == ""
    assert bench.run("run", "--rm", "busybox", "echo", "fine").out == "fine\n"


# Stores that can't be written


def test_a_read_only_store_can_be_read(bench: SmallBench) -> None:
    bench.build("FROM busybox\nRUN echo here > /here\n")
    enter = ("nsenter", "--target", str(bench.holder), "--mount", "--")
    subprocess.run([*enter, "mount", "-o", "remount,ro", str(bench.root)], check=True)
    assert [line["outcome"] for line in json.loads(bench.run("builds", "show", "--format", "json").out)["steps"]] == ["done"]
    bench.run("plan", "--exit-code", bench.context)
    assert "busybox" in bench.run("images").out
    assert bench.inspect()["Digest"]
    assert bench.run("history", "x").out
    bench.run("save", "-o", bench.context / "saved.tar", "x")
    for command in (("tag", "x", "y"), ("rmi", "x"), ("import", bench.place / "base.tar", "z"), ("run", "--rm", "x", "true"), ("prune",)):
        done = bench.run(*command, code=125 if command[0] == "run" else 21)
        assert len(done.errors) == 1
        assert "read-only" in done.err.lower(), done.err
    said = bench.refused("FROM busybox\nRUN echo new\n", code=21)
    assert "read-only" in said.lower()
    subprocess.run([*enter, "mount", "-o", "remount,rw", str(bench.root)], check=True)
    bench.assert_whole()


@pytest.mark.parametrize("command", ["images", "build", "run", "pull"])
def test_roots_that_are_no_stores(tmp_path: Path, command: str) -> None:
    place = Bench(tmp_path / "place", clean_environ(tmp_path / "home"))
    place.context.mkdir(parents=True)
    place.write({"Buildfile": "FROM scratch\nCOPY Buildfile /\n"})
    arguments = {"images": (), "build": (".",), "run": ("busybox",), "pull": ("127.0.0.1:1/x",)}[command]
    wanted = 125 if command == "run" else 21
    (place.place / "store").write_text("a file")
    done = place.run(command, *arguments, code=wanted)
    assert len(done.errors) == 1
    assert "store" in done.err
    (place.place / "store").unlink()
    (place.place / "store").mkdir()
    (place.place / "store" / "precious.txt").write_text("not ours")
    done = place.run(command, *arguments, code=wanted)
    assert "precious.txt" in done.err
    assert os.listdir(place.place / "store") == ["precious.txt"]
