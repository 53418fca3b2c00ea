"""`--progress=json` is what its documentation says: the table in the docstring of its module."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from registry_mock.client import Mock

from imgbuild.cli import jsonlines

from .harness import Bench, ended


def documented() -> dict[str, tuple[set[str], set[str]]]:
    """The fields that each event has, and those that it may have."""
    assert jsonlines.__doc__ is not None
    table = jsonlines.__doc__.split("=\n", 3)[2].rpartition("\n=")[0]
    found: dict[str, str] = {}
    event = ""
    for line in table.splitlines():
        event = line[:20].strip() or event
        found[event] = f"{found.get(event, '')} {line[20:68].strip()}"
    fields = {}
    for event, text in found.items():
        optional = set(re.findall(r"\w+", " ".join(re.findall(r"\[(.*?)\]", text))))
        fields[event] = (set(re.findall(r"\w+", text)) - optional, optional)
    return fields


def stream(lines: str | bytes | Iterable[bytes]) -> list[dict[str, Any]]:
    """The events, each of which has the fields that it should."""
    fields = documented()
    events = [json.loads(line) for line in (lines.splitlines() if isinstance(lines, str | bytes) else lines)]
    for event in events:
        always, perhaps = fields[event["event"]]
        given = event.keys() - {"event", "time"}
        assert always <= given <= always | perhaps, event
        assert isinstance(event["time"], float)
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"] for event in events]


def test_a_build_from_its_begin_to_its_end(bench: Bench) -> None:
    bench.write({"Buildfile": 'FROM busybox AS Base\nCOPY file /\nRUN echo out; echo err >&2\nCMD ["a"]\n', "file": "1"})
    events = stream(bench.run("build", "--progress=json", "-t", "x", ".").out)
    assert events[0]["version"] == jsonlines.VERSION == 1
    assert kinds(events)[0] == "StreamBegun"
    assert [event["steps"] for event in events if event["event"] == "StepsKnown"] == [2]
    assert kinds(events)[-2:] == ["BuildFinished", "StreamEnded"]
    assert {"Warned", "StepStarted", "StepMissed", "StepOutput", "StepFinished"} <= set(kinds(events))
    assert events[-2]["digest"] == bench.inspect()["Digest"]
    for number in (1, 2):
        own = [event["event"] for event in events if event.get("step") == number and event["event"] != "StepOutput"]
        assert own == ["StepStarted", "StepMissed", "StepFinished"]
    again = stream(bench.run("build", "--progress=json", "-t", "x", ".").out)
    told = stream(bench.run("build", "--progress=json", "-t", "x", ".").out)
    assert [kind for kind in kinds(again) if not kind.startswith("Blob")] == kinds(told)
    assert [event["outcome"] for event in told if event["event"] == "StepFinished"] == ["cached", "cached"]
    bench.write({"file": "22"})
    changed = stream(bench.run("build", "--progress=json", "-t", "x", ".").out)
    (cause,) = next(event["causes"] for event in changed if event["event"] == "StepMissed")
    assert (cause["kind"], cause["subject"], cause["what"]) == ("file", "file", "content")


def test_a_failure(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo why; exit 3\n"})
    events = stream(bench.run("build", "--progress=json", ".", code=1).out)
    failed = events[-2]
    assert (failed["event"], failed["kind"], failed["exit_code"], failed["line"]) == ("BuildFailed", "step-failed", 1, 2)
    assert failed["detail"] == "why"
    assert events[-1]["status"] == "failed"
    bench.write({"Buildfile": "FROM busybox\nCOPI a b\n"})
    events = stream(bench.run("build", "--progress=json", ".", code=10).out)
    assert kinds(events) == ["StreamBegun", "BuildFailed", "StreamEnded"]
    assert events[1]["hint"]


def test_nothing_else_is_written_there(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo 1 > /x\n"})
    for output in ("-", "type=oci", "type=tar,dest=-"):
        done = bench.run("build", "--progress=json", "-o", output, ".", code=2)
        assert done.out == ""
        assert "both write to the standard output" in done.err
    assert kinds(stream(bench.run("build", "--progress=json", "-o", "type=nothing", ".", code=2).out))[1] == "BuildFailed"
    assert stream(bench.run("build", "--progress=json", "-o", "type=tar,dest=x.tar", ".").out)[-1]["status"] == "done"


def test_an_interruption(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo ready; sleep 1000\n"})
    with bench.started("build", "--progress=json", ".") as process:
        assert process.stdout is not None
        while b"ready\\n" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert ended(process)[0] == 130
    assert stream(rest)[-1]["status"] == "canceled"


def test_a_bake(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nARG X\nCOPY file /$X\n", "file": ""})
    bench.write({"imgbuild.yaml": "targets: {one: {args: {X: 1}}, two: {args: {X: 2}}}\ngroups: {default: [one, two]}\n"})
    events = stream(bench.run("bake", "--progress=json").out)
    assert sorted(event["target"] for event in events if event["event"] == "BuildFinished") == ["one", "two"]
    assert [event["steps"] for event in events if event["event"] == "StepsKnown"] == [1, 1]
    assert kinds(events).count("StreamBegun") == kinds(events).count("StreamEnded") == 1


def test_transfers(bench: Bench, tmp_path: Path) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo > /x\n"})
    with Mock(tmp_path / "registry") as mock:
        name = f"{mock.authority}/me/x:1"
        events = stream(bench.run("build", "--progress=json", "-t", name, "--push", ".").out)
        assert {"TransferStarted", "BlobFinished", "TransferFinished"} <= set(kinds(events))
        bench.run("rmi", name)
        assert "TransferStarted" in kinds(stream(bench.run("pull", "--progress=json", name).out))


def test_watching(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nCOPY src /\n", "src/file": "1"})
    with bench.started("build", "--progress=json", "--watch", ".") as process:
        assert process.stdout is not None
        lines: list[bytes] = []
        for text in ("2", ""):
            while not lines or b"ChangesAwaited" not in lines[-1]:
                lines.append(process.stdout.readline())
            if text:
                bench.write({"src/file": text})
                lines.append(process.stdout.readline())
        assert ended(process, signal.SIGINT)[0] == 130
    events = stream(lines)
    assert next(event["changes"] for event in events if event["event"] == "ChangesSeen") == [{"path": "src/file", "what": "changed"}]
    assert kinds(events).count("StreamBegun") == kinds(events).count("StreamEnded") == 2


def test_who_stops_reading(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nCOPY Buildfile /\n"})
    process = subprocess.Popen(bench.command("build", "--progress=json", bench.context), stdout=subprocess.PIPE, env=bench.environ)
    with process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait() == 141


def test_every_event_is_documented() -> None:
    said = {"StreamBegun", "StreamEnded", "BuildFinished", "BuildFailed", "ChangesAwaited", "ChangesSeen", "StepsKnown", "StepStarted"}
    said |= {"StepMissed", "StepWaiting", "StepOutput", "StepFinished", "Warned", "Notice", "TransferStarted", "TransferNotice"}
    said |= {"TransferFinished", "BlobStarted", "BlobAdvanced", "BlobFinished"}
    assert documented().keys() == said
    assert documented()["StepFinished"] == ({"step", "outcome", "seconds"}, {"usage"})
    assert documented()["BuildFailed"][0] == {"kind", "message", "exit_code"}
    assert documented()["ChangesAwaited"] == (set(), set())
