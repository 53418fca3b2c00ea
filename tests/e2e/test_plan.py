"""What a build would do, without doing it, and that it then does so."""

from __future__ import annotations

import json
import os
from typing import Any

from .harness import Bench

TEXT = """FROM busybox AS lib
COPY lib /lib
RUN cat /lib/a > /out
FROM busybox
ARG V=1
WORKDIR /src
COPY src /src
RUN echo $V > /v
COPY --from=lib /out /out
"""
FILES = {"lib/a": "a", "src/main": "main"}


def planned(bench: Bench, text: str | None = None, *options: str, code: int = 0) -> dict[str, Any]:
    if text is not None:
        bench.write({"Buildfile": text})
    found = json.loads(bench.run("plan", "--format=json", *options, bench.context, code=code).out)
    assert isinstance(found, dict)
    return found


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {step["name"].partition("] ")[2]: step["outcome"] for step in found["steps"]}


def assert_agrees(bench: Bench, text: str, *options: str) -> dict[str, str]:
    """Plan, then build: what was said to be a hit or a miss is."""
    said = outcomes(planned(bench, text, *options))
    steps = bench.build(text, *options).steps
    assert said.keys() == steps.keys()
    for name, outcome in said.items():
        assert outcome == "unknown" or steps[name] == {"hit": "CACHED", "miss": "DONE"}[outcome], name
    return said


def test_it_says_what_the_build_does_then(bench: Bench) -> None:
    bench.write(FILES)
    assert "hit" not in assert_agrees(bench, TEXT).values()
    assert set(assert_agrees(bench, TEXT).values()) == {"hit"}
    said = assert_agrees(bench, TEXT, "--build-arg", "V=2")
    assert said == {
        "COPY lib /lib": "hit", "RUN cat /lib/a > /out": "hit", "WORKDIR /src": "hit", "COPY src /src": "hit",
        "RUN echo $V > /v": "miss", "COPY --from=lib /out /out": "miss",
    }  # fmt: skip
    bench.write({"lib/a": "b"})
    said = assert_agrees(bench, TEXT)
    assert said["COPY lib /lib"] == said["RUN cat /lib/a > /out"] == "miss"
    assert said["COPY --from=lib /out /out"] == "unknown"
    assert said["RUN echo $V > /v"] == "hit"
    bench.build(TEXT)
    said = assert_agrees(bench, TEXT, "--no-cache")
    assert "hit" not in said.values()
    assert set(assert_agrees(bench, TEXT, "--no-cache-filter", "lib").values()) >= {"miss", "hit"}


def test_without_the_cache_all_is_performed(bench: Bench) -> None:
    """What reads a stage has no key before that has run, and yet it is sure that nothing is looked up for it."""
    bench.write(FILES)
    bench.build(TEXT)
    found = planned(bench, TEXT, "--no-cache")
    assert set(outcomes(found).values()) == {"miss"}
    assert [step["causes"] for step in found["steps"]] == [[{"kind": "no-cache"}]] * len(found["steps"])
    text = "FROM busybox AS a\nRUN echo 1 > /1\nFROM busybox\nCOPY --from=a /1 /2\nRUN cat /2\nFROM busybox\nCOPY --from=1 /2 /2\n"
    assert list(outcomes(planned(bench, f"{text}COPY --from=a /1 /2\n", "--no-cache")).values()).count("unknown") == 1
    assert set(assert_agrees(bench, text, "--no-cache").values()) == {"miss"}


