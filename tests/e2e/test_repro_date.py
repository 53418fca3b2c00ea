"""``imgbuild repro``: on another date, which the machine's clock knows nothing of."""

from __future__ import annotations

import json
import platform
import signal
import struct
import subprocess
import sys
import time
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from imgbuild.linux import syscalls

from .aftermath import assert_no_groups, assert_nothing_left
from .harness import PATIENCE, Bench, ended, wait_for_line
from .servers import running
from .test_repro import below, kept, read, repro, wait_for_sleep

DATES = {
    "day": "date +%F", "year": "date +%Y", "copyright": 'echo "(c) $(date +%Y) Us"', "month": "date +%B", "weekday": "date +%A",
    "day of the year": "date +%j", "day of the month": "date +%d", "hour": "date +%H", "compact": "date +%Y%m%d",
    "days": "echo $(($(date +%s) / 86400))",
    "local": "date +%d.%m.%Y", "american": "date +%m/%d/%y", "rfc": "date -R", "week": "date +%G-W%V",
    "by a branch": "[ $(date +%Y) -lt 2000 ] || date +%m",
}  # fmt: skip


def step_of(bench: Bench, run: str, *arguments: str, code: int | None = None) -> dict[str, Any]:
    """A RUN that is built, and run again."""
    bench.build(f"FROM busybox\n{run}\n", *arguments)
    (step,) = repro(bench, code=code)["steps"]
    assert isinstance(step, dict)
    return step


def test_each_part_of_a_date_is_named(bench: Bench) -> None:
    commands = "\n".join(f"{command} > '/o/{name}'" for name, command in DATES.items())
    bench.build(f"FROM busybox\nRUN mkdir /o\nRUN <<EOF\n{commands}\nEOF\n")
    before = kept(bench)
    _, step = repro(bench, code=1)["steps"]
    kinds = {each["path"].removeprefix("/o/"): each["reasons"][0]["kind"] for each in step["files"]}
    assert kinds == dict.fromkeys(DATES, "time")
    assert "the date, by 400 days" in step["varied"]
    assert kept(bench) == before
    bench.assert_whole()


