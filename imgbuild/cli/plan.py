"""``imgbuild plan``: what a build would do, with the options of ``imgbuild build``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgbuild.cli.build import build, checked, pull_alone
from imgbuild.cli.buildx import check_buildx_options
from imgbuild.cli.causes import causes_text
from imgbuild.cli.declare import Command, Parameter
from imgbuild.engine.invocation import Invocation
from imgbuild.errors import UsageError
from imgbuild.hints import Iterator
from imgbuild.insight.cause import cause_fields
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.engine.plan import PlannedBuild, PlannedStep

CHANGES = 3
"""The exit code of ``--exit-code`` where something would be performed."""

_OTHERS = ("--call", "--check", "--format", "--debug-on-failure", "--watch")
"""Options of a build that ask for something else in its place."""
_NAMES = 48
_SHORT = 0.05
"""Seconds that are worth a word."""


def _plan(invocation: Invocation, /, **options: Any) -> int:
    """Say what a build of CONTEXT would find in the cache and what it would perform, and why; nothing is run."""
    from imgbuild.cli.progress import make_renderer
    from imgbuild.engine.plan import plan_build
    from imgbuild.engine.request import BuildRequest
    from imgbuild.solve.events import Notice

    gate, format_ = options.pop("exit_code"), options.pop("format") or "text"
    if format_ not in ("text", "json"):
        raise UsageError(f"--format {format_}: it is text or json")
    quiet = options.pop("quiet")
    options.pop("progress")
    notices = check_buildx_options(options)
    request = BuildRequest(**checked(options))
    with make_renderer("none" if quiet else "plain", invocation.environ) as renderer:
        for notice in notices:
            renderer.on_event(Notice(notice))
        planned = plan_build(invocation, request, renderer.on_event)
    if format_ == "json":
        print(json.dumps(plan_fields(planned), indent=2))
    elif not quiet:
        print("\n".join(plan_lines(planned)))
    return CHANGES if gate and planned.count("hit") < len(planned.steps) else 0


def _parameters() -> tuple[Parameter, ...]:
    own = (
        Parameter(("--exit-code",), {"is_flag": True, "help": "Exit with 3 if anything would be performed."}, positional=False),
        Parameter(("--format",), {"metavar": "FORMAT", "help": "text (default) or json."}, positional=False),
    )
    shared = tuple(item for item in build.parameters if not set(item.declarations) & set(_OTHERS))
    return (*own, *shared)


def plan_lines(planned: PlannedBuild) -> Iterator[str]:
    """What would be done, for a person."""
    numbers = [f"#{step.number} {step.step.name}" for step in planned.steps]
    width = min(max(map(len, numbers), default=0), _NAMES)
    for step, name in zip(planned.steps, numbers, strict=True):
        shown = name if len(name) <= width else name[: width - 3] + "..."
        yield f"{shown:<{width}}  {_outcome(step)}"
    if planned.sources:
        yield ""
        yield "A change to"
        sources = [f"  {source.name}  (#{source.number})" for source in planned.sources]
        for source, name in zip(planned.sources, sources, strict=True):
            yield f"{name:<{max(map(len, sources))}}  performs {_numbers(source.steps)}{_about(source.seconds)}"
        yield ""
    hits, misses, unknown = (planned.count(outcome) for outcome in ("hit", "miss", "unknown"))
    yield f"{hits} cached, {misses} to perform, {unknown} not known yet{_about(planned.seconds)}"


def _outcome(step: PlannedStep) -> str:
    if step.outcome == "hit":
        return "CACHED" if step.same is None else f"CACHED once #{step.same} ran"
    if step.outcome == "unknown":
        return f"UNKNOWN until {_numbers(step.until)} ran{_about(step.seconds)}"
    return f"MISS: {causes_text(step.causes, step.more)}{_about(step.seconds)}"


def _about(seconds: float | None) -> str:
    return f" (about {seconds:.1f} s)" if seconds is not None and seconds >= _SHORT else ""


def _numbers(numbers: tuple[int, ...]) -> str:
    """Numbers with ranges for those that follow each other."""
    parts: list[str] = []
    start = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            first, last = numbers[start], numbers[at - 1]
            parts.append(f"#{first}" if first == last else f"#{first}{', ' if last == first + 1 else '-'}#{last}")
            start = at
    return ", ".join(parts)


def plan_fields(planned: PlannedBuild) -> dict[str, object]:
    """The same as JSON."""
    steps = [
        {
            "step": step.number,
            "name": step.step.name,
            "file": step.step.span.source.name,
            "line": step.step.span.line,
            "outcome": step.outcome,
            "key": step.key or None,
            "causes": [cause_fields(cause) for cause in step.causes],
            "more": step.more or None,
            "same": step.same,
            "until": list(step.until),
            "seconds": step.seconds,
        }
        for step in planned.steps
    ]
    sources = [
        {"step": item.number, "source": item.name, "performs": list(item.steps), "seconds": item.seconds} for item in planned.sources
    ]  # fmt: skip
    given = [{key: value for key, value in step.items() if value not in (None, [])} for step in steps]
    counts = {outcome: planned.count(outcome) for outcome in ("hit", "miss", "unknown")}
    return {"steps": given, "sources": sources, **counts, "seconds": planned.seconds}


plan = Command(_plan, "plan", _parameters(), interspersed=True, rewrite=pull_alone)
