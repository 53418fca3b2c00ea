"""``imgbuild explain``: why the steps of a build were performed."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.causes import cause_text, causes_text
from imgbuild.cli.tables import plain
from imgbuild.engine.invocation import Invocation
from imgbuild.hints import Iterator, Mapping
from imgbuild.insight.cause import Cause
from imgbuild.insight.causes import recorded_causes
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.insight.builds import BuildRecord, StepRecord

_WIDE = 100
_SHOWN = (
    "number", "shown", "name", "stage", "position", "file", "line", "key", "outcome", "seconds", "build", "causes", "differs", "more",
    "against",
)  # fmt: skip


@click.command()
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("build", default="last")
@click.argument("step", required=False, metavar="[#STEP]")
@click.pass_obj
def explain(invocation: Invocation, format_: str, build: str, step: str | None) -> None:
    """Say why steps of BUILD (last, last~1, or an id) were performed: the fields in which they differ from the time before."""
    from imgbuild.engine.explain import explained_build

    if step is None and build.startswith("#"):
        build, step = "last", build
    record, steps = explained_build(invocation, build, step)
    if format_ == "json":
        click.echo(json.dumps(_fields(record, steps), indent=2))
        return
    began = datetime.fromtimestamp(record.started).strftime("%Y-%m-%d %H:%M:%S")
    of = f"{record.bake_target} of {record.buildfile}" if record.bake_target else record.buildfile
    click.echo(plain(f"build {record.id} of {of}, {began}: {record.cached} cached, {record.performed} performed"))
    for each in steps:
        click.echo("\n".join(map(plain, _lines(each))))


def _lines(step: StepRecord) -> Iterator[str]:
    yield f"{step.label} {step.name}"
    if step.outcome == "cached":
        yield f"   CACHED from build {step.build}" if step.build else "   CACHED"
        return
    causes = recorded_causes(step.causes)
    if not causes:
        yield f"   {step.outcome.upper()}"
        return
    yield f"   MISS: {causes_text(causes, step.more if not step.differs else 0)}"
    every = recorded_causes(step.differs) or (causes if len(causes) > 1 or _is_cut(causes[0]) else [])
    if every == [Cause("parent")]:
        return
    if step.against and every:
        yield f"   compared with #{step.against.get('number')} of build {step.against.get('build')}:"
    for cause in every:
        yield f"     {_whole(cause)}"
    if step.more and every:
        yield f"     and {step.more} more"


def _is_cut(cause: Cause) -> bool:
    return cause_text(cause) != cause_text(cause, _WIDE)


def _whole(cause: Cause) -> str:
    return "the step before it" if cause.kind == "parent" and not cause.subject else cause_text(cause, _WIDE)


def _fields(record: BuildRecord, steps: tuple[StepRecord, ...]) -> Mapping[str, Any]:
    chosen = {step.number for step in steps}
    raw = [step for step in record.raw.get("steps", ()) if step.get("number") in chosen]
    shown = [{name: step[name] for name in _SHOWN if name in step} for step in raw]
    return {"build": record.id, "buildfile": record.buildfile, "started": record.started, "status": record.status, "steps": shown}
