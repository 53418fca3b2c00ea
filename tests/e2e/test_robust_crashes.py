"""kill -9 anywhere: what comes after finds a whole store, builds the same bytes, and nothing of the dead is left."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from registry_mock.client import Mock

from imgbuild.sandbox import cgroup

from .aftermath import assert_no_groups, assert_no_new_groups, assert_nothing_left, changes, die, groups, wait_for_the_end_of
from .harness import PATIENCE, Bench, base_tar, copied, wait_for_line

SEED = 20
LINES = 30

BUILDFILE = f"""
FROM busybox AS one
RUN --mount=type=cache,target=/cache for i in $(seq {LINES}); do echo line $i; echo $i >> /cache/lines; done; \\
    mkdir /one && seq 99999 > /one/big
COPY . /src
FROM busybox AS two
RUN LIMIT for i in $(seq {LINES}); do echo line $i; done; rm /etc/group; mkdir -p /two/deep && ln /etc/passwd /two/deep/passwd
WORKDIR /two/work
FROM busybox
COPY --from=one /one /src /one/
COPY --from=two /two /two
RUN --mount=from=one,target=/mnt cp -a /mnt/src /src && chmod 4755 /one/big && rm -r /home
CMD ["true"]
"""


@pytest.fixture(scope="module")
def text(template: Bench, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Buildfile of several stages, with a limit where this machine can hold one, so that there are control groups."""
    bench = copied(template, tmp_path_factory.mktemp("limits") / "bench")
    limited = bench.build("FROM busybox\nRUN --memory=200m true\n", code=None).code == 0
    return BUILDFILE.replace("LIMIT", "--memory=200m" if limited else "")


@pytest.fixture(scope="module")
def digest(template: Bench, tmp_path_factory: pytest.TempPathFactory, text: str) -> str:
    """What an undisturbed build gives."""
    return _built(_bench(template, tmp_path_factory.mktemp("undisturbed"), text))


@pytest.fixture(scope="module")
def moments(template: Bench, tmp_path_factory: pytest.TempPathFactory, text: str) -> int:
    """How many changes a build makes."""
    return changes(_bench(template, tmp_path_factory.mktemp("counted"), text), "build", "-t", "x", ".")


def _bench(template: Bench, place: Path, text: str) -> Bench:
    bench = copied(template, place)
    bench.write({"Buildfile": text, "file": "text", "sub/other": b"\0" * 300_000})
    return bench


def _built(bench: Bench) -> str:
    bench.build(None)
    return str(bench.inspect()["Digest"])


def _assert_as_undisturbed(bench: Bench, digest: str, *dead: int) -> None:
    wait_for_the_end_of(bench.processes)
    assert _built(bench) == digest
    assert_nothing_left(bench)
    for pid in dead:
        assert_no_groups(pid)


# Twelve moments are changes that the build makes, eight are lines that its steps print: then it is in the midst of a command.


@pytest.mark.parametrize("number", range(12))
def test_a_build_that_dies_at_a_change(
    template: Bench, tmp_path: Path, text: str, digest: str, moments: int, number: int
) -> None:
    moment = random.Random(SEED + number).randint(1, moments)
    bench = _bench(template, tmp_path, text)
    _, dead = die(bench, moment, ("group", "alone")[number % 2], "build", "--progress=plain", "-t", "x", ".")
    _assert_as_undisturbed(bench, digest, dead)


@pytest.mark.parametrize("number", range(8))
def test_a_build_that_dies_in_a_step(template: Bench, tmp_path: Path, text: str, digest: str, number: int) -> None:
    line = random.Random(SEED - number).randint(1, LINES)
    bench = _bench(template, tmp_path, text)
    with bench.started("build", "--progress=plain", "-t", "x", ".") as process:
        wait_for_line(process, b"| line %d\n" % line)
        if number % 2:
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, -signal.SIGKILL)
    _assert_as_undisturbed(bench, digest, process.pid)


def test_any_command_removes_the_groups_of_the_dead(template: Bench, tmp_path: Path, text: str) -> None:
    """Also one that starts nothing itself, as a build in which all is cached."""
    bench = _bench(template, tmp_path, text)
    with bench.started("build", "--progress=plain", "-t", "x", ".") as process:
        wait_for_line(process, b"| line 1\n")
        all_of_it = bench.processes()  # what starts its sandboxes among them, which else would clean up
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in all_of_it:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        process.communicate(timeout=PATIENCE)
    wait_for_the_end_of(bench.processes)
    bench.run("images")
    assert_no_groups(process.pid)


@pytest.mark.parametrize("command", ["prune", "fsck"])
def test_upkeep_removes_groups_that_nothing_else_knows_of(bench: Bench, command: str) -> None:
    """Of what was killed, a process may have been on its way out when the next command cleaned up."""
    place = cgroup.here()
    parents = sorted({*place.controllers.values(), place.unified} - {""})
    if not parents or not all(os.access(parent, os.W_OK) for parent in parents):
        pytest.skip("needs control groups")
    with bench.started("images") as process:
        process.communicate(timeout=PATIENCE)
    for parent in parents:
        os.mkdir(f"{parent}/imgbuild-{process.pid}-1-left")
    bench.run(command)
    assert_no_groups(process.pid)


