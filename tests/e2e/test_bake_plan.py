"""`imgbuild bake --plan`: what a bake would do for each target, and it does."""

from __future__ import annotations

import json

from imgbuild.engine.machine import this_platform

from .harness import Bench

THIS = this_platform().architecture

TARGETS = """
groups: {default: [app, docs]}
targets:
  app: {target: app, args: {V: "1"}}
  docs:
    contexts: {made: "target:app"}
    dockerfile-inline: |
      FROM made
      COPY --from=made /app /copied
      RUN cat /copied $X
"""
FILE = """FROM busybox AS app
ARG V
COPY src /app
RUN echo $V
ENV X=/etc/passwd
"""


def _plan(bench: Bench, *words: str, code: int = 0) -> dict[str, dict[str, object]]:
    found = json.loads(bench.run("bake", "--plan", "--format=json", *words, code=code).out)["targets"]
    assert isinstance(found, dict)
    return found


def _outcomes(plan: dict[str, object]) -> list[object]:
    steps = plan["steps"]
    assert isinstance(steps, list)
    return [step["outcome"] for step in steps]


def test_it_says_what_the_bake_does_then(bench: Bench) -> None:
    bench.write({"Buildfile": FILE, "imgbuild.yaml": TARGETS, "src": "1"})
    before = sorted(path.name for path in (bench.root / "blobs" / "sha256").iterdir())
    said = bench.run("bake", "--plan", "--exit-code", code=3).out
    assert "target app:\n#1 [app 1/2] COPY src /app" in said
    assert said.endswith("target docs:\nUNKNOWN until app was built\n")
    assert sorted(path.name for path in (bench.root / "blobs" / "sha256").iterdir()) == before
    assert "docs" not in bench.run("builds", "ls").out
    bench.run("bake")
    blobs = sorted(path.name for path in (bench.root / "blobs" / "sha256").iterdir())
    plans = _plan(bench, "--exit-code")
    assert {name: _outcomes(plan) for name, plan in plans.items()} == {"app": ["hit", "hit"], "docs": ["hit", "hit"]}
    assert sorted(path.name for path in (bench.root / "blobs" / "sha256").iterdir()) == blobs
    assert "DONE" not in bench.run("bake").err
    # What only the config of the one says is an input of the other.
    bench.write({"Buildfile": FILE.replace("/etc/passwd", "/etc/group")})
    plans = _plan(bench, "--exit-code", code=3)
    assert _outcomes(plans["docs"]) == ["hit", "miss"]
    done = bench.run("bake")
    ended = [line.split()[1] for line in done.err.splitlines() if line.startswith("#")]
    assert ended.count("DONE") == 1
    bench.write({"src": "2"})
    plans = _plan(bench)
    assert (_outcomes(plans["app"])[0], plans["docs"]) == ("miss", {"until": ["app"]})


def test_the_targets_that_are_named(bench: Bench) -> None:
    bench.write({"Buildfile": FILE, "imgbuild.yaml": TARGETS, "src": "1"})
    assert list(_plan(bench, "app")) == ["app"]
    assert list(_plan(bench, "docs")) == ["app", "docs"]
    assert bench.run("bake", "--plan", "-q", "--exit-code", code=3).out == ""
    bench.run("bake")
    assert _outcomes(_plan(bench, "app", "--set", "app.args.V=2")["app"])[1] == "miss"
    assert _outcomes(_plan(bench, "--no-cache")["app"]) == ["miss", "miss"]


def test_several_platforms(bench: Bench) -> None:
    other = "arm64" if THIS == "amd64" else "amd64"
    text = TARGETS.replace("target: app,", f"target: app, platforms: [linux/{THIS}, linux/{other}],")
    bench.write({"Buildfile": "FROM scratch AS app\nARG V\nCOPY src /app\n", "src": "1"})
    bench.write({"imgbuild.yaml": text.replace("      RUN cat /copied $X\n", "")})
    bench.run("bake")
    plans = _plan(bench, "--exit-code")
    assert set(_outcomes(plans["docs"])) == {"hit"}


def test_refused(bench: Bench) -> None:
    bench.write({"Buildfile": FILE, "imgbuild.yaml": TARGETS})
    assert "'src' not found" in bench.run("bake", "--plan", code=12).err
    assert "add --plan" in bench.run("bake", "--exit-code", code=2).err
    assert "add --plan" in bench.run("bake", "--format", "json", code=2).err
    assert "it is text or json" in bench.run("bake", "--plan", "--format", "xml", code=2).err
    assert "nothing" in bench.run("bake", "--plan", "nothing", code=None).err
