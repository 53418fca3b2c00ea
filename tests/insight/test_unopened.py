"""What is said of files that nobody opens, and when nothing is."""

from __future__ import annotations

from typing import Any

import pytest

from imgbuild.insight.advice import Advice, Past
from imgbuild.insight.builds import BuildRecord, parse_build
from imgbuild.insight.unopened import Unknown, unopened
from imgbuild.values import replace

KEY = "sha256:copy"


def _build(*changed: str, more: int = 0, reads: list[dict[str, Any]] | None = None, **cause: Any) -> BuildRecord:
    causes = [{"kind": "file", "subject": path, **cause} for path in changed]
    on_it = [{"kind": "parent", "subject": "#1"}]
    steps = [
        {"number": 1, "name": "[b 1/3] COPY src /app", "outcome": "done", "causes": causes, "key": KEY, "stage": "b", "more": more},
        {"number": 2, "name": "[b 2/3] RUN make", "outcome": "done", "causes": on_it, "parent": 1, "seconds": 10.0, "stage": "b"},
        {"number": 3, "name": "[b 3/3] TEST try", "outcome": "done", "causes": on_it, "parent": 2, "seconds": 5.0, "test": True},
        *(reads if reads is not None else [{"number": 4, "name": "[2/2] COPY --from=b /out /", "reads": [2], "outcome": "done"}]),
    ]  # fmt: skip
    return parse_build({"id": "b", "status": "done", "steps": steps})


def _record(*rows: tuple[str, bool]) -> dict[str, Any]:
    unopened_ = [[path, 2, 10, listed] for path, listed in rows]
    return {"parts": [{"key": KEY, "source": "src", "target": "/app", "files": 9, "opened": 1, "unopened": unopened_}]}


ALL = _record(("docs", False), ("a/b", False), ("c", False))
OTHER = _record(("docs/one", False), ("a", True), ("d", False))
FROM = {"from": ["/out"]}


def _said(*builds: BuildRecord, image: tuple[str, ...] = (), **opened: dict[str, Any]) -> list[Advice | Unknown]:
    known = {2: ALL, 3: OTHER, 4: FROM, **{int(number[1:]): record for number, record in opened.items()}}
    return list(unopened(Past(builds[0], builds), known, image, {}))


def _paths(found: list[Advice | Unknown]) -> list[str]:
    (advice,) = found
    assert isinstance(advice, Advice)
    return sorted(row["path"] for row in advice.facts["paths"])


MISSED = _build("src/docs/one")


def test_what_is_opened_by_none_of_all() -> None:
    (advice,) = found = _said(MISSED, MISSED)
    assert _paths(found) == ["src/a/b", "src/docs/one"]
    assert isinstance(advice, Advice)
    assert (advice.kind, advice.seconds, advice.most, advice.facts["builds"]) == ("unopened", 20.0, True, 2)
    assert advice.message.endswith(": src/docs/one (2 files, 10 bytes), src/a/b (2 files, 10 bytes)")
    assert advice.evidence[:3] == (
        "of 9 files, 4 with 20 bytes were opened by none", "for changes of these alone, RUNs were performed in 2 builds: 20.0 s",
        "names were listed, which may count: src/a/b",
    )  # fmt: skip


@pytest.mark.parametrize(
    "build",
    [
        _build("src/docs/one", "src/x"),
        _build("src/docs/one", more=1),
        _build("src/docs/one", where="stage x"),
        _build("src/docs"),
        _build(),
    ],
)
def test_what_changed_beside_it_was_a_reason(build: BuildRecord) -> None:
    assert _said(build, build) == []


def test_sources_that_come_to_one_place_are_told_apart() -> None:
    two = [{**ALL["parts"][0], "source": name, "unopened": [["", 2, 10, False]]} for name in ("src", "lib")]
    assert _paths(_said(MISSED, _2={"parts": two}, _3={"parts": two})) == ["lib", "src"]
    assert _paths(_said(MISSED, _2={"parts": two}, _3={"parts": two[:1]})) == ["src"]


def test_what_others_need_is_not_ignored() -> None:
    """The same instruction in another stage may be one that needs it, and a stage that was not built."""
    for name in ("COPY src /app", "RUN --mount=type=bind,target=/x true", "RUN true"):
        (found,) = _said(_build("src/docs/one", reads=[{"number": 4, "name": f"[2/2] {name}", "stage": "last"}]))
        assert isinstance(found, Advice)
        assert " by --exclude or a narrower source, or, if nothing else needs it, by the ignore file: " in found.message


@pytest.mark.parametrize("paths", [["/"], ["/app"], ["/app/docs", "/app/a/b/c"], ["/app/docs/one/two", "/app/a"]])
def test_what_is_copied_out_is_used(paths: list[str]) -> None:
    assert _said(MISSED, MISSED, _4={"from": paths}) == []


def test_what_is_copied_from_beside_it_is_not() -> None:
    assert _paths(_said(MISSED, _4={"from": ["/app/docs/on", "/app/a/b/c"]})) == ["src/docs/one"]


def test_where_anything_is_not_known_nothing_is_said() -> None:
    assert _said(MISSED, image=("b",)) == []
    assert _said(MISSED, _4={}) == []
    mount = _build("src/docs/one", reads=[{"number": 4, "name": "[2/2] RUN --mount=from=b x", "reads": [2], "outcome": "done"}])
    assert _said(mount) == []
    assert _said(MISSED, _2={"parts": [{**ALL["parts"][0], "key": "sha256:other"}]}) == []
    odd = {"key": KEY, "source": "src", "target": "/app", "files": 1, "unopened": [3]}
    for record in ({"parts": 3}, {"parts": [3, {}]}, {"parts": [odd]}):
        assert _said(MISSED, _3=record) == []
    for record, why in (({}, "it was not recorded"), ({"why": "too fast"}, "too fast")):
        (unknown,) = _said(MISSED, _3=record)
        assert isinstance(unknown, Unknown)
        assert (unknown.step.number, unknown.why) == (3, why)


def test_what_can_be_done_about_it_is_in_this_buildfile() -> None:
    def ways(file: str) -> str:
        build = _build("src/docs/one")
        steps = tuple(replace(step, file=file if step.number == 1 else "Buildfile") for step in build.steps)
        (advice,) = _said(replace(build, steps=steps))
        assert isinstance(advice, Advice)
        return advice.message.partition("opened, ")[2].partition(": ")[0]

    assert ways("Buildfile") == "by --exclude or a narrower source, or, if nothing else needs it, by the ignore file"
    assert ways("ONBUILD of base:1") == "if nothing else needs it, by the ignore file"