def test_a_build_that_dies_again_and_again(template: Bench, tmp_path: Path, text: str, digest: str, moments: int) -> None:
    """On one store, with what the dead before it left: and so later each time."""
    bench = _bench(template, tmp_path, text)
    dead = []
    for moment in range(1, moments, max(1, moments // 6)):
        dead.append(die(bench, moment, "alone", "build", "--no-cache", "-t", "x", ".")[1])
        wait_for_the_end_of(bench.processes)
        bench.run("fsck")
    _assert_as_undisturbed(bench, digest, *dead)


# The other commands that write


@pytest.fixture
def mock(tmp_path: Path) -> Iterator[Mock]:
    with Mock(tmp_path / "registry") as mock:
        yield mock


def _spread(count: int, seed: int, several: int = 3) -> list[int]:
    """Some of the moments 1..count, the last one, which makes the result visible, among them."""
    return sorted({count, *random.Random(seed).sample(range(1, count + 1), min(several, count))})


def test_import_load_and_tags_that_die(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "base.tar").write_bytes(base_tar())
    bench.run("save", "-o", tmp_path / "saved.tar", "busybox")
    commands: dict[str, tuple[str | Path, ...]] = {
        "new": ("import", tmp_path / "base.tar", "new"),
        "loaded": ("load", tmp_path / "saved.tar", "loaded"),
        "tagged": ("tag", "busybox", "tagged"),
    }
    for seed, (name, command) in enumerate(commands.items()):
        count = changes(bench, *command)
        wanted = bench.inspect(name)["Digest"]
        for moment in _spread(count, seed):
            bench.run("rmi", name)
            bench.run("prune")
            die(bench, moment, "group", *command)
            assert_nothing_left(bench)
            bench.run(*command)
            assert bench.inspect(name)["Digest"] == wanted
    assert_nothing_left(bench)


def test_push_and_pull_that_die(bench: Bench, mock: Mock, tmp_path: Path) -> None:
    bench.write({"file": b"x" * 2_000_000})
    bench.build("FROM busybox\nCOPY file /\nRUN touch /a\nRUN touch /b\n")
    wanted = bench.inspect()["Digest"]
    count = changes(bench, "push", "x", f"{mock.authority}/counted:1")
    for number, moment in enumerate(_spread(count, SEED)):
        name = f"{mock.authority}/app-{number}:1"
        die(bench, moment, "group", "push", "x", name)
        assert_nothing_left(bench)
        assert bench.run("push", "-q", "x", name).out.strip() == wanted
    empty = Bench(tmp_path / "empty", bench.environ)
    empty.context.mkdir(parents=True)
    count = changes(empty, "pull", f"{mock.authority}/counted:1")
    for moment in _spread(count, SEED + 1):
        empty.run("rmi", f"{mock.authority}/counted:1", code=None)
        empty.run("prune", "--all")
        die(empty, moment, "group", "pull", f"{mock.authority}/counted:1")
        assert_nothing_left(empty)
        assert empty.run("pull", "-q", f"{mock.authority}/counted:1").out.strip() == wanted
    assert empty.run("run", "--rm", f"{mock.authority}/counted:1", "wc", "-c", "/file").out.split() == ["2000000", "/file"]
    assert_nothing_left(empty)


def test_prune_and_rmi_that_die(bench: Bench) -> None:
    text = "FROM busybox\nRUN seq 9999 > /a\nRUN seq 9999 > /b\nRUN seq 9999 > /c\n"
    bench.build(text)
    wanted = bench.inspect()["Digest"]
    for before, command in ((("images",), ("rmi", "x")), (("rmi", "x"), ("prune", "--all"))):
        bench.build(text)
        bench.run(*before)
        count = changes(bench, *command)
        for moment in _spread(count, SEED):
            bench.build(text)
            bench.run(*before)
            die(bench, moment, "group", *command)
            assert_nothing_left(bench)
            bench.build(text)
            assert bench.inspect()["Digest"] == wanted
    bench.run("rmi", "x", "busybox")
    bench.run("prune", "--all")
    assert list((bench.root / "blobs" / "sha256").iterdir()) == []
    assert list((bench.root / "snapshots").iterdir()) == []


@pytest.mark.parametrize("whom", ["group", "alone"])
def test_detached_runs_that_die(bench: Bench, whom: str) -> None:
    """At whatever moment: there is a container that can be removed, or there is none."""
    before = groups()
    for moment in (1, 2, 3, 9, 16, 23, 28):
        die(bench, moment, whom, "run", "-d", "--name", "c", "busybox", "sleep", str(PATIENCE * 10))
        known = bench.run("ps", "-aq").out.split()
        assert len(known) <= 1
        # Its name can be had again only when it is gone.
        if known:
            bench.run("rm", "-f", "c")
        assert bench.run("run", "--rm", "--name", "c", "busybox", "echo", "here").out == "here\n"
        assert_nothing_left(bench)
    assert_no_new_groups(before)


def test_a_run_that_dies_leaves_a_container_that_ended(bench: Bench) -> None:
    with bench.started("run", "--name", "c", "busybox", "sh", "-c", f"echo ready; sleep {PATIENCE * 10}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        process.communicate(timeout=PATIENCE)
    assert "c" in bench.run("ps", "-a").out
    bench.run("rm", "-f", "c")
    assert_nothing_left(bench)
    assert json.loads(bench.run("inspect", "busybox").out)
