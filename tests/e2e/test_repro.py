"""``imgbuild repro``: steps once more, under other circumstances; which file differs, and why."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .aftermath import wait_for_the_end_of
from .harness import NEEDS_GROUPS, PATIENCE, Bench, base_tar, ended, wait_for_line
from .visitor import VisitorBench, needs_namespaces, visitor

CAUSES = {
    "date": "date > %",
    "epoch": "date +%s > %",
    "hostname": "hostname > %",
    "uptime": "cat /proc/uptime > %",
    "pid": "sh -c 'sh -c \"echo \\$\\$; :\"; :' > %",
    "processors": "nproc > %",
    "order": "find /bin > %",
    "order in a tar": "tar cf % /bin",
    "tar": "echo 1 > /f; tar cf % /f; rm /f",
    "tar in a gzip": "echo 1 > /f; tar cf - /f | gzip > %; rm /f",
    "random": "head -c 20 /dev/urandom > %",
    "uuid": "cat /proc/sys/kernel/random/uuid > %",
    "log": "mkdir -p /var/log; date > /var/log/x",
    "names by time": "touch %.$(date +%s)",
    "names by chance": "mktemp %.XXXXXX",
    "symlink": "ln -s $(date +%s) %",
    "mode": "touch %; [ $(hostname) = imgbuild ] || chmod 600 %",
    "owner": "touch %; [ $(hostname) = imgbuild ] || chown 5 %",
    "mtime": "touch -d @$(hostname | wc -c) %",
    "first of an order": "find /bin | head -5 > %",
    "size of a directory": "mkdir /n; ls -ld /n > %; rmdir /n",
    "size as a number": "mkdir /n; stat -c %s /n > %; rmdir /n",
    "links of a directory": "ls -ld /bin | cut -c 11-15 > %",
    "by the number of processors": "[ $(nproc) = 1 ] || touch %",
    "by the number of a process": "sh -c 'sh -c \"[ \\$\\$ -gt 9000 ] || touch %; :\"; :'",
    "by the clock": "[ $(cut -d . -f 1 /proc/uptime) -gt 7000000 ] || touch %",
    "gone": "[ $(hostname) = imgbuild ] || touch %",
}
KINDS = {
    "size of a directory": "file system", "size as a number": "file system",
    "first of an order": "order", "links of a directory": "order", "by the clock": "uptime",
    "by the number of processors": "processors", "by the number of a process": "pid",
    "mode": "hostname", "owner": "hostname", "mtime": "hostname", "gone": "hostname",
    "date": "time", "epoch": "time", "order in a tar": "order", "tar in a gzip": "tar", "symlink": "time",
    "names by time": "names", "names by chance": "names",
}  # fmt: skip
SAME = """
RUN echo 1 > /x
RUN true
RUN find /bin | sort > /y
RUN rm /etc/group; mkdir /etc/group; echo 1 > /etc/group/x; gzip -k /etc/passwd; ln /x /z; mknod /n p; rm -r /home
"""


def repro(bench: Bench, *arguments: str | Path, code: int | None = None) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(bench.run("repro", "--format", "json", *arguments, code=code).out)
    return value


def kept(bench: Bench) -> tuple[object, ...]:
    """What a build would find in the store."""
    with sqlite3.connect(bench.root / "index.db") as index:
        tables = [index.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("steps", "layers", "snapshots")]
    places = [bench.root / name for name in ("blobs/sha256", "snapshots", "tmp", "failed", "cache")]
    return (bench.root / "index.json").read_bytes(), tables, [sorted(os.listdir(place)) for place in places if place.is_dir()]


def test_each_cause_is_named(bench: Bench) -> None:
    # Names that tell no two of them are one that was named otherwise.
    places = {cause: f"/o/{cause.replace(' ', '_')}" for cause in CAUSES} | {"log": "/var/log/x"}
    commands = "\n".join(command.replace("%s", "@s").replace("%", places[cause]).replace("@s", "%s") for cause, command in CAUSES.items())
    bench.build(f"FROM busybox\nRUN mkdir /o\nRUN <<EOF\n{commands}\ntrue\nEOF\n{SAME}")
    before = kept(bench)
    found = repro(bench, code=1)
    assert [step["same"] for step in found["steps"]] == [True, False, True, True, True, True]
    kinds = {each["path"]: each["reasons"][0]["kind"] for each in found["steps"][1]["files"]}
    unvaried = " ".join(found["steps"][1]["not_varied"])
    words = {"processors": "processors", "pid": "numbers", "uptime": "clocks"}
    unknown = {cause for cause in CAUSES if words.get(KINDS.get(cause, cause), "in all") in unvaried}
    for cause, place in places.items():
        if cause in unknown:
            continue
        named = [kinds[path] for path in kinds if path == place or path.startswith(f"{place}.")]
        assert named[:1] == [KINDS.get(cause, cause)], cause
    for step in found["steps"]:
        assert len(step["varied"]) + len(step["not_varied"]) == 8
        assert any("order of directories" in words for words in step["varied"])
        assert (step["runs"][0] == step["runs"][1] == step["stored"]) == step["same"]
    assert kept(bench) == before
    bench.assert_whole()


def test_as_text(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo 1 > /one\nRUN date > /a; date > /b; hostname > /c\nWORKDIR /w\n")
    done = bench.run("repro", code=1)
    first, second, path, reason, hint, more, total = done.out.splitlines()
    assert first.startswith("#1 [1/3] RUN echo 1 > /one  (Buildfile:2): the same again")
    assert second.startswith("#2 [2/3] RUN date > /a")
    assert second.endswith("(Buildfile:3): DIFFERS")
    assert path == "  ~ /a  (content)"
    assert reason.startswith("      a time: ")
    assert "SOURCE_DATE_EPOCH" in hint
    assert more == "  and 2 more (time, hostname); --all shows them"
    assert total == "2 steps: 1 the same again, 1 not"
    assert "running #2 RUN date" in done.err
    done = bench.run("repro", "last", "#1", "-q")
    assert done.out.splitlines()[-1] == "1 step: 1 the same again, 0 not"
    assert done.err == ""
    whole = bench.run("repro", "#2", "--all", code=1).out
    assert "  ~ /c  (content)\n      the machine's name: imgbuild -> " in whole


def test_what_a_step_reads_is_there_again(bench: Bench) -> None:
    bench.write({"file": "1", "ignored": "1", ".dockerignore": "ignored"})
    named = bench.place / "named"
    named.mkdir()
    (named / "other").write_text("2")
    text = """FROM busybox AS made
