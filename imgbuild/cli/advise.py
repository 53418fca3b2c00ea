"""``imgbuild advise``: what to change in a Buildfile, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from imgbuild.engine.invocation import Invocation
from imgbuild.hints import Iterator
from imgbuild.light import json

if TYPE_CHECKING:
    from imgbuild.engine.advise import Advised
    from imgbuild.insight.advice import Advice

_WIDE = 60


@click.command()
@click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.argument("what", nargs=-1, metavar="[BUILD-OR-CONTEXT...]")
@click.pass_obj
def advise(invocation: Invocation, format_: str, what: tuple[str, ...]) -> None:
    """Say what could be changed in a Buildfile, by what its builds have cost and what its layers hold; what saves most first.

    Each is a build (last, the default, last~1, or an id), a context's directory or a Buildfile. Nothing is run.
    """
    from imgbuild.cli.failures import printable
    from imgbuild.engine.advise import advise as advised

    found = [advised(invocation, word) for word in what or ("last",)]
    if format_ == "json":
        click.echo(json.dumps([_json(each) for each in found], indent=2))
        return
    click.echo("\n\n".join("\n".join(printable(line) for line in _lines(each)) for each in found))


def _lines(found: Advised) -> Iterator[str]:
    build = found.build
    count = f"{found.builds} build{'' if found.builds == 1 else 's'} of {build.buildfile}, looked at as in {build.id[:12]}"
    yield f"{count}: {len(found.advice) or 'nothing'} to advise"
    for number, advice in enumerate(found.advice, start=1):
        yield ""
        yield f"{number}. {advice.place}  {_short(advice.step.text)}" + (f"  [{_saved(advice)}]" if advice.weight else "")
        yield f"   {advice.message}"
        yield from (f"   - {sentence}" for sentence in advice.evidence)
    if found.unsaid:
        yield ""
        whys = {each.step.number: f"#{each.step.number} opened ({each.why})" for each in found.unsaid}
        yield f"not known is which files of the build context {', '.join(whys.values())}"
    if found.unread:
        yield ""
        yield f"not looked at: the layers of {', '.join(f'#{number}' for number in found.unread)}, which are not in the store any more"


def _saved(advice: Advice) -> str:
    from imgbuild.insight.advice import shown_bytes

    parts = [f"{advice.seconds:.1f} s"] if advice.seconds else []
    parts += [shown_bytes(advice.bytes)] if advice.bytes else []
    return f"{'at most ' if advice.most else ''}{' and '.join(parts)}"


def _short(text: str) -> str:
    return text if len(text) <= _WIDE else text[: _WIDE - 3] + "..."


def _json(found: Advised) -> dict[str, Any]:
    build = found.build
    return {
        "build": build.id, "buildfile": build.buildfile, "target": build.target or build.bake_target, "builds": found.builds,
        "unread": list(found.unread), "unknown": [{"step": each.step.number, "why": each.why} for each in found.unsaid],
        "advice": [_advice(each) for each in found.advice],
    }  # fmt: skip


def _advice(advice: Advice) -> dict[str, Any]:
    step = advice.step
    return {
        "kind": advice.kind, "file": step.file, "line": step.line, "end_line": step.end_line, "stage": step.stage, "step": step.number,
        "instruction": step.text, "message": advice.message, "evidence": list(advice.evidence), "seconds": round(advice.seconds, 3),
        "bytes": advice.bytes, "at_most": advice.most, "facts": dict(advice.facts),
    }  # fmt: skip
