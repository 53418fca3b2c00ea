"""``imgbuild builds``: the builds that there were, their steps and costs, their logs; two of them side by side; and forgetting them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from imgbuild.cli.tables import plain, table
from imgbuild.engine.invocation import Invocation
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.insight.builds import StepRecord

_FORMAT = click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
_STATUSES = ("done", "failed", "canceled", "interrupted", "running")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def builds() -> None:
    """Look at builds that are over, or under way.

    BUILD is an id or the beginning of one, `last` (the default), or `last~1`, `^1`: the one before.
    """


@builds.command("ls")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("-a", "--all", "everything", is_flag=True, help="All that are known.")
@click.option("--status", type=click.Choice(_STATUSES), help="Only those that ended so.")
@click.option("-q", "--quiet", is_flag=True, help="Print only ids.")
@_FORMAT
@click.pass_obj
def list_(invocation: Invocation, limit: int, everything: bool, status: str | None, quiet: bool, format_: str) -> None:
    """List builds, the last one first."""
    from imgbuild.cli.build_tables import build_row, summary_json
    from imgbuild.engine.builds import list_builds

    found = list_builds(invocation, None if everything else limit, status, on_damage=_notice)
    if quiet:
        for build in found:
            click.echo(build.id)
    elif format_ == "json":
        click.echo(json.dumps([summary_json(build) for build in found], indent=2))
    else:
        click.echo(table(["BUILD", "STATUS", "NAME", "STEPS", "STARTED", "TOOK"], [build_row(build) for build in found]))


@builds.command()
@click.argument("build", default="last")
@_FORMAT
@click.pass_obj
def show(invocation: Invocation, build: str, format_: str) -> None:
    """Show a build: what it was asked for, how it ended, and what each step cost.

    What a cached step cost, it did when it was performed; only the time is that of this build.
    """
    from imgbuild.cli.build_tables import build_text, full_json
    from imgbuild.engine.builds import show_build

    found = show_build(invocation, build)
    click.echo(json.dumps(full_json(found), indent=2) if format_ == "json" else build_text(found))


@builds.command()
@click.option("--step", "number", type=click.IntRange(min=1), metavar="N", help="Only this step.")
@click.option("--cached", is_flag=True, help="Also what cached steps wrote when they were performed.")
@click.option("--raw", is_flag=True, help="Only the bytes, as they were written; stderr goes to stderr.")
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("build", default="last")
@click.pass_obj
def log(invocation: Invocation, build: str, number: int | None, cached: bool, raw: bool, format_: str) -> None:
    """Print what the steps of a build wrote, as its progress showed it; as JSON, one object for each piece."""
    from imgbuild.engine.builds import read_logs

    if raw and format_ == "json":
        raise click.UsageError("--raw and --format=json contradict each other")
    shown = _Raw() if raw else _Lines() if format_ == "json" else _Text()
    read_logs(invocation, build, shown.begin, shown.output, shown.end, number=number, cached=cached)


@builds.command()
@click.option("-a", "--all", "everything", is_flag=True, help="All of them, but those under way.")
@click.argument("names", nargs=-1, metavar="BUILD...")
@click.pass_obj
def rm(invocation: Invocation, names: tuple[str, ...], everything: bool) -> None:
    """Forget builds, and the logs of the steps that they performed. Images and cached steps stay."""
    from imgbuild.engine.builds import remove_builds

    if bool(names) == everything:
        raise click.UsageError("name builds, or say --all" if not names else "--all needs no names")
    for build in remove_builds(invocation, names, everything):
        click.echo(build)


@builds.command()
@click.argument("first", metavar="A")
@click.argument("second", metavar="B", default="last")
@_FORMAT
@click.pass_obj
def compare(invocation: Invocation, first: str, second: str, format_: str) -> None:
    """Show how build B differs from build A, step by step."""
    from imgbuild.cli.build_tables import comparison_json, comparison_text
    from imgbuild.engine import builds as engine

    one, two, found = engine.compare(invocation, first, second)
    shown = json.dumps(comparison_json(one, two, found), indent=2) if format_ == "json" else comparison_text(one, two, found)
    click.echo(shown)


def _notice(said: str) -> None:
    click.echo(plain(f"imgbuild: notice: {said}"), err=True)


class _Text:
    """As the plain progress shows a build."""

    def __init__(self) -> None:
        self._rest = b""

    def begin(self, step: StepRecord) -> None:
        click.echo(plain(f"{step.label} {step.name}"))

    def output(self, step: StepRecord, seconds: float, stream: int, data: bytes) -> None:
        from imgbuild.cli.progress import readable

        *lines, self._rest = (self._rest + data).split(b"\n")
        sys.stdout.write("".join(f"#{step.number} | {readable(line)}\n" for line in lines))

    def end(self, step: StepRecord, gone: bool) -> None:
        from imgbuild.cli.progress import outcome_text

        if self._rest:
            self.output(step, 0.0, 1, b"\n")
        if gone:
            click.echo(f"#{step.number} its log is no longer kept")
        if step.error is not None:
            click.echo(plain(f"#{step.number} {step.error.message}"))
        click.echo(plain(f"#{step.number} {outcome_text(step.outcome, step.seconds)}"))


class _Lines:
    """An object a piece."""

    def begin(self, step: StepRecord) -> None:
        self._write(event="StepStarted", step=step.number, name=step.name, file=step.file, line=step.line)

    def output(self, step: StepRecord, seconds: float, stream: int, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        self._write(event="StepOutput", step=step.number, seconds=seconds, stream=stream, data=text)

    def end(self, step: StepRecord, gone: bool) -> None:
        self._write(event="StepFinished", step=step.number, outcome=step.outcome, seconds=step.seconds, log="gone" if gone else "")

    def _write(self, **fields: Any) -> None:
        sys.stdout.write(json.dumps(fields) + "\n")


class _Raw:
    """The bytes alone."""

    def begin(self, step: StepRecord) -> None:
        pass

    def output(self, step: StepRecord, seconds: float, stream: int, data: bytes) -> None:
        out = sys.stdout if stream == 1 else sys.stderr
        out.buffer.write(data)
        out.buffer.flush()

    def end(self, step: StepRecord, gone: bool) -> None:
        pass