RUN echo stage > /stage
FROM busybox
RUN --mount=target=/c --mount=from=made,target=/s --mount=from=more,target=/m,rw --mount=type=tmpfs,target=/t \
    --mount=type=secret,id=word,env=WORD --mount=type=cache,target=/cache \
    cat /c/file /s/stage /m/other > /all; ls -a /c > /list; echo "$WORD" | md5sum > /sum; echo >> /cache/grown; echo > /m/written
RUN --network=none --add-host=none [ -s /etc/hosts ] && cat <<EOF > /heredoc
text
EOF
"""
    text = text.replace("--add-host=none ", "")
    secret = bench.place / "secret"
    secret.write_text("magic")
    options = ["--secret", f"id=word,src={secret}", "--build-context", f"more={named}", "--add-host", "box:10.0.0.7"]
    bench.build(text, *options)
    before = kept(bench)
    grown = next((bench.root / "cache").glob("*/grown")).read_bytes()
    done = bench.run("repro", code=2)
    assert "it needs the secret 'word'" in done.err
    assert "--secret id=word,src=FILE" in done.err
    found = repro(bench, "--secret", f"id=word,src={secret}", code=0)
    assert [step["same"] for step in found["steps"]] == [True, True, True]
    assert kept(bench) == before
    assert next((bench.root / "cache").glob("*/grown")).read_bytes() == grown
    (bench.place / "another").write_text("spell")
    done = bench.run("repro", "--secret", f"id=word,src={bench.place / 'another'}", code=2)
    assert "the secret 'word' is not the one that it had" in done.err
    bench.write({"file": "changed"})
    done = bench.run("repro", "--secret", f"id=word,src={secret}", code=13)
    assert "what it read of the build context is not the same any more" in done.err
    bench.assert_whole()


def test_the_store_against_now(bench: Bench) -> None:
    """What is the same in two runs by now may be another than what was made then: here, by what a cache holds."""
    text = "FROM busybox\nRUN --mount=type=cache,target=/c ls /c > /seen; touch /c/x\n"
    bench.build(text)
    found = repro(bench, code=1)
    (step,) = found["steps"]
    assert step["runs"][0] == step["runs"][1] != step["stored"]
    assert [each["between"] for each in step["files"]] == ["store and first run"]
    assert "since the layer in the store was made" in bench.run("repro", code=1).out


def test_a_step_that_fails_under_other_circumstances(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN [ $(hostname) = imgbuild ] || { echo not here; exit 3; }\nRUN echo 1 > /one\n")
    found = repro(bench, code=1)
    assert [step["same"] for step in found["steps"]] == [False, True]
    assert found["steps"][0]["problem"] == "it does not succeed any more: exit code 3; its last line was: not here"
    assert "  under other circumstances it does not succeed any more: exit code 3" in bench.run("repro", code=1).out


@NEEDS_GROUPS
def test_a_step_whose_files_would_count_as_its_memory(bench: Bench) -> None:
    large = "dd if=/dev/zero of=/big bs=1M count=40 2> /dev/null && rm /big"
    bench.build(f"FROM busybox\nRUN --memory=24m {large}; date > /date; find /bin > /list\n")
    (step,) = repro(bench, code=1)["steps"]
    assert {each["path"]: each["reasons"][0]["kind"] for each in step["files"]} == {"/date": "time", "/list": "order"}
    assert "the file system that is written to: it does not fit into memory" in step["not_varied"]
    bench.assert_whole()


SMALL = """
import sys
from imgbuild.engine import again
from imgbuild.cli.main import main
again.available_memory = lambda place: 64 << 20
main(sys.argv[1:])
"""


def test_a_step_that_fills_the_memory_that_there_is(bench: Bench) -> None:
    """What it leaves is small, so that it is tried; then it is run on the disk."""
    large = "dd if=/dev/zero of=/big bs=1M count=40 2> /dev/null || exit 9; rm /big"
    bench.build(f"FROM busybox\nRUN {large}; date > /date; find /bin > /list\n")
    command = [sys.executable, "-c", SMALL, "--root", str(bench.root), "repro", "--format", "json"]
    done = subprocess.run(command, capture_output=True, env=bench.environ, timeout=PATIENCE, check=False)
    assert done.returncode == 1, done.stderr
    (step,) = json.loads(done.stdout)["steps"]
    assert {each["path"]: each["reasons"][0]["kind"] for each in step["files"]} == {"/date": "time", "/list": "order"}
    assert "the file system that is written to: it does not fit into memory" in step["not_varied"]
    bench.assert_whole()


def test_the_order_of_a_hash_table(bench: Bench) -> None:
    """It is another one in each run, not just where directories are listed in another one."""
    shuffled = "for n in a b c d e f g h i j k l m n; do echo $n; done | shuf"
    bench.build(f"FROM busybox\nRUN {shuffled} > /shuffled; find /bin > /listed\n")
    (step,) = repro(bench, code=1)["steps"]
    assert {each["path"]: each["reasons"][0]["kind"] for each in step["files"]} == {"/shuffled": "hash order", "/listed": "order"}


def test_refused(bench: Bench) -> None:
    assert "there is no build nope" in bench.run("repro", "nope", code=13).err
    bench.write({"file": "1"})
    bench.build("FROM busybox\nCOPY file /\nRUN --mount=type=cache,target=/c [ ! -e /c/x ] && touch /c/x\nTEST true\nRUN false\n", code=1)
    steps = json.loads(bench.run("builds", "show", "--format", "json").out)["steps"]
    number = {step["name"].partition("] ")[2].split()[0] + step["outcome"]: f"#{step['number']}" for step in steps}
    assert "has no step 9" in bench.run("repro", "last", "#9", code=13).err
    assert "runs nothing that leaves a layer" in bench.run("repro", number["COPYdone"], code=2).err
    assert "runs nothing that leaves a layer" in bench.run("repro", number["TESTdone"], code=2).err
    assert "has left nothing" in bench.run("repro", number["RUNfailed"], code=2).err
    assert "'x' is not the number of a step" in bench.run("repro", "last", "x", code=2).err
    failed = bench.run("repro", code=14).err
    assert "RUN --mount=type=cache" in failed
    assert "it does not succeed any more: exit code 1" in failed
    assert "--allow all is not known" in bench.run("repro", "--allow", "all", code=2).err
    bench.build("FROM busybox\nRUN --security=insecure true\n", "--allow", "security.insecure")
    assert "--allow security.insecure" in bench.run("repro", code=2).err
    assert repro(bench, "--allow", "security.insecure", code=0)["differs"] is False
    bench.run("prune", "-af")
    assert "it is not in the cache any more" in bench.run("repro", code=13).err
    bench.assert_whole()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_on_the_way(bench: Bench, signum: signal.Signals) -> None:
    """The first run is over at once, the second one, which is told by its name, hangs."""
    bench.build("FROM busybox\nRUN echo 1 > /x; [ $(hostname) = imgbuild ] || sleep 1000\n")
    before = kept(bench)
    with bench.started("repro") as process:
        wait_for_line(process, b"running #1")
        wait_for_sleep(process.pid)
        code, _ = ended(process, signum)
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[signum]
    wait_for_the_end_of(bench.processes)
    bench.run("images")  # sweeps
    assert kept(bench) == before
    bench.assert_whole()


def wait_for_sleep(pid: int) -> None:
    """Return when a process below this one sleeps; PATIENCE bounds it."""
    deadline = time.monotonic() + PATIENCE
    while not any(b"sleep\x001000" in read(f"/proc/{each}/cmdline") for each in below(pid)):
        assert time.monotonic() < deadline
        os.sched_yield()


def below(pid: int) -> list[int]:
    children = [int(word) for word in read(f"/proc/{pid}/task/{pid}/children").split()]
    return [pid, *(each for child in children for each in below(child))]


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[VisitorBench]:
    with visitor(tmp_path / "visitor", True) as bench:
        needs_namespaces(bench)
        (bench.place / "base.tar").write_bytes(base_tar())
        bench.give(bench.place / "base.tar")
        bench.run("import", bench.place / "base.tar", "busybox")
        yield bench


def test_without_root(guest: VisitorBench) -> None:
    guest.build("FROM busybox\nRUN mkdir /d; touch /d/c /d/a /d/b; chown 5:6 /d/a; rm /etc/group\nRUN find / -xdev > /list; date > /date\n")
    found = repro(guest, code=1)
    assert [step["same"] for step in found["steps"]] == [True, False]
    kinds = {each["path"]: each["reasons"][0]["kind"] for each in found["steps"][1]["files"]}
    assert kinds == {"/date": "time", "/list": "order"}
    assert "the date, by 400 days" in found["steps"][1]["varied"]
    guest.assert_whole()