def test_times_are_of_what_ended_well(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN sleep 0.2; test ! -e /fail\n")
    (step,) = planned(bench, None, "--no-cache")["steps"]
    well = step["seconds"]
    bench.build("FROM busybox\nRUN sleep 1.5; exit 1\n", code=1)
    (step,) = planned(bench)["steps"]
    assert step["causes"] == [{"kind": "failed", "what": "failed"}]
    assert step["seconds"] == well
    bench.run("builds", "rm", "^1")
    (step,) = planned(bench)["steps"]
    assert "seconds" not in step


def test_equal_steps_are_performed_once(bench: Bench) -> None:
    text = "FROM busybox AS a\nRUN echo 1 > /1\nFROM busybox AS b\nRUN echo 1 > /1\nRUN echo 2\nCOPY --from=a /1 /2\n"
    found = planned(bench, text, "--parallel", "1")
    assert [step["outcome"] for step in found["steps"]] == ["miss", "hit", "miss", "unknown"]
    assert found["steps"][1]["same"] == 1
    assert bench.build(text, "--parallel", "1").err.count(" CACHED") == 1


def test_a_layer_that_is_gone_leaves_open_what_stands_on_it(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo same > /same\nRUN cp /same /copy\n"
    bench.build(text)
    digest = bench.manifest()["layers"][-2]["digest"]
    (bench.root / "blobs" / digest.replace(":", "/")).unlink()
    found = planned(bench)
    assert [step["outcome"] for step in found["steps"]] == ["miss", "unknown"]
    assert found["steps"][0]["causes"] == [{"kind": "layer"}]
    assert found["steps"][1]["until"] == [1]


def test_why_and_how_long_and_what_a_change_would_do(bench: Bench) -> None:
    bench.write(FILES)
    bench.build(TEXT)
    bench.write({"src/main": "longer"})
    out = bench.run("plan", bench.context).out.splitlines()
    copy = next(line for line in out if "COPY src /src" in line)
    assert "MISS: src/main changed (content, 4 -> 6 bytes)" in copy
    assert any("RUN echo $V > /v" in line and "MISS: stands on #4, which was not cached" in line for line in out)
    assert any(line.startswith("  lib  (#1)  performs #1, #2, #6") for line in out)
    assert out[-1].startswith("3 cached, 3 to perform, 0 not known yet")
    found = planned(bench)
    sources = {source["source"]: source["performs"] for source in found["sources"]}
    by_name = {step["name"].partition("] ")[2]: step["step"] for step in found["steps"]}
    assert sources == {
        "lib": sorted(by_name[name] for name in ("COPY lib /lib", "RUN cat /lib/a > /out", "COPY --from=lib /out /out")),
        "src": sorted(by_name[name] for name in ("COPY src /src", "RUN echo $V > /v", "COPY --from=lib /out /out")),
    }
    run = next(step for step in found["steps"] if step["name"].endswith("RUN echo $V > /v"))
    assert run["seconds"] > 0
    assert found["seconds"] >= run["seconds"]


def test_nothing_is_run_named_recorded_or_marked_as_used(bench: Bench) -> None:
    bench.write(FILES)
    bench.build(TEXT)
    before = {path: sorted(os.listdir(bench.root / path)) for path in ("blobs/sha256", "snapshots", "history", "tmp")}
    index, builds = (bench.root / "index.json").read_bytes(), (bench.root / "history/journal").read_bytes()
    for options in ([], ["--build-arg", "V=3"], ["--no-cache"], ["-t", "other"]):
        planned(bench, None, *options)
    assert {path: sorted(os.listdir(bench.root / path)) for path in before} == before
    assert (bench.root / "index.json").read_bytes() == index
    assert (bench.root / "history/journal").read_bytes() == builds or b"\n" not in (bench.root / "history/journal").read_bytes().strip()


def test_it_waits_for_no_build(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo begun; sleep 60\n"
    bench.write({"Buildfile": text})
    with bench.started("build", "--progress=plain", bench.context) as process:
        assert process.stderr is not None
        while b"| begun" not in process.stderr.readline():
            pass
        assert outcomes(planned(bench)) == {"RUN echo begun; sleep 60": "miss"}
        process.kill()


def test_exit_codes_for_gates(bench: Bench) -> None:
    bench.write(FILES)
    planned(bench, TEXT, "--exit-code", code=3)
    bench.build(TEXT)
    planned(bench, TEXT, "--exit-code")
    planned(bench, TEXT, "--exit-code", "--build-arg", "V=2", code=3)
    assert bench.run("plan", "--exit-code", "--quiet", bench.context).out == ""


def test_what_a_build_refuses_a_plan_does(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nCOPY missing /\n"})
    done = bench.run("plan", bench.context, code=12)
    assert "Buildfile:2" in done.err
    bench.write({"Buildfile": "FROM busybox\nRUM x\n"})
    bench.run("plan", bench.context, code=10)
    assert "it is text or json" in bench.run("plan", "--format=yaml", bench.context, code=2).err
    assert "--check" in bench.run("plan", "--check", bench.context, code=2).err
