"""``imgbuild cache``: whether what the cache would give is what a step makes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.failures import printable
from imgbuild.cli.findings import finding_json, finding_lines, short, what_steps_had
from imgbuild.engine.invocation import Invocation
from imgbuild.errors import UsageError
from imgbuild.hints import Iterator
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.engine.audit import Audited
    from imgbuild.insight.builds import StepRecord

FOUND = 1
_SAMPLE = 20


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cache() -> None:
    """Look at the steps that builds find in the store."""


@cache.command()
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help=f"How many steps, chosen by chance; default: {_SAMPLE}.")
@click.option("--all", "every", is_flag=True, help="All steps.")
@click.option("--seed", type=int, metavar="S", help="The number that chance begins with; default: another one each time, which is said.")
@click.option("-v", "--verbose", is_flag=True, help="Show the steps that are the same, too, and every path that differs.")
@what_steps_had
@click.pass_obj
def audit(
    invocation: Invocation,
    sample: int | None,
    every: bool,
    seed: int | None,
    verbose: bool,
    secrets: tuple[str, ...],
    ssh: tuple[str, ...],
    allow: tuple[str, ...],
    quiet: bool,
    format_: str,
) -> int:
    """Perform steps that a build would find in the store once more, as a build does, and compare what they make now with what is there.

    A RUN runs; COPY and ADD copy, if the files that they read are where they were, and the same; what was fetched is not fetched again.
    Nothing is changed in the store. Ends with 1 where a step would make something else by now.
    """
    from imgbuild.engine.audit import AuditRequest
    from imgbuild.engine.audit import audit as run

    if every and sample is not None:
        raise UsageError("--all leaves nothing to be chosen", hint="leave out --sample, or --all")
    chance = random.randrange(1 << 31) if seed is None else seed
    results: list[Audited] = []

    def on_step(step: StepRecord) -> None:
        if not quiet:
            click.echo(printable(f"performing {short(step.text)}"), err=True)

    def on_done(result: Audited) -> None:
        results.append(result)
        if format_ == "text" and (verbose or result.outcome != "same"):
            for line in _lines(result, verbose):
                click.echo(printable(line))

    found = run(invocation, AuditRequest(None if every else sample or _SAMPLE, chance, secrets, ssh, allow), on_step, on_done)
    counts = {outcome: sum(result.outcome == outcome for result in results) for outcome in ("same", "differs", "unknown")}
    if format_ == "json":
        steps = [_json(result) for result in results]
        click.echo(json.dumps({"seed": chance, "steps_in_store": found.steps, "audited": found.chosen, **counts, "steps": steps}, indent=2))
    else:
        of = f"{found.chosen} of {found.steps} steps" + ("" if found.chosen == found.steps else f" (--seed {chance})")
        click.echo(f"{of}: {counts['same']} the same, {counts['differs']} not, {counts['unknown']} could not be performed again")
    return FOUND if counts["differs"] else 0


def _lines(result: Audited, verbose: bool) -> Iterator[str]:
    word = {"same": "SAME", "differs": "DIFFERS", "unknown": "UNKNOWN"}[result.outcome]
    step, build = result.record, result.build
    if step is None or build is None:
        yield f"{word} {result.key}: {result.problem}"
        return
    place = f"{step.file.rpartition('/')[2]}:{step.line}, build {build.id[:12]} #{step.number}"
    yield f"{word} {short(step.text)}  ({place})" + (f": {result.problem}" if result.problem else "")
    if result.outcome == "differs" and not result.problem:
        yield from finding_lines(result.findings, result.more, everything=verbose, option="-v")


def _json(result: Audited) -> dict[str, Any]:
    value: dict[str, Any] = {"key": result.key, "outcome": result.outcome, "stored": result.stored, "now": result.now}
    if result.record is not None and result.build is not None:
        step = result.record
        value |= {"build": result.build.id, "number": step.number, "name": step.name, "file": step.file, "line": step.line}
    value |= {"problem": result.problem, "files": [finding_json(each, between="store and now") for each in result.findings]}
    value["more"] = result.more
    return value
