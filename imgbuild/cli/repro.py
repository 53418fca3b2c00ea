"""``imgbuild repro``: whether steps of a build make the same again, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.failures import printable
from imgbuild.cli.findings import finding_json, finding_lines, short, what_steps_had
from imgbuild.engine.invocation import Invocation
from imgbuild.hints import Iterator
from imgbuild.insight.reasons import clock
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.engine.repro import Reproduced
    from imgbuild.insight.builds import StepRecord

DIFFERS = 1


@click.command()
@click.argument("words", nargs=-1, metavar="[BUILD] [#STEP...]")
@click.option("-a", "--all", "everything", is_flag=True, help="Show every path that differs, not just the first of each step.")
@what_steps_had
@click.pass_obj
def repro(
    invocation: Invocation,
    words: tuple[str, ...],
    everything: bool,
    secrets: tuple[str, ...],
    ssh: tuple[str, ...],
    allow: tuple[str, ...],
    quiet: bool,
    format_: str,
) -> int:
    """Run RUN steps of BUILD (last, last~1, or an id) twice again, the second time under another date, machine's name, numbers of
    processes and order of directories, and compare their layers with each other and with the one in the store. Without steps, all of them.

    Nothing of it is kept. Ends with 0 where all are the same, with 1 where one differs.
    """
    from imgbuild.engine.repro import ReproRequest
    from imgbuild.engine.repro import repro as run

    build, steps = _parsed(words)
    results: list[Reproduced] = []

    def on_step(step: StepRecord) -> None:
        if not quiet:
            click.echo(printable(f"running #{step.number} {short(step.text)}"), err=True)

    def on_done(result: Reproduced) -> None:
        results.append(result)
        if format_ == "text":
            for line in _lines(result, everything):
                click.echo(printable(line))

    record = run(invocation, ReproRequest(build, steps, secrets, ssh, allow), on_step, on_done)
    differ = sum(not result.same for result in results)
    if format_ == "json":
        click.echo(json.dumps({"build": record.id, "steps": [_json(result) for result in results], "differs": bool(differ)}, indent=2))
    else:
        click.echo(f"{len(results)} step{'' if len(results) == 1 else 's'}: {len(results) - differ} the same again, {differ} not")
    return DIFFERS if differ else 0


def _parsed(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The build, the last one where the first word is a step, and the steps."""
    return (words[0], words[1:]) if words and not words[0].startswith("#") else ("last", words)


def _lines(result: Reproduced, everything: bool) -> Iterator[str]:
    step = result.record
    place = f"  ({step.file.rpartition('/')[2]}:{step.line})" if step.file else ""
    yield f"#{step.number} {short(step.name)}{place}: {'the same again' if result.same else 'DIFFERS'}"
    for failed in result.failed:
        fails, near = ("failed once, but not the next time", "") if failed.once else ("fails", "; a day ahead it does not")
        yield f"  on another date, {clock(failed.date)}, it {fails}: {failed.words}{near if result.lasts else ''}"
    if result.problem:
        yield f"  under other circumstances {result.problem}"
        return
    if result.alike:
        if result.conditions.unvaried:
            yield f"  but not tried: {'; '.join(result.conditions.unvaried)}"
        return
    yield from finding_lines(result.findings, result.more, everything=everything, earlier=result.earlier)


def _json(result: Reproduced) -> dict[str, Any]:
    step = result.record
    between = dict.fromkeys(result.earlier, "store and first run")
    files = [finding_json(each, between=between.get(each.path, "first and second run")) for each in result.findings]
    return {
        "number": step.number, "name": step.name, "file": step.file, "line": step.line, "same": result.same, "stored": result.stored,
        "runs": list(result.runs), "problem": result.problem, "files": files, "more": result.more,
        "failed": [{"date": clock(each.date), "problem": each.words, "once": each.once} for each in result.failed],
        "varied": list(result.conditions.varied), "not_varied": list(result.conditions.unvaried),
    }  # fmt: skip
