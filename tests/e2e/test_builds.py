"""Builds that are over, as `imgbuild builds` tells of them."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from typing import Any

import pytest

from .harness import PATIENCE, Bench

TEXT = "FROM busybox AS a\nRUN echo out; echo err >&2; echo > /x\nFROM busybox\nCOPY --from=a /x /y\nRUN echo last\n"
SECRET = "a-secret-of-some-length"


def _show(bench: Bench, name: str = "last") -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(bench.run("builds", "show", name, "--format", "json").out)
    return shown


def _read_to(process: subprocess.Popen[bytes], words: bytes) -> None:
    """Read on to the line with these words."""
    assert process.stderr is not None
    assert any(words in line for line in process.stderr)


def _ids(bench: Bench, *options: str) -> list[str]:
    return bench.run("builds", "ls", "-q", *options).out.split()


def test_every_build_is_listed(bench: Bench) -> None:
    before = len(_ids(bench))
    bench.build(TEXT, "-t", "one")
    bench.build(TEXT, "-t", "two", "--build-arg", "A=1")
    bench.build("FROM busybox\nRUN exit 3\n", "-t", "three", code=1)
    bench.build("FROM busybox\nRUNN x\n", code=10)
    listed = json.loads(bench.run("builds", "ls", "--format", "json").out)
    assert [(build["status"], build.get("names"), build["cached"], build["performed"]) for build in listed[: -before or None]] == [
        ("failed", ["x:latest"], 0, 0),
        ("failed", ["x:latest", "three:latest"], 0, 0),
        ("done", ["x:latest", "two:latest"], 3, 0),
        ("done", ["x:latest", "one:latest"], 0, 3),
    ]
    assert _ids(bench, "--status", "failed") == [listed[0]["id"], listed[1]["id"]]
    assert _ids(bench, "-n", "2") == [listed[0]["id"], listed[1]["id"]]
    head, first, *_ = bench.run("builds", "ls").out.splitlines()
    assert head.split() == ["BUILD", "STATUS", "NAME", "STEPS", "STARTED", "TOOK"]
    assert first.split()[:2] == [listed[0]["id"], "failed"]


def test_a_build_is_shown_with_what_it_was_asked_for_and_its_steps(bench: Bench) -> None:
    bench.build(TEXT, "-t", "x", "--target", "a", "--no-cache", "--label", "a=b", "--build-arg", "NAME=value")
    performed = _show(bench)
    assert performed["buildfile"] == str((bench.context / "Buildfile").resolve())
    assert performed["context"] == str(bench.context.resolve())
    assert (performed["target"], performed["names"], performed["args"]) == ("a", ["x:latest"], {"NAME": "value"})
    assert performed["options"] == {"no_cache": True, "labels": ["a=b"]}
    assert performed["bases"][0]["name"] == "busybox:latest"
    assert performed["digest"].startswith("sha256:")
    bench.build(TEXT, "-t", "x")
    one, two, three = _show(bench)["steps"]
    assert (one["outcome"], one["build"], one["log"]) == ("cached", performed["id"], f"{performed['id']}/1")
    assert (two["name"], two["outcome"], two["reads"]) == ("[stage-1 1/2] COPY --from=a /x /y", "done", [1])
    assert (three["stage"], three["position"], three["line"], three["parent"]) == ("stage-1", 2, 5, 2)
    assert three["key"].startswith("sha256:")
    assert three["layer"]["entries"] == 0
    assert three["usage"]["wall_seconds"] > 0
    assert two["layer"]["uncompressed"] > two["layer"]["size"] > 0
    text = bench.run("builds", "show").out
    assert "Critical path: #1 -> #2 -> #3" in text
    assert f"cached ({performed['id'][:8]})" in text


def test_builds_by_name(bench: Bench) -> None:
    for name in "ab":
        bench.build(TEXT, "-t", name)
    last, before, *_ = _ids(bench)
    assert _show(bench)["id"] == _show(bench, last[:10])["id"] == last
    assert _show(bench, "^1")["id"] == _show(bench, "last~1")["id"] == before


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "nonesuch"], 13, "there is no build nonesuch"),
        (["show", "last~9999"], 13, "there is no build last~9999"),
        (["log", "^9999"], 13, "there is no build ^9999"),
        (["show", ""], 13, "there is no build"),
        (["rm", "nonesuch"], 13, "there is no build nonesuch"),
        (["rm"], 2, "name builds, or say --all"),
        (["rm", "--all", "last"], 2, "--all needs no names"),
        (["compare", "nonesuch", "last"], 13, "there is no build nonesuch"),
        (["log", "--step", "99"], 13, "has no step 99"),
        (["log", "--step", "0"], 2, "0 is not in the range"),
        (["log", "--raw", "--format", "json"], 2, "--raw and --format=json contradict each other"),
        (["show", "^" + 5000 * "9"], 13, "there is no build"),
    ],
)
def test_refused(shared: Bench, arguments: list[str], code: int, words: str) -> None:
    assert words in shared.run("builds", *arguments, code=code).err


def test_a_log_is_whole(bench: Bench) -> None:
    lines = 40_000
    bench.build(f"FROM busybox\nRUN seq {lines}; printf 'no end' >&2\n")
    numbers = [str(number) for number in range(1, lines + 1)]
    text = bench.run("builds", "log").out.splitlines()
    assert text[0] == f"#1 [1/1] RUN seq {lines}; printf 'no end' >&2"
    assert text[1:-2] == [f"#1 | {number}" for number in numbers]
    assert text[-2] == "#1 | no end"
    assert text[-1].startswith("#1 DONE ")
    raw = bench.run("builds", "log", "--step", "1", "--raw")
    assert (raw.out.split(), raw.err) == (numbers, "no end")
    events = [json.loads(line) for line in bench.run("builds", "log", "--format", "json").out.splitlines()]
    assert "".join(event["data"] for event in events if event.get("stream") == 1).split() == numbers
    assert (events[0]["event"], events[-1]["event"], events[-1]["outcome"]) == ("StepStarted", "StepFinished", "done")


def test_logs_of_cached_steps_are_replayed_on_request(bench: Bench) -> None:
    bench.build(TEXT)
    quiet = bench.build(TEXT)
    assert quiet.output == []
    again = bench.build(TEXT, "--replay-logs")
    assert set(again.steps.values()) == {"CACHED"}
    assert sorted(again.output) == ["err", "last", "out"]
    assert "| out" not in bench.run("builds", "log").out
    assert "#1 | out" in bench.run("builds", "log", "--cached").out
    bench.run("builds", "rm", "--all")
    assert bench.build(TEXT, "--replay-logs").output == []
    assert "its log is no longer kept" in bench.run("builds", "log", "--cached").out


def test_a_log_within_its_bound(bench: Bench) -> None:
    settings = bench.place / "settings.yaml"
    settings.write_text("history: {log: 20k}\n")
    bench.run("--config", settings, "build", "-f", "-", bench.context, stdin=b"FROM busybox\nRUN seq 20000\n")
    text = bench.run("builds", "log", "--step", "1", "--raw")
    assert text.out.startswith("1\n2\n")
    assert text.out.endswith("\n19999\n20000\n")
    assert "bytes of output are left out here" in text.err
    assert len(text.out) < 25_000


def test_a_secret_is_in_no_record_and_no_log(bench: Bench) -> None:
    mount = "--mount=type=secret,id=k,env=K"
    text = f"FROM busybox\nRUN {mount} echo \"is $K\"; printf %s $K | cut -c1-9; printf '%s' $K\nRUN {mount} echo $K; exit 1\n"
    done = bench.build(text, "--secret", "id=k,env=K", environ={"K": SECRET}, code=1)
    assert done.code == 1
    bench.run("builds", "ls")
    shown = bench.run("builds", "show").out + bench.run("builds", "show", "--format", "json").out
    log = bench.run("builds", "log").out
    assert SECRET not in shown + log
    assert log.splitlines()[1:4] == ["#1 | is ***", f"#1 | {SECRET[:9]}", "#1 | ***"]
    for path in bench.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SECRET.encode() not in path.read_bytes(), path
    with sqlite3.connect(bench.root / "index.db") as connection:
        assert not any(SECRET in line for line in connection.iterdump())


def test_no_password_of_a_context_is_recorded(bench: Bench) -> None:
    bench.build("FROM busybox\n", "--build-context", f"lib=https://ann:{SECRET}@files.invalid/lib.tar?token={SECRET}")
    shown = bench.run("builds", "show").out
    assert "lib=https://files.invalid/lib.tar" in shown
    assert SECRET not in shown + bench.run("builds", "show", "--format", "json").out


def test_no_password_of_a_proxy_is_kept(bench: Bench) -> None:
    text = "FROM busybox\nRUN env; echo $HTTPS_PROXY; exit 3\n"
    bench.build(text, "--build-arg", f"HTTPS_PROXY=http://ann:{SECRET}@proxy.invalid:3128", code=1)
    assert "HTTPS_PROXY=http://ann:***@proxy.invalid:3128" in bench.run("builds", "log").out
    for path in bench.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_failure_is_recorded(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo fine\nRUN echo says why; exit 3\nRUN true\n", code=1)
    shown = _show(bench)
    assert shown["status"] == "failed"
    assert shown["error"]["message"] == "the command ended with exit code 3"
    assert (shown["error"]["line"], shown["error"]["exit_code"], shown["error"]["detail"]) == (3, 1, "says why")
    assert [step["outcome"] for step in shown["steps"]] == ["done", "failed"]
    assert shown["steps"][1]["key"].startswith("sha256:")
    text = bench.run("builds", "show").out
    assert "Buildfile:3: the command ended with exit code 3" in text
    assert "#2 | says why" in bench.run("builds", "log", "--step", "2").out


def test_what_steps_cost(bench: Bench) -> None:
    write = "head -c 8m /dev/zero > /f; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    bench.build(f"FROM busybox\nRUN --network=none {write}\nRUN --memory=16m head -c 200m /dev/zero | tail\n", code=None)
    one, two = _show(bench)["steps"]
    usage, layer = one["usage"], one["layer"]
    assert usage["cpu_user"] > 0
    assert usage["wall_seconds"] > 0
    assert usage["peak_memory"] > 8 << 20
    assert usage["bytes_written"] >= 0
    assert (usage["network_received"], usage["network_sent"]) == (0, 0)
    assert layer["uncompressed"] > 8 << 20 > layer["size"]
    assert layer["entries"] >= 1
    assert one["capture"] > 0
    if "usage" in two and "oom_kills" in two["usage"]:  # where there are control groups
        assert two["usage"]["oom_kills"] > 0
        assert "killed for memory" in bench.run("builds", "show").out
    assert "network_received" not in two.get("usage", {})


def test_steps_that_do_not_fit_into_memory_together_wait_for_each_other(bench: Bench) -> None:
    cache = "--mount=type=cache,id=meet,target=/meet"
    hold = "head -c 64m /dev/zero | tail > /dev/null; while [ ! -e /meet/go ]; do usleep 1000; done; true"
    stages = "".join(f"FROM busybox AS {name}\nRUN {cache} {hold}; echo {name} > /f\n" for name in "ab")
    text = f"{stages}FROM busybox\nCOPY --from=a /f /a\nCOPY --from=b /f /b\n"
    bench.build(f"FROM busybox\nRUN {cache} touch /meet/go\n")
    bench.build(text)
    (go,) = bench.root.glob("cache/*/**/go")
    go.unlink()
    settings = bench.place / "settings.yaml"
    settings.write_text("memory: 100m\n")
    bench.write({"Buildfile": text})
    with bench.started("--config", settings, "build", "--progress=plain", "--no-cache", ".") as process:
        assert process.stderr is not None
        why = b""
        for line in process.stderr:
            if b" waiting: " in line:
                why = line
                go.touch()
        assert process.wait(PATIENCE) == 0
    assert b"before, it held " in why
    assert b"of the 100.0 MiB that there are may be needed by [" in why
    shown = _show(bench)
    assert sum(step.get("waited", 0) > 0 for step in shown["steps"]) == 1
    assert shown["timing"]["waited_seconds"] > 0
    assert "for memory" in bench.run("builds", "show").out


def test_warnings_are_recorded(bench: Bench) -> None:
    bench.build("FROM busybox as a\nRUN true\n", "--build-arg", "NONE=1")
    shown = _show(bench)
    assert [(each["rule"], each["line"]) for each in shown["warnings"]] == [("FromAsCasing", 1)]
    assert shown["notices"] == ["no ARG declares what --build-arg gives: NONE"]
    assert "FromAsCasing" in bench.run("builds", "show").out


def test_a_build_that_waits_for_another_one_has_a_record(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo begun; sleep 1000\n"})
    with bench.started("build", "--progress=plain", ".") as first:
        _read_to(first, b"| begun")
        with bench.started("build", "-t", "second", ".") as second:
            while "second:latest" not in bench.run("builds", "ls").out:
                assert second.poll() is None
            assert _show(bench)["status"] == "running"
            second.kill()
            second.wait(PATIENCE)
        assert _show(bench)["status"] == "interrupted"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, "canceled"), (signal.SIGTERM, "canceled"), (signal.SIGKILL, "interrupted")])
def test_a_build_that_was_ended(bench: Bench, number: signal.Signals, status: str) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo quick\nRUN echo begun; sleep 1000\n"})
    with bench.started("build", "--progress=plain", ".") as process:
        _read_to(process, b"| begun")
        running = _show(bench)
        assert running["status"] == "running"
        assert [step["outcome"] for step in running["steps"]] == ["done", "running"]
        refused = bench.run("builds", "rm", "last", code=14)
        assert "is running" in refused.err
        assert "#2 | begun" in bench.run("builds", "log").out
        process.send_signal(number)
        process.wait(PATIENCE)
    shown = _show(bench)
    assert (shown["id"], shown["status"]) == (running["id"], status)
    assert [step["outcome"] for step in shown["steps"]] == ["done", status]
    assert "#2 | begun" in bench.run("builds", "log").out
    assert "MISS: it was not finished last time" in bench.run("plan").out
    assert shown["ended"] <= time.time()
    _, ran = shown["steps"]
    assert 0 < ran["started"] <= ran["started"] + ran["seconds"] <= shown["ended"] - shown["started"] + 0.001
    (listed,) = bench.run("builds", "ls", "-n", "1").out.splitlines()[1:]
    assert ("ago   at least " in listed) == (status == "interrupted")


def test_a_buildfile_whose_name_is_no_text(bench: Bench) -> None:
    place = bench.place / os.fsdecode(b"\xff\xfe")
    place.mkdir()
    (place / "Buildfile").write_text("FROM busybox\nRUN echo 1\n")
    first = bench.run("build", "--progress=plain", place)
    assert "first build" in first.misses["RUN echo 1"]
    assert "\\xff" in bench.run("builds", "ls").out or "?" in bench.run("builds", "ls").out
    assert _show(bench)["status"] == "done"
    (place / "Buildfile").write_text("FROM busybox\nRUN echo 2\n")
    assert "instruction changed" in bench.run("build", "--progress=plain", place).misses["RUN echo 2"]


def test_targets_of_a_bake(bench: Bench) -> None:
    bench.write({
        "Buildfile": "FROM busybox AS a\nRUN echo a\nFROM busybox AS b\nRUN echo b\n",
        "imgbuild.yaml": "groups: {default: [a, b]}\ntargets: {a: {target: a, tags: [a]}, b: {target: b, tags: [b]}}\n",
    })
    bench.run("bake")
    one, two = json.loads(bench.run("builds", "ls", "-n", "2", "--format", "json").out)
    assert one["bake"]["id"] == two["bake"]["id"]
    assert one["id"] != two["id"]
    assert {build["bake"]["target"]: build["names"] for build in (one, two)} == {"a": ["a:latest"], "b": ["b:latest"]}
    again = bench.run("bake", "--replay-logs", "--progress=plain")
    assert sorted(again.output) == ["a", "b"]
    assert "a: a:latest" in bench.run("builds", "ls").out


def test_steps_of_a_bake_have_the_number_that_it_showed_beside_their_own(bench: Bench) -> None:
    stages = "".join(f"FROM busybox AS {name}\nRUN echo {name}1\nRUN echo {name}2\n" for name in "ab")
    bench.write({"Buildfile": stages, "imgbuild.yaml": "groups: {default: [a, b]}\ntargets: {a: {target: a}, b: {target: b}}\n"})
    done = bench.run("bake", "--progress=plain")
    lines = [line.partition(" ") for line in done.err.splitlines() if line.startswith("#")]
    shown = {rest.rpartition("RUN echo ")[2]: number for number, _, rest in lines if rest.startswith("[")}
    assert sorted(shown.values()) == ["#1", "#2", "#3", "#4"]
    for build in _ids(bench, "-n", "2"):
        steps = _show(bench, build)["steps"]
        assert [step["number"] for step in steps] == [1, 2]
        for step in steps:
            label = f"#{step['number']} ({shown[step['name'].rpartition('RUN echo ')[2]]} of the bake)"
            assert f"#{step['shown']} of" in label
            for command in (("builds", "show"), ("builds", "log"), ("explain",)):
                (line,) = [line for line in bench.run(*command, build).out.splitlines() if line.startswith(label)]
                assert step["name"] in line
    bench.build("FROM busybox\nRUN echo 1\n")
    assert "of the bake" not in bench.run("builds", "show").out


def test_two_builds_side_by_side(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo 1\nRUN echo 2\nRUN echo 3\n", "-t", "x")
    bench.build("FROM busybox\nRUN echo 1\nRUN echo 4\nRUN echo 3\nRUN echo 5\n", "-t", "x", "--label", "a=b")
    found = json.loads(bench.run("builds", "compare", "^1", "last", "--format", "json").out)
    assert [pair["what"] for pair in found["steps"]] == ["same", "text", "key", "added"]
    changed = {change["name"]: (change["first"], change["second"]) for change in found["changes"]}
    assert changed["option labels"] == ("", "a=b")
    assert "digest" in changed
    lines = bench.run("builds", "compare", "^1").out.splitlines()
    assert [line.split()[-1] for line in lines if "RUN echo 5" in line] == ["B"]
    assert any("cached" in line and "done" in line and "RUN echo 1" in line for line in lines)


def test_what_is_removed_and_pruned(bench: Bench) -> None:
    bench.build(TEXT)
    bench.build("FROM busybox\nRUN echo other; exit 1\n", code=1)
    failed, done, *_ = _ids(bench)
    assert bench.run("builds", "rm", failed[:8]).out.split() == [failed]
    assert failed not in _ids(bench)
    assert bench.build(TEXT, "--replay-logs").output != []
    settings = bench.place / "settings.yaml"
    settings.write_text("history: {age: 1ms}\n")
    bench.run("--config", settings, "prune")
    assert done in _ids(bench)  # its steps are in the cache, and their logs with it
    bench.run("--config", settings, "prune", "--all")
    assert _ids(bench) == []
    assert [path.name for path in (bench.root / "history").iterdir() if path.is_dir()] == []


def test_a_store_of_before_there_was_a_history(bench: Bench) -> None:
    bench.build(TEXT, "-t", "x")
    with sqlite3.connect(bench.root / "index.db") as connection:
        connection.execute("DROP TABLE IF EXISTS history")
        connection.execute("INSERT INTO builds VALUES('0123456789abcdef', 1.0, 2.0, '{\"digest\": \"sha256:1\", \"cached\": 2}')")
        connection.execute("UPDATE steps SET usage = json_remove(usage, '$.build', '$.log', '$.layer', '$.capture')")
    for path in (bench.root / "history").iterdir():
        bench_remove(path)
    (bench.root / "history").rmdir()
    done = bench.build(TEXT, "-t", "x", "--replay-logs")
    assert set(done.steps.values()) == {"CACHED"}
    assert len(_ids(bench)) == 2
    assert _show(bench, "0123")["digest"] == "sha256:1"
    assert "its steps are not known: an older imgbuild did not record them" in bench.run("builds", "show", "0123").out
    for command in (
        ("builds", "log", "0123"), ("builds", "compare", "0123"), ("explain", "0123"), ("explain", "0123", "1"),
        ("diff", "build:0123/1", "busybox"),
    ):  # fmt: skip
        assert "an older imgbuild did not record them" in bench.run(*command, code=13).err, command
    assert "x:latest" in bench.run("images").out or "x" in bench.run("images").out


def bench_remove(path: Any) -> None:
    if path.is_dir():
        for child in path.iterdir():
            child.unlink()
        path.rmdir()
    else:
        path.unlink()
