"""Two builds side by side: what they were asked for, and each step of the one beside its like of the other. Pure."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from imgbuild.hints import Iterator, Sequence
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class StepPair:
    """A step of each build; None where the other one has none like it. `what`: "same" (the same key), "key" (the same instruction,
    another key), "text" (another instruction in its place), "added", "removed"."""

    first: StepRecord | None
    second: StepRecord | None
    what: str


@dataclass(frozen=True, slots=True)
class Change:
    """A fact of the builds that differs: what it is called, and its value in each, "" where it has none."""

    name: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs, and the steps: those of the second build in their order, with what was removed in its place."""

    changes: tuple[Change, ...]
    steps: tuple[StepPair, ...]


def compare_builds(first: BuildRecord, second: BuildRecord) -> Comparison:
    """How the second build differs from the first one."""
    changes = [Change(name, one, two) for name, one, two in _facts(first, second) if one != two]
    return Comparison(tuple(changes), tuple(_pairs(first.steps, second.steps)))


def _facts(first: BuildRecord, second: BuildRecord) -> Iterator[tuple[str, str, str]]:
    for name in ("status", "buildfile", "context", "target", "bake_target", "platforms", "names", "secrets", "ssh", "digest", "version"):
        yield name, _shown(getattr(first, name)), _shown(getattr(second, name))
    for kind, one, two in (("option", first.options, second.options), ("arg", first.args, second.args)):
        for name in sorted({*one, *two}):
            yield f"{kind} {name}", _shown(one.get(name)), _shown(two.get(name))
    bases = [{base.get("name", ""): base.get("digest", "") for base in build.bases} for build in (first, second)]
    for name in sorted({*bases[0], *bases[1]}):
        yield f"base {name}", bases[0].get(name, ""), bases[1].get(name, "")


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _pairs(first: Sequence[StepRecord], second: Sequence[StepRecord]) -> Iterator[StepPair]:
    """Stage by stage, in the order that the second build has them."""
    for place in dict.fromkeys((step.platform, step.stage) for step in (*second, *first)):
        one, two = ([step for step in _in_place(steps) if (step.platform, step.stage) == place] for steps in (first, second))
        yield from _aligned(one, two)


def _in_place(steps: Sequence[StepRecord]) -> list[StepRecord]:
    return sorted(steps, key=lambda step: step.position)


def _aligned(one: Sequence[StepRecord], two: Sequence[StepRecord]) -> Iterator[StepPair]:
    matcher = SequenceMatcher(None, [step.text for step in one], [step.text for step in two], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        both = min(i2 - i1, j2 - j1)
        for before, after in zip(one[i1 : i1 + both], two[j1 : j1 + both], strict=True):
            same = "same" if before.key == after.key else "key"
            yield StepPair(before, after, same if tag == "equal" else "text")
        yield from (StepPair(step, None, "removed") for step in one[i1 + both : i2])
        yield from (StepPair(None, step, "added") for step in two[j1 + both : j2])