def test_a_step_that_depends_on_the_day_alone(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN date +%F > /day; date +%s > /z\nRUN [ $(date +%Y) -lt 2000 ] || echo 1 > /x\n")
    done = bench.run("repro", "#1", code=1)
    first, path, reason, *_ = done.out.splitlines()
    assert first.endswith("DIFFERS")
    assert path == "  ~ /day  (content)"
    assert reason.startswith("      a time: 20")
    assert bench.run("repro", "#2").out.splitlines()[0].endswith("the same again")


def test_a_step_that_fails_on_another_date(bench: Bench) -> None:
    """The day of the build is in the step, as a file that COPY made would be: it fails on each other one."""
    day = time.strftime("%F", time.gmtime())
    step = step_of(bench, f"RUN [ $(date +%F) = {day} ] || {{ echo too late; exit 3; }}", code=1)
    assert [each["problem"] for each in step["failed"]] == ["exit code 3; its last line was: too late"] * 2
    assert step["problem"] == ""
    assert step["runs"][0] == step["runs"][1] == step["stored"]
    assert not step["same"]
    assert "the date: it fails on another one" in step["not_varied"]
    text = bench.run("repro", code=1).out
    assert text.count("  on another date, 20") == 2
    assert "it fails: exit code 3; its last line was: too late\n" in text
    assert "no file differs" not in text


def test_a_step_that_fails_in_another_year_alone(bench: Bench) -> None:
    """As what is fetched is signed for less than that, it is said, and no difference; what is left is compared on a near date."""
    limit = f"$(({int(time.time())} + 20 * 86400))"
    step = step_of(bench, f"RUN [ $(date +%s) -lt {limit} ] || exit 100; echo 1 > /x", code=0)
    assert [each["problem"] for each in step["failed"]] == ["exit code 100"]
    assert step["same"]
    assert "the date, by 1 day" in step["varied"]
    assert "it fails: exit code 100; a day ahead it does not" in bench.run("repro").out
    step = step_of(bench, f"RUN [ $(date +%s) -lt {limit} ] || exit 100; date +%F > /x", code=1)
    assert step["files"][0]["reasons"][0]["kind"] == "time"


def test_a_step_that_fails_by_chance(bench: Bench) -> None:
    """It is not the date with which it fails: what it asks fails for the third who asks, which is the first on another date."""
    asked: list[str] = []

    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(500 if len(asked) == 3 else 200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    with running(Failing) as port:
        step = step_of(bench, f"RUN wget -q -O /x http://127.0.0.1:{port}/ 2> /dev/null || exit 7", code=0)
        assert ([(each["problem"], each["once"]) for each in step["failed"]], len(asked)) == ([("exit code 7", True)], 4)
        assert "the date, by 400 days" in step["varied"]
        asked[:] = asked[:1]
        assert ", it failed once, but not the next time: exit code 7\n" in bench.run("repro").out


def test_limits_of_time_are_held_on_another_date(bench: Bench) -> None:
    step = step_of(bench, f"RUN --timeout=2s [ $(date +%s) -lt {int(time.time()) + 86400} ] || sleep 1000", code=1)
    assert [each["problem"] for each in step["failed"]] == ["a limit of time (timeout)"] * 2
    assert step["runs"][0] == step["runs"][1]


def test_a_daemon_that_is_left_behind(bench: Bench) -> None:
    step = step_of(bench, "RUN (sleep 1000 &); (while true; do date > /dev/null; sleep 1; done &); date +%Y > /x", code=1)
    assert [each["path"] for each in step["files"]] == ["/x"]
    assert step["failed"] == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_on_another_date(bench: Bench, signum: signal.Signals) -> None:
    """It hangs where the date is another one, with processes in the background that ignore all that they can."""
    hang = "trap '' INT TERM HUP; sleep 1000 & sleep 1000"
    bench.build(f'FROM busybox\nRUN [ $(date +%s) -lt {int(time.time()) + 86400} ] || sh -c "{hang}"\n')
    before = kept(bench)
    with bench.started("repro") as process:
        wait_for_line(process, b"running #1")
        wait_for_sleep(process.pid)
        assert b"imgbuild-clock\n" in {read(f"/proc/{each}/comm") for each in below(process.pid)}
        code, _ = ended(process, signum)
    assert code == 128 + signum
    assert_no_groups(process.pid)
    assert kept(bench) == before
    assert_nothing_left(bench)


TRACES = {
    "x86_64": bytes.fromhex("b865000000 31ff 0f05 b83c000000 31ff 0f05".replace(" ", "")),
    "aarch64": struct.pack("<6I", 0xD2800EA8, 0xD2800000, 0xD4000001, 0xD2800BA8, 0xD2800000, 0xD4000001),
}
"""ptrace(PTRACE_TRACEME, ...), exit(0)."""


def _program(code: bytes) -> bytes:
    """An ELF of one segment."""
    machine = {"x86_64": 62, "aarch64": 183}[platform.machine()]
    base, size = 0x400000, 120 + len(code)
    head = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + code


def test_a_step_that_traces_its_processes(bench: Bench) -> None:
    bench.write({"traces": _program(TRACES[platform.machine()])})
    bench.build("FROM busybox\nCOPY --chmod=755 traces /\nRUN /traces && date +%F > /day; hostname > /name\n")
    (step,) = repro(bench, code=1)["steps"]
    assert [each["path"] for each in step["files"]] == ["/name"]
    assert "the date: the step traces processes itself" in step["not_varied"]
    assert step["failed"] == []


def test_a_step_that_fails_where_it_is_traced(bench: Bench) -> None:
    """What moves the date is to be seen, here by the number of filters: then it is not the date with which it fails."""
    seen = "grep Seccomp_filters: /proc/self/status"
    bench.build(f'FROM busybox\nRUN {seen} > /seen\nRUN [ "$({seen})" = "$(cat /seen)" ] || exit 9; date +%F > /day; hostname > /name\n')
    (step,) = repro(bench, "#2", code=1)["steps"]
    assert step["failed"] == []
    assert step["problem"] == ""
    assert "the date: it fails where its processes are traced" in step["not_varied"]
    assert [each["path"] for each in step["files"]] == ["/name"]


def test_without_the_right_to_trace(bench: Bench) -> None:
    """Setuid programs would have no rights, and steps would fail for that."""
    bench.build("FROM busybox\nRUN date +%F > /day; hostname > /name\n")
    command = bench.command("repro", "--format", "json")
    drop = partial(syscalls.prctl, syscalls.PR_CAPBSET_DROP, 19)
    done = subprocess.run(command, capture_output=True, env=bench.environ, timeout=PATIENCE, check=False, preexec_fn=drop)
    assert done.returncode == 1, done.stderr
    (step,) = json.loads(done.stdout)["steps"]
    assert "the date: operation not permitted" in step["not_varied"]
    assert [each["path"] for each in step["files"]] == ["/name"]


REFUSED = """
import errno, sys
from imgbuild.linux import tracing
from imgbuild.cli.main import main
def seize(pid, options):
    raise PermissionError(errno.EPERM, "ptrace")
tracing.seize = seize
main(sys.argv[1:])
"""


def test_tracing_is_not_permitted(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN date > /date; date +%F > /day; cut -d . -f 1 /proc/uptime > /up\nRUN echo 1 > /x\n")
    command = [sys.executable, "-c", REFUSED, "--root", str(bench.root), "repro"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, env=bench.environ, timeout=PATIENCE, check=False)
    assert done.returncode == 1, done.stderr
    step, same = json.loads(done.stdout)["steps"]
    assert {each["path"]: each["reasons"][0]["kind"] for each in step["files"]}["/date"] == "time"
    assert "/day" not in {each["path"] for each in step["files"]}
    assert "the date: operation not permitted" in step["not_varied"]
    assert same["same"]
    said = subprocess.run([*command, "#2"], capture_output=True, text=True, env=bench.environ, timeout=PATIENCE, check=False).stdout
    assert "  but not tried: the date: operation not permitted" in said
    bench.assert_whole()
