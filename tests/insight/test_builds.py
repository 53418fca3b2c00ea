"""Records of builds as values: every field comes back, names mean what they should, and times add up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.errors import NotFoundError, UsageError
from imgbuild.insight.beside import compare_builds
from imgbuild.insight.builds import (
    _FORMS,
    BuildRecord,
    Problem,
    StepLayerRecord,
    StepRecord,
    Usage,
    find_id,
    find_step,
    parse_build,
    parse_summary,
)
from imgbuild.insight.earlier import parse_earlier
from imgbuild.insight.timing import timing
from imgbuild.values import asdict, fields

RAW = {
    "id": "0123", "status": "failed", "started": 5.0, "ended": 7.5, "buildfile": "/Buildfile", "names": ["x:latest"],
    "bake": {"id": "4567", "target": "app"}, "options": {"no_cache": True}, "error": {"message": "no", "line": 3},
    "steps": [
        {
            "number": 3, "stage": "a", "position": 1, "name": "[a 1/1] RUN true", "outcome": "done", "reads": [1, 2], "later": "unknown",
            "layer": {"diff_id": "d", "size": 5, "entries": 2}, "usage": {"cpu_user": 0.5, "peak_memory": 100}, "capture": 0.25,
        }
    ],
}  # fmt: skip


def test_a_record_is_read_as_far_as_it_is_known() -> None:
    build = parse_build(RAW)
    assert (build.id, build.seconds, build.names, build.bake, build.bake_target) == ("0123", 2.5, ("x:latest",), "4567", "app")
    assert build.error == Problem("no", line=3)
    step = build.step(3)
    assert step is not None
    assert (step.text, step.identity, step.reads) == ("RUN true", ("", "a", 1), (1, 2))
    assert step.layer == StepLayerRecord("d", size=5, entries=2)
    assert step.usage == Usage(cpu_user=0.5, peak_memory=100)
    assert build.step(2) is None
    assert (build.count, parse_summary({**RAW, "steps": [], "count": 1}).count) == (1, 1)
    for steps in (None, 5, 1e300, True, "steps", {"number": 1}):
        assert parse_build({"id": "x", "steps": steps}).steps == ()


def test_what_is_of_another_type_was_not_said() -> None:
    bad: Any = {
        "id": "x", "names": ["a", 1, None], "started": float("nan"), "ended": 1e300, "size": True, "options": [],
        "args": {"A": "b", "C": {}},
        "bake": [1], "error": "no", "bases": [{"name": 1, "digest": "d"}, 5], "cached": 1 << 70, "form": "1",
        "steps": [None, {"number": 2, "parent": 2, "reads": [1, 2, 3, "1"], "layer": 5, "usage": {"cpu_user": "1"}, "against": [1]}],
    }  # fmt: skip
    build = parse_build(bad)
    assert (build.names, build.started, build.ended, build.size, build.bake, build.error) == (("a",), 0.0, 0.0, 0, "", None)
    assert (build.options, build.args, build.bases, build.cached, build.form) == ({}, {"A": "b"}, ({"digest": "d"},), 0, 0)
    (step,) = build.steps
    assert (step.parent, step.reads, step.layer, step.usage, step.against) == (None, (1,), None, Usage(), {})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.floats() | st.sampled_from(("", "a", "b")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("target", "digest", "name", "x")), inner, max_size=3),
    max_leaves=4,
)


def _some(names: Sequence[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, _JSON))


_NAMES = ("id", "status", "buildfile", "context", "target", "bake", "bases", "started")
_STEP_NAMES = ("number", "stage", "position", "platform", "name", "key", "outcome", "seconds", "parent", "base", "usage")


@given(_some(_NAMES), _some(_STEP_NAMES))
def test_the_quick_way_reads_the_same(raw: dict[str, Any], step: dict[str, Any]) -> None:
    for record in (RAW, {**RAW, **raw}, {**raw, "steps": [step, None, step]}):
        whole, quick = parse_build(record), parse_earlier(record)
        for name in ("id", "status", "buildfile", "context", "target", "bake_target", "started"):
            assert getattr(whole, name) == getattr(quick, name)
        names = {base.get("digest", ""): base.get("name", "") for base in reversed(whole.bases)}
        assert quick.bases == names and quick.raw is record
        assert len(whole.steps) == len(quick.steps)
        for one, other in zip(whole.steps, quick.steps, strict=True):
            for name in ("number", "stage", "position", "platform", "name", "key", "outcome", "seconds", "base", "text"):
                assert getattr(one, name) == getattr(other, name)
            assert other.stands == (one.parent is not None)
            assert other.wall == (one.usage.wall_seconds if one.usage is not None else None)
        assert quick.step(3) == next((each for each in quick.steps if each.number == 3), None)


def test_all_forms_of_fields_are_read() -> None:
    """A field that is declared with a type that nothing reads would always be empty."""
    own = {"error", "usage", "layer", "steps", "raw"}
    for kind in (BuildRecord, StepRecord, StepLayerRecord, Problem, Usage):
        assert {item.type for item in fields(kind) if item.name not in own} <= set(_FORMS)


@pytest.mark.parametrize(
    ("word", "error"), [("x", UsageError), ("#", UsageError), ("-1", UsageError), ("4", NotFoundError), ("9" * 5000, NotFoundError)]
)
def test_steps_by_number(word: str, error: type[Exception]) -> None:
    build = parse_build(RAW)
    assert find_step(build, "#3") == find_step(build, "3") == build.steps[0]
    with pytest.raises(error):
        find_step(build, word)


def test_what_a_sandbox_says_has_a_field_for_each_of_its_words() -> None:
    from imgbuild.sandbox.spec import Usage as Said

    assert {item.name for item in fields(Said)} <= {item.name for item in fields(Usage)}


@pytest.mark.parametrize(("name", "found"), [("last", "ab3"), ("last~1", "ab2"), ("^2", "c1"), ("c", "c1"), ("ab2", "ab2"), ("^0", "ab3")])
def test_names(name: str, found: str) -> None:
    assert find_id(["ab3", "ab2", "c1"], name) == found


@pytest.mark.parametrize("name", ["ab", "", "^3", "d", "^x", "last~", "~1"])
def test_names_that_mean_nothing(name: str) -> None:
    with pytest.raises(UsageError if name == "ab" else NotFoundError):
        find_id(["ab3", "ab2", "c1"], name)


def _step(number: int, started: float, seconds: float, *needs: int, capture: float | None = None, waited: float = 0.0) -> StepRecord:
    parent, *reads = needs or (None,)
    return StepRecord(
        number, outcome="done", started=started, seconds=seconds, parent=parent, reads=tuple(filter(None, reads)), capture=capture,
        waited=waited,
    )  # fmt: skip


def test_the_critical_path_is_the_longest_chain() -> None:
    steps = [_step(1, 0, 2), _step(2, 0, 1), _step(3, 2, 4, 1), _step(4, 1, 7, 2), _step(5, 8, 1, 3, 4, capture=0.5)]
    found = timing(steps)
    assert [step.number for step in found.path] == [2, 4, 5]
    assert found.path_seconds == 9.5
    assert (found.work, found.parallelism, found.most) == (15, 15 / 9, 2)


def test_a_long_capture_is_on_the_path_and_waiting_is_not() -> None:
    steps = [_step(1, 0, 2, capture=9.0), _step(2, 2, 3, 1), _step(3, 0, 7, waited=5.0)]
    found = timing(steps)
    assert [step.number for step in found.path] == [1]
    assert found.path_seconds == 11
    assert (found.waited, found.work) == (5, 7)
    assert timing([]).path == ()


STEPS = st.lists(st.tuples(st.floats(0, 100), st.lists(st.integers(0, 9), max_size=3)), min_size=1, max_size=10)


@given(drawn=STEPS)
def test_no_path_is_longer_than_all_work_and_none_shorter_than_a_step(drawn: list[tuple[float, list[int]]]) -> None:
    steps: list[StepRecord] = []
    for number, (seconds, others) in enumerate(drawn, 1):
        needs = [1 + other % (number - 1) for other in others] if number > 1 else []
        start = max((steps[other - 1].started + steps[other - 1].seconds for other in needs), default=0.0)
        steps.append(_step(number, start, seconds, *needs))
    found = timing(steps)
    longest = max(step.seconds for step in steps)
    assert longest - 1e-6 <= found.path_seconds <= found.work + 1e-6
    assert found.path_seconds == pytest.approx(max(step.started + step.seconds for step in steps))
    assert 1 <= found.most <= len(steps)
    assert found.parallelism <= found.most + 1e-6


def _build(*texts: str, keys: str = "", **facts: object) -> BuildRecord:
    steps = [
        StepRecord(number, "s", number, f"[{number}/{len(texts)}] {text}", key=keys[number - 1 : number] or text)
        for number, text in enumerate(texts, 1)
    ]
    return BuildRecord(steps=tuple(steps), **facts)  # type: ignore[arg-type]


def test_steps_stand_beside_their_like() -> None:
    one, two = _build("A", "B", "C", "D", keys="1234"), _build("A", "X", "C", "E", "D", keys="12567")
    found = [(pair.what, pair.first and pair.first.text, pair.second and pair.second.text) for pair in compare_builds(one, two).steps]
    assert found == [("same", "A", "A"), ("text", "B", "X"), ("key", "C", "C"), ("added", None, "E"), ("key", "D", "D")]
    gone = compare_builds(one, _build("A", "D", keys="14")).steps
    assert [pair.what for pair in gone] == ["same", "removed", "removed", "same"]


def test_facts_that_differ() -> None:
    one = _build(status="done", args={"A": "1"}, bases=({"name": "b", "digest": "1"},), names=("x",))
    two = _build(status="failed", args={"A": "2", "B": "3"}, bases=({"name": "b", "digest": "2"},), names=("x",))
    assert [(change.name, change.first, change.second) for change in compare_builds(one, two).changes] == [
        ("status", "done", "failed"), ("arg A", "1", "2"), ("arg B", "", "3"), ("base b", "1", "2"),
    ]  # fmt: skip
    assert compare_builds(one, one).changes == ()


@given(st.lists(st.sampled_from("ABCD"), max_size=8), st.lists(st.sampled_from("ABCD"), max_size=8))
def test_every_step_stands_somewhere_once(one: list[str], two: list[str]) -> None:
    pairs = compare_builds(_build(*one), _build(*two)).steps
    assert [pair.first.number for pair in pairs if pair.first] == list(range(1, len(one) + 1))
    assert [pair.second.number for pair in pairs if pair.second] == list(range(1, len(two) + 1))
    assert all(pair.what == "same" for pair in pairs) == (one == two)


def test_values_are_json() -> None:
    build = parse_build(RAW)
    assert json.loads(json.dumps(asdict(build)))["steps"][0]["layer"]["size"] == 5
