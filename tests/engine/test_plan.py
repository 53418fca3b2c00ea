"""A plan agrees with the build that follows it, whatever was edited between builds: no wrong hit, and no wrong miss.

Everything is in this process, and a RUN is a stand-in that needs no sandbox: what is of interest is what is looked up.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.engine.build import build_image
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.plan import PlannedBuild, plan_build
from imgbuild.engine.request import BuildRequest
from imgbuild.errors import ContextError
from imgbuild.sandbox.spec import Usage
from imgbuild.sandbox.zygote import Zygote
from imgbuild.solve import run as solve_run
from imgbuild.solve.commit import commit
from imgbuild.solve.events import StepFinished, StepStarted
from imgbuild.store.store import Store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    zygote = MagicMock(**{"close.return_value": None, "retire.return_value": None})  # what they give would be an exception swallowed
    monkeypatch.setattr(Zygote, "start", lambda features: nullcontext(zygote))
    monkeypatch.setattr(solve_run, "perform_run", _perform)


def _perform(rooms: Any, job: Any) -> tuple[Any, Usage]:
    """What the command's words ask for: "random" bytes, "nothing", or the same bytes for the same words and variables."""
    words, job_env = job.op.argv[-1], "\n".join(job.op.env)
    with rooms.snapshotter.prepare(job.lowers, "run") as active:
        if words != "nothing":
            content = os.urandom(8) if words == "random" else (words + job_env).encode()
            (active.upper / "out").write_bytes(content)
        return commit(rooms, active, job.op.epoch), Usage()


@dataclass
class Project:
    """A Buildfile in its parts, and the files beside it."""

    root: Path
    files: dict[str, tuple[str, int]] = field(default_factory=lambda: {"a/x": ("1", 0o644), "a/y": ("1", 0o644), "b/z": ("1", 0o644)})
    stages: list[list[str]] = field(
        default_factory=lambda: [
            ["ARG V=0", "COPY a /a/", "RUN same"],
            ["COPY b /b/", "RUN random", "COPY --from=s0 /out /got"],
            ["WORKDIR /w", "COPY a/x /x", "RUN nothing", "COPY --link b /l/", "COPY --from=s1 /b /b"],
        ]
    )
    options: dict[str, Any] = field(default_factory=dict)

    def write(self) -> BuildRequest:
        context = self.root / "context"
        for top in ("a", "b"):
            (context / top).mkdir(parents=True, exist_ok=True)
            for path in (context / top).iterdir():
                path.unlink()
        for name, (content, mode) in self.files.items():
            (context / name).write_text(content)
            (context / name).chmod(mode)
        text = "".join("\n".join([f"FROM scratch AS s{number}", *stage, ""]) for number, stage in enumerate(self.stages))
        (context / "Buildfile").write_text(text)
        return BuildRequest(context=str(context), **self.options)


_PATHS = st.sampled_from(["a/x", "a/y", "a/n", "b/z", "b/n"])
_NEW = st.sampled_from(
    ["RUN same", "RUN other", "RUN random", "RUN nothing", "COPY a /c/", "COPY --link b /k/", "WORKDIR /n", "ENV E=1", "ARG V=5"]
)
_PLACE = st.tuples(st.integers(0, 2), st.integers(0, 4))
_EDITS = st.one_of(
    st.tuples(st.just("content"), _PATHS, st.sampled_from("123")),
    st.tuples(st.just("mode"), _PATHS, st.sampled_from([0o644, 0o755])),
    st.tuples(st.just("remove"), st.sampled_from(["a/y", "a/n", "b/n"])),
    st.tuples(st.just("insert"), _PLACE, _NEW),
    st.tuples(st.just("delete"), _PLACE),
    st.tuples(st.just("swap"), _PLACE),
    st.tuples(st.just("arg"), st.sampled_from(["0", "1", "2"])),
    st.tuples(st.just("no_cache"), st.booleans()),
    st.tuples(st.just("stale"), st.sampled_from(["s0", "s1", "s2"])),
    st.tuples(st.just("target"), st.sampled_from(["s0", "s1", "s2"])),
    st.tuples(st.just("lose layer"), st.integers(0, 20)),
    st.tuples(st.just("lose record"), st.integers(0, 20)),
    st.tuples(st.just("nothing")),
)


