"""RUN --mount=type=ssh: a real agent, and what reaches it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .aftermath import wait_for_the_end_of
from .harness import PATIENCE, Bench, ended, wait_for_line

needs_client = pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="these tests need Debian's openssh-client")



@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two private keys, "one" and "two", and "locked", which has a passphrase."""
    place = tmp_path_factory.mktemp("keys")
    for name, phrase in (("one", ""), ("two", ""), ("locked", "secret")):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", phrase, "-C", name, "-f", place / name]
        subprocess.run(command, check=True, timeout=PATIENCE)
    return place


@pytest.fixture
def agent(keys: Path, tmp_path: Path) -> Iterator[Path]:
    """The socket of an agent with the key "one"."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline()
            add(path, keys / "one")
            yield path
        finally:
            process.send_signal(signal.SIGTERM)


def add(agent: Path, key: Path) -> None:
    subprocess.run(["ssh-add", "-q", key], env={**os.environ, "SSH_AUTH_SOCK": str(agent)}, check=True, timeout=PATIENCE)


def listed(agent: Path) -> str:
    environ = {**os.environ, "SSH_AUTH_SOCK": str(agent)}
    return subprocess.run(["ssh-add", "-l"], env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE).stdout


def with_client(bench: Bench) -> None:
    """Put ssh-add and what it is linked to into the context, as a root file system's part."""
    program = shutil.which("ssh-add")
    assert program
    shutil.copy(program, bench.context / "ssh-add")
    for line in subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.splitlines():
        path = next((word for word in line.split() if word.startswith("/")), None)
        if path is not None:
            place = bench.context / "root" / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(path), place)


@needs_client
def test_a_client_in_a_step_reaches_the_agent(bench: Bench, agent: Path) -> None:
    with_client(bench)
    text = """
FROM busybox AS client
COPY root /
COPY ssh-add /bin/
RUN --mount=type=ssh --network=none ssh-add -l > /keys; echo $SSH_AUTH_SOCK > /where; stat -c '%a %u %g' $SSH_AUTH_SOCK > /mode
RUN --mount=type=ssh ssh-add -D; ssh-add -x < /dev/null; ssh-add -l | wc -l > /still
RUN --mount=type=ssh,id=second,target=/tmp/a,mode=0660,uid=1000,gid=50,required=true \\
    --mount=type=ssh ls /run/buildkit > /names; echo $SSH_AUTH_SOCK >> /names; stat -c '%a %u %g' /tmp/a >> /names
RUN [ -z "$SSH_AUTH_SOCK" ]
"""
    bench.build(text, "--ssh", "default", "--ssh", f"second={agent}", environ={"SSH_AUTH_SOCK": str(agent)})
    files = bench.files()
    assert files["keys"].data.split()[2] == b"one"
    assert files["where"].data == b"/run/buildkit/ssh_agent.0\n"
    assert files["mode"].data == b"600 0 0\n"
    assert files["still"].data.strip() == b"1"
    assert files["names"].data == b"ssh_agent.1\n/tmp/a\n660 1000 50\n"
    assert not {"run/buildkit", "tmp/a"} & set(files)
    assert "SSH_AUTH_SOCK" not in str(bench.config())
    assert listed(agent).split()[2] == "one"
    assert list(bench.build(text, "--ssh", f"default={agent}", "--ssh", f"second={agent}").steps.values()) == ["CACHED"] * 6
    bench.assert_whole()


@needs_client
def test_keys_in_files_are_held_by_an_agent_that_goes_with_the_build(
    bench: Bench, keys: Path, started: Callable[[], list[int]]
) -> None:
    with_client(bench)
    text = "FROM busybox\nCOPY root /\nCOPY ssh-add /bin/\nRUN --mount=type=ssh,id=deploy ssh-add -l | sort > /keys\n"
    (keys / "one").chmod(0o644)  # a client would refuse to read it then; a build does not look at that
    bench.build(text, "--ssh", f"deploy={keys / 'one'},{keys / 'two'}")
    assert [line.split()[2] for line in bench.files()["keys"].data.splitlines()] in ([b"one", b"two"], [b"two", b"one"])
    assert started() == []
    bench.assert_whole()
    said = bench.refused(f"{text}RUN --mount=type=ssh,id=deploy false\n", "--ssh", f"deploy={keys / 'locked'}", code=2)
    assert "without a passphrase" in said
    assert started() == []


@needs_client
def test_the_agent_does_not_outlive_a_build_that_is_killed(bench: Bench, keys: Path, started: Callable[[], list[int]]) -> None:
    (bench.context / "Buildfile").write_text(f"FROM busybox\nRUN --mount=type=ssh echo ready; sleep {PATIENCE * 10}\n")
    with bench.started("build", "--progress=plain", "--ssh", f"default={keys / 'one'}", ".") as process:
        wait_for_line(process, b"| ready")
        deadline = time.monotonic() + PATIENCE
        while len(started()) != 2:  # a child of the shell is seen until it becomes another program
            assert time.monotonic() < deadline
        ended(process, signal.SIGKILL)
    wait_for_the_end_of(started)


@pytest.fixture
def started(bench: Bench) -> Iterator[Callable[[], list[int]]]:
    """Tells which agents that this test's builds have started still run, and the shells beside them. Their sockets are in a place of the
    test's own, whose name is short, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="t-") as place:
        bench.environ["TMPDIR"] = place
        yield lambda: agents(place)
        assert os.listdir(place) == []


def agents(place: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(place.encode()) for word in words):
            found.append(int(path.name))
    return found


def test_an_agent_that_is_not_given(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN --mount=type=ssh [ ! -e $SSH_AUTH_SOCK ]\n")
    said = bench.refused("FROM busybox\nRUN true\nRUN --mount=type=ssh,id=deploy,required true\n", code=10)
    assert "Buildfile:3" in said
    assert "--ssh deploy" in said


@needs_client
def test_an_agent_that_is_gone_is_a_closed_connection(bench: Bench, tmp_path: Path) -> None:
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    with_client(bench)
    text = "FROM busybox\nCOPY root /\nCOPY ssh-add /bin/\nRUN --mount=type=ssh ssh-add -l\n"
    said = bench.refused(text, "--ssh", f"default={dead}", code=1)
    assert "Buildfile:4" in said


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("default", "names no agent"),
        ("default=/no/such/file", "/no/such/file"),
        ("default=SOCKET,Buildfile", "stands alone"),
    ],
)
def test_agents_that_are_refused(shared: Bench, tmp_path: Path, value: str, words: str) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        shared.write({"Buildfile": "FROM busybox\n"})
        done = shared.run("build", "--ssh", value.replace("SOCKET", str(path)), ".", code=2)
    assert words in done.err


def test_one_id_is_given_once(shared: Bench, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    shared.write({"Buildfile": "FROM busybox\n"})
    done = shared.run("build", "--ssh", f"a={tmp_path / 'key'}", "--ssh", f"a={tmp_path / 'key'}", ".", code=2)
    assert "a second agent a" in done.err
