"""Containers that last: detached, listed, read, entered, signalled, stopped, removed, and left behind by a crash."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .conftest import Shop

SLEEP = ("box", "sh", "-c", "trap 'exit 9' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 1 & wait $!; done")


def record(shop: Shop, name: str) -> dict[str, Any]:
    for path in (shop.root / "containers").glob("*/container.json"):
        found: dict[str, Any] = json.loads(path.read_text())
        if found["name"] == name:
            return found
    raise AssertionError(f"no container {name}")


def ready(shop: Shop, name: str, word: bytes = b"ready\n") -> None:
    """Wait until a container has said a word."""
    with shop.start("logs", "-f", name, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == word:
                break
        process.kill()


def ended(pid: int) -> None:
    """Wait until a process is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(60_000), f"{pid} is still there"
    finally:
        os.close(descriptor)


def test_detached(shop: Shop) -> None:
    container = shop("run", "-d", "--name", "one", *SLEEP).stdout.strip()
    assert len(container) == 64
    ready(shop, "one")
    assert shop("ps", "-q", "--no-trunc").stdout.strip() == container
    assert record(shop, "one")["state"] == "running"
    assert shop("stop", "one").stdout == "one\n"
    assert record(shop, "one") | {"state": "exited", "exit_code": 9, "init": None} == record(shop, "one")
    assert shop("ps", "-q").stdout == ""
    assert shop("wait", container[:12]).stdout == "9\n"
    assert shop("logs", "one").stdout == "ready\n"
    shop("stop", "one")
    assert shop("rm", container[:8]).stdout == container[:8] + "\n"
    assert shop("rm", "one", check=False).returncode == 13


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/noexec", 126)])
def test_detached_that_can_not_start(shop: Shop, command: str, code: int) -> None:
    done = shop("run", "-d", "--rm", "box", command, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert command in done.stderr
    missing = shop("run", "-d", "--pull", "never", "no-such-image", check=False)
    assert missing.returncode == 125
    assert "no-such-image" in missing.stderr
    assert shop("ps", "-aq").stdout == ""


def test_detached_does_not_hold_the_callers_streams(shop: Shop) -> None:
    assert len(shop("run", "-d", "--name", "s", *SLEEP).stdout) == 65
    supervisor = record(shop, "s")["supervisor"]
    assert os.getsid(supervisor) != os.getsid(0)
    assert {os.readlink(f"/proc/{supervisor}/fd/{number}") for number in range(3)} == {"/dev/null"}


@pytest.mark.parametrize("what", ["run", "exec"])
def test_detached_holds_nothing_of_the_callers(shop: Shop, tmp_path: Path, what: str) -> None:
    """Not its locks, not the ends of its pipes, not its directory; and paths that were relative to that are still right."""
    start = ("run", "-d", "--name", "x", *SLEEP)
    if what == "exec":
        shop(*start)
        start = ("exec", "-d", "x", "sleep", "1000")
    (tmp_path / "here").mkdir()
    shop.environ["IMGBUILD_ROOT"] = os.path.relpath(shop.root, tmp_path / "here")
    read_end, write_end = os.pipe()
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shop(*start, pass_fds=(lock.fileno(), write_end), cwd=tmp_path / "here")
    os.close(write_end)
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with os.fdopen(read_end, "rb") as pipe:
        assert pipe.read() == b""
    holders = [pid for pid in filter(str.isdecimal, os.listdir("/proc")) if directory_of(pid).startswith(str(tmp_path))]
    assert holders == []
    shop.environ["IMGBUILD_ROOT"] = str(shop.root)
    shop("stop", "-t", "0", "x")
    assert record(shop, "x")["state"] == "exited"


def directory_of(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def test_detached_with_rm_and_a_short_life(shop: Shop) -> None:
    container = shop("run", "-d", "--rm", "box", "true").stdout.strip()
    shop("wait", container, check=False)
    while (shop.root / "containers" / container).exists():
        shop("wait", container, check=False)


def test_detached_input_stays_open(shop: Shop) -> None:
    shop("run", "-d", "-i", "--name", "in", "box", "sh", "-c", "echo ready; cat; echo over")
    ready(shop, "in")
    assert shop("stop", "-t", "0", "in").stdout == "in\n"
    assert shop("logs", "in").stdout == "ready\n"
    shop("run", "-d", "--name", "no", "box", "sh", "-c", "cat; echo over")
    assert shop("wait", "no").stdout == "0\n"


def test_stop_kills_what_does_not_listen(shop: Shop) -> None:
    shop("run", "-d", "--name", "deaf", "--stop-timeout", "0", "box", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done")
    ready(shop, "deaf")
    shop("stop", "deaf")
    assert record(shop, "deaf")["exit_code"] == 137


def test_stop_signal_and_kill(shop: Shop) -> None:
    shop.image("usr", stop_signal="SIGUSR2")
    script = "trap 'exit 5' USR2; trap 'echo usr1' USR1; echo ready; while :; do sleep 1 & wait $!; done"
    shop("run", "-d", "--name", "u", "usr", "sh", "-c", script)
    ready(shop, "u")
    shop("kill", "-s", "usr1", "u")
    ready(shop, "u", b"usr1\n")
    shop("stop", "u")
    assert record(shop, "u")["exit_code"] == 5
    done = shop("kill", "u", check=False)
    assert done.returncode == 14
    assert "not running" in done.stderr
    assert shop("kill", "-s", "nonsense", "u", check=False).returncode == 2


def test_names_conflict(shop: Shop) -> None:
    shop("run", "--name", "same", "box", "true")
    again = shop("run", "--name", "same", "box", "true", check=False)
    assert again.returncode == 125
    assert "taken" in again.stderr


def test_rm_of_a_running_container(shop: Shop) -> None:
    shop("run", "-d", "--name", "r", *SLEEP)
    refused = shop("rm", "r", check=False)
    assert refused.returncode == 14
    assert "running" in refused.stderr
    init = record(shop, "r")["init"][0]
    shop("rm", "-f", "r", "no-such")
    assert not Path(f"/proc/{init}").exists()
    assert shop("ps", "-aq").stdout == ""


def test_logs(shop: Shop) -> None:
    shop("run", "-d", "--name", "l", "box", "sh", "-c", "for n in 1 2 3; do echo $n; done; echo err >&2; printf 'half \\377'")
    shop("wait", "l")
    done = subprocess.run([*shop.command, "logs", "l"], env=shop.environ, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"1\n2\n3\nhalf \xff", b"err\n")
    assert shop("logs", "--tail", "3", "l", check=True, errors="replace").stdout.startswith("3\n")
    stamped = shop("logs", "-t", "--tail", "2", "l", errors="replace").stderr
    assert stamped.endswith("Z err\n")
    assert shop("logs", "-f", "l", errors="replace").stdout.startswith("1\n2\n3\n")


def test_following_a_log_ends_with_the_container(shop: Shop) -> None:
    shop("run", "-d", "--name", "f", *SLEEP)
    with shop.start("logs", "-f", "f", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        shop("kill", "-s", "USR1", "f")
        assert process.stdout.readline() == b"usr1\n"
        shop("stop", "f")
        assert process.stdout.read() == b""
        assert process.wait() == 0


def test_exec(shop: Shop) -> None:
    shop("run", "-d", "--name", "e", "-e", "MINE=1", "-w", "/srv", "--hostname", "inside", *SLEEP)
    ready(shop, "e")
    script = "echo $MINE $HOSTNAME; pwd; hostname; cat /proc/1/cmdline | tr '\\0' ' '; echo err >&2; exit 7"
    done = shop("exec", "e", "sh", "-c", script, check=False)
    assert done.returncode == 7
    assert done.stdout.startswith("1 inside\n/srv\ninside\nsh -c trap")
    assert done.stderr == "err\n"
    options = ("-i", "-u", "ann", "-w", "/tmp", "-e", "X=y")
    told = shop("exec", *options, "e", "sh", "-c", "id -un; pwd; echo $X $HOME; cat", text="in\n").stdout
    assert told == "ann\n/tmp\ny /home/ann\nin\n"
    shop("exec", "e", "sh", "-c", "echo kept > /tmp/file; echo late:x:7:7::/:/bin/sh >> /etc/passwd")
    assert shop("exec", "e", "cat", "/tmp/file").stdout == "kept\n"
    assert shop("exec", "-u", "late", "e", "id", "-un").stdout == "late\n"
    assert [shop("exec", "e", name, check=False).returncode for name in ("no-such", "/noexec", "false")] == [127, 126, 1]


def test_detached_exec(shop: Shop) -> None:
    shop("run", "-d", "--name", "e", *SLEEP)
    ready(shop, "e")
    shop("exec", "e", "mkfifo", "/tmp/pipe")
    shop("exec", "-d", "e", "sh", "-c", "echo from behind > /tmp/pipe; sleep 1000")
    assert shop("exec", "e", "cat", "/tmp/pipe").stdout == "from behind\n"
    assert shop("exec", "-d", "e", "no-such", check=False).returncode == 127


def test_exec_needs_a_running_container(shop: Shop) -> None:
    shop("run", "--name", "over", "box", "true")
    for name in ("over", "missing"):
        done = shop("exec", name, "true", check=False)
        assert done.returncode == 125
        assert name in done.stderr


def test_ps(shop: Shop) -> None:
    shop("run", "--name", "first", "-l", "kind=a", "box", "false", check=False)
    shop("run", "-d", "--name", "second", "-l", "kind=b", *SLEEP)
    assert shop("ps", "--format", "{{.Names}}").stdout == "second\n"
    rows = [json.loads(line) for line in shop("ps", "-a", "--format", "json").stdout.splitlines()]
    assert [(row["Names"], row["State"], row["Image"], row["Labels"]) for row in rows] == [
        ("second", "running", "box:latest", "kind=b"),
        ("first", "exited", "box:latest", "kind=a"),
    ]
    assert rows[0]["Status"].startswith("Up ")
    assert rows[1]["Status"].startswith("Exited (1) ")
    head, *lines = shop("ps", "-a").stdout.splitlines()
    assert head.split()[:2] == ["CONTAINER", "ID"]
    assert len(lines) == 2
    for words, names in {
        ("-f", "status=exited"): ["first"],
        ("-a", "-f", "label=kind=b"): ["second"],
        ("-a", "-f", "name=first", "-f", "name=sec"): ["second", "first"],
        ("-a", "-f", "ancestor=box"): ["second", "first"],
        ("-f", "exited=1"): ["first"],
        ("-l",): ["second"],
        ("-n", "2"): ["second", "first"],
        ("-f", "ancestor=other"): [],
    }.items():
        assert shop("ps", "--format", "{{.Names}}", *words).stdout.split() == names
    for words in (("-f", "odd=1"), ("--format", "xml"), ("--format", "{{.No}}")):
        assert shop("ps", *words, check=False).returncode == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR2])
def test_signals_are_passed_on(shop: Shop, number: signal.Signals) -> None:
    name = number.name[3:]
    script = f"trap 'echo got {name}; exit 33' {name}; echo ready; while :; do sleep 1 & wait $!; done"
    with shop.start("run", "--rm", "box", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == f"got {name}\n".encode()
        assert process.wait() == 33


def test_patience_ends(shop: Shop) -> None:
    script = "trap '' INT TERM; echo ready; while :; do sleep 1; done"
    with shop.start("run", "--rm", "box", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for number in (signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
            while signal_pending(process.pid, number):
                pass
        process.send_signal(signal.SIGINT)
        assert process.wait() == 137


def signal_pending(pid: int, number: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(("ShdPnd:", "SigPnd:")) and int(line.split()[1], 16) >> (number - 1) & 1:
            return True
    return False


@pytest.mark.parametrize("options", [("-d",), ("-d", "--rm")])
def test_killing_the_supervisor_leaves_nothing(shop: Shop, options: tuple[str, ...]) -> None:
    shop("run", *options, "--name", "k", *SLEEP)
    ready(shop, "k")
    before = record(shop, "k")
    os.kill(before["supervisor"], signal.SIGKILL)
    ended(before["init"][0])
    ended(before["supervisor"])
    rows = shop("ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}").stdout
    if "--rm" in options:
        assert rows == ""
        assert os.listdir(shop.root / "containers") == []
    else:
        assert rows.startswith("k exited Exited (137)")
        assert record(shop, "k")["error"] == "the supervisor was killed"
        assert shop("logs", "k").stdout == "ready\n"
    assert shop.traces() == []


def zygote_of(supervisor: int) -> int:
    (child,) = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    assert Path(f"/proc/{child}/comm").read_text() == "imgbuild-zygote\n"
    return int(child)


@pytest.mark.parametrize("options", [("-d",), ("-d", "--rm")])
def test_killing_the_zygote_ends_the_container_and_no_more(shop: Shop, options: tuple[str, ...]) -> None:
    shop("run", *options, "--name", "z", "box", "sh", "-c", "echo work > /tmp/done; echo ready; while :; do sleep 1; done")
    ready(shop, "z")
    before = record(shop, "z")
    os.kill(zygote_of(before["supervisor"]), signal.SIGKILL)
    ended(before["init"][0])
    ended(before["supervisor"])
    rows = shop("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout
    if "--rm" in options:
        assert rows == ""
    else:
        assert rows.startswith("z Exited (137)")
        after = record(shop, "z")
        assert (after["exit_code"], after["init"], after["supervisor"]) == (137, None, 0)
        assert "zygote died" in after["error"]
        assert after["finished"] >= after["started"] > 0
        assert shop("logs", "z").stdout == "ready\n"
        assert (shop.root / "containers" / after["id"] / "fs" / "tmp" / "done").read_text() == "work\n"


@pytest.mark.parametrize("options", [("-d",), ()])
def test_a_log_that_can_not_be_written_does_not_end_the_container(shop: Shop, options: tuple[str, ...]) -> None:
    """As on a full disk; here it is the limit of a file's size."""
    shop("run", "--name", "before", "box", "true")
    shop.before = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    script = "n=0; while [ $n -lt 4000 ]; do echo line $n of very many that all go to the log; n=$((n+1)); done; exit 9"
    shop("run", *options, "--name", "chatty", "box", "sh", "-c", script, check=False)
    shop.before = None
    assert shop("wait", "chatty").stdout == "9\n"
    assert record(shop, "chatty") | {"exit_code": 9, "error": "", "state": "exited"} == record(shop, "chatty")
    assert record(shop, "chatty")["log_error"] == "output is missing in the log: File too large"
    lines = shop("logs", "chatty").stdout.splitlines()
    # What comes at once is there as a whole or not at all: how much that is depends on who is quicker.
    numbers = [int(line.removeprefix("line ").removesuffix(" of very many that all go to the log")) for line in lines]
    assert 0 < len(numbers) < 4000
    assert numbers[0] == 0
    assert numbers == sorted(set(numbers))


def test_killing_a_foreground_run_leaves_nothing(shop: Shop) -> None:
    with shop.start("run", "--name", "k", *SLEEP, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        init = record(shop, "k")["init"][0]
        process.kill()
    ended(init)
    assert shop("ps", "-a", "--format", "{{.Status}}").stdout.startswith("Exited (137)")


def test_killing_an_exec_ends_its_command(shop: Shop) -> None:
    shop("run", "-d", "--name", "e", *SLEEP)
    with shop.start("exec", "e", "sh", "-c", "echo $$; sleep 1000; true", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        inner = int(process.stdout.readline())
        assert shop("exec", "e", "test", "-e", f"/proc/{inner}", check=False).returncode == 0
        process.kill()
    while shop("exec", "e", "test", "-e", f"/proc/{inner}", check=False).returncode == 0:
        pass
    assert shop("ps", "--format", "{{.State}}").stdout == "running\n"


def test_snapshots_in_use(shop: Shop) -> None:
    shop("run", "--name", "keeps", "box", "true")
    assert set(record(shop, "keeps")["snapshots"]) == set(os.listdir(shop.root / "snapshots"))


def test_nothing_is_removed_while_a_record_is_damaged(shop: Shop) -> None:
    shop("run", "--name", "one", "box", "true")
    shop("rmi", "-f", "box")
    snapshots = set(os.listdir(shop.root / "snapshots"))
    path = shop.root / "containers" / record(shop, "one")["id"] / "container.json"
    os.truncate(path, 100)
    done = shop("prune", "-a", check=False)
    assert (done.returncode, "imgbuild rm -f" in done.stderr) == (17, True)
    shop("du")
    assert "container" in shop("fsck", check=False).stdout
    shop("fsck", "--repair")
    assert set(os.listdir(shop.root / "snapshots")) == snapshots != set()
    shop("rm", "-f", path.parent.name)
    shop("prune", "-a")
    assert os.listdir(shop.root / "snapshots") == []