def _apply(project: Project, edit: tuple[Any, ...]) -> None:
    kind, *rest = edit
    project.options = {}
    match kind:
        case "content":
            project.files[rest[0]] = (rest[1], project.files.get(rest[0], ("", 0o644))[1])
        case "mode":
            project.files[rest[0]] = (project.files.get(rest[0], ("0", 0))[0], rest[1])
        case "remove":
            project.files.pop(rest[0], None)
        case "insert":
            (stage, at), text = rest
            project.stages[stage].insert(at, text)
        case "delete" | "swap":
            stage, at = rest[0]
            steps = project.stages[stage]
            if at + 1 < len(steps) and (kind == "swap" or len(steps) > 2):
                moved = steps.pop(at)
                if kind == "swap":
                    steps.insert(at + 1, moved)
        case "arg":
            project.options = {"build_args": (f"V={rest[0]}",)}
        case "no_cache":
            project.options = {"no_cache": rest[0]}
        case "stale":
            project.options = {"no_cache_filter": (rest[0],)}
        case "target":
            project.options = {"target": rest[0]}
        case "lose layer" | "lose record":
            _lose(project.root / "store", kind, rest[0])


def _lose(root: Path, kind: str, number: int) -> None:
    with Store.open(root) as store:
        rows = [row for row in store.index.steps() if row.diff_id is not None]
        if rows and kind == "lose record":
            store.index.forget(steps=[rows[number % len(rows)].key])
        elif rows:
            diff_id = rows[number % len(rows)].diff_id
            assert diff_id is not None
            for layer in store.index.layers_of(diff_id):
                store.blobs.path(layer.blob.digest).unlink(missing_ok=True)


def _agree(project: Project, foretold: Counter[str]) -> None:
    request = project.write()
    invocation = Invocation({"PATH": os.environ["PATH"], "HOME": str(project.root)}, root=str(project.root / "store"))
    try:
        planned = plan_build(invocation, request, lambda event: None)
    except ContextError as refused:  # a stage whose files are known lacks what another one copies
        with pytest.raises(ContextError, match=refused.message):
            build_image(invocation, request, lambda event: None)
        return
    names: dict[int, str] = {}
    ended: dict[str, str] = {}

    def note(event: object) -> None:
        if isinstance(event, StepStarted):
            names[event.number] = event.name
        elif isinstance(event, StepFinished):
            ended[names[event.number]] = event.outcome

    try:
        build_image(invocation, request, note)
    except ContextError:  # the same of a stage that was not there yet
        assert any(step.outcome != "hit" for step in planned.steps)
        return
    assert {step.step.name for step in planned.steps} == set(ended)
    for group in _equal(planned):
        # of equal steps, which run side by side, any one may be the first
        said = sorted({"hit": "cached", "miss": "done"}.get(step.outcome, "unknown") for step in group)
        done = sorted(ended[step.step.name] for step in group)
        assert "unknown" in said or said == done, (group, done)
        foretold.update(step.outcome for step in group)


def _equal(planned: PlannedBuild) -> Iterator[list[Any]]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for step in planned.steps:
        groups[step.key or f"unknown {step.number}"].append(step)
    yield from groups.values()


def test_it_agrees_with_the_build_that_follows() -> None:
    foretold: Counter[str] = Counter()

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(_EDITS, min_size=10, max_size=10))
    def agrees(edits: list[tuple[Any, ...]]) -> None:
        with tempfile.TemporaryDirectory() as directory:
            project = Project(Path(directory))
            _agree(project, foretold)
            for edit in edits:
                _apply(project, edit)
                _agree(project, foretold)

    agrees()
    assert min(foretold["hit"], foretold["miss"]) > foretold["unknown"] > 0
