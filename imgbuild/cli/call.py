"""``imgbuild build --call``: answers about a Buildfile in the place of a build, as text or in the JSON of docker buildx."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING

import click

from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.cli.failures import excerpt, printable, render
from imgbuild.cli.progress import make_renderer
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.request import BuildRequest
from imgbuild.errors import Source, Span, UsageError
from imgbuild.hints import Mapping, Sequence
from imgbuild.light import json
from imgbuild.solve.events import Notice
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.buildfile.plain import Plain
    from imgbuild.cli.progress import Renderer
    from imgbuild.engine.describe import CheckResult
    from imgbuild.graph.describe import Description, Mounted, Target

CALLS = ("build", "check", "outline", "targets", "dockerfile")
_ALIASES = {"lint": "check"}
_FORMATS = ("text", "json")
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked: `name` is one of CALLS; `ignore_status` makes a check that finds something a success."""

    name: str
    format: str = "text"
    ignore_status: bool = False


def parse_call(text: str, format_: str | None = None) -> Call:
    """``check,format=json,ignorestatus=true``, with what a ``--format`` of its own says."""
    name, chosen, ignore = "", format_ or "text", False
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if equals and key == "format":
            chosen = value
        elif equals and key == "ignorestatus":
            if value.lower() not in _TRUE + _FALSE:
                raise UsageError(f"--call {text}: ignorestatus is true or false, not {value!r}")
            ignore = value.lower() in _TRUE
        elif equals or name:
            hint = did_you_mean(key, ("format", "ignorestatus")) if equals else "write --call=METHOD[,format=json]"
            raise UsageError(f"--call {text}: {field!r} is not understood", hint=hint)
        else:
            name = _ALIASES.get(field, field)
    if name not in CALLS:
        raise UsageError(f"--call {text}: {name!r} is not a method", hint=did_you_mean(name, CALLS) or f"it is one of {', '.join(CALLS)}")
    if chosen not in _FORMATS:
        hint = did_you_mean(chosen, _FORMATS) or "it is text or json"
        raise UsageError(f"--call {text}: {chosen!r} is not a format", hint=hint)
    return Call(name, chosen, ignore)


def answer(invocation: Invocation, request: BuildRequest, call: Call) -> int:
    """Print the answer on stdout; the exit code."""
    from imgbuild.engine import describe

    with make_renderer("plain", invocation.environ) as renderer:
        if call.name == "check":
            return _check(describe.check(invocation, request, renderer.on_event), call)
        if call.name == "outline":
            _outline(*describe.outline(invocation, request, renderer.on_event), call)
        elif call.name == "dockerfile":
            _dockerfile(describe.dockerfile(invocation, request, renderer.on_event), call, renderer)
        else:
            _targets(*describe.targets(invocation, request, renderer.on_event), call)
    return 0


def _check(result: CheckResult, call: Call) -> int:
    if call.format == "json":
        _print_json(_check_json(result))
    else:
        _check_text(result)
    failed = result.warnings or result.error is not None
    return 1 if failed and not call.ignore_status else 0


def _check_text(result: CheckResult) -> None:
    count = len(result.warnings)
    if count:
        click.echo(f"Check complete, {'1 warning has' if count == 1 else f'{count} warnings have'} been found!")
    elif result.error is None:
        click.echo("Check complete, no warnings found.")
    for warning in result.warnings:
        lines = [f"WARNING: {warning.rule.name}", warning.message, str(warning.span.lines), *excerpt(warning.span)]
        click.echo("\n" + "\n".join(printable(line) for line in lines))
    if result.error is not None:
        if count:
            click.echo()
        sys.stdout.flush()
        render(result.error, sys.stderr)


def _check_json(result: CheckResult) -> dict[str, object]:
    sources = _Sources(result.source)
    answer: dict[str, object] = {
        "warnings": [
            {
                "ruleName": warning.rule.name,
                "description": warning.rule.description,
                "detail": warning.message,
                "location": sources.location(warning.span),
            }
            for warning in result.warnings
        ]
    }
    error = result.error
    if error is not None:
        failure = {"message": error.message, **({"location": sources.location(error.at)} if error.at is not None else {})}
        answer["buildError"] = failure
    answer["sources"] = [{"filename": source.name, "data": _encoded(source), "language": "Dockerfile"} for source in sources.all]
    return answer


def _outline(description: Description, source: Source, call: Call) -> None:
    if call.format == "json":
        _print_json(_outline_json(description, source))
        return
    if description.name or description.description:
        rows = [("TARGET:", description.name or "(default)")]
        rows += [("DESCRIPTION:", description.description)] if description.description else []
        _print_table(rows, gap=1)
    if description.arguments:
        _print_table([("BUILD ARG", "VALUE", "DESCRIPTION"), *((a.name, a.value, a.description) for a in description.arguments)])
    for title, found in (("SECRET", description.secrets), ("SSH", description.ssh)):
        if found:
            _print_table([(title, "REQUIRED"), *((mount.name, "true" if mount.required else "") for mount in found)])
    if description.caches:
        _print_table([("CACHE",), *((mount.name,) for mount in description.caches)])


def _outline_json(description: Description, source: Source) -> dict[str, object]:
    sources = _Sources(source)

    def mounts(found: Sequence[Mounted]) -> list[dict[str, object]]:
        return [_present(name=m.name, required=m.required, location=sources.location(m.span)) for m in found]

    return _present(
        name=description.name,
        description=description.description,
        args=[
            _present(name=a.name, description=a.description, value=a.value, location=sources.location(a.span))
            for a in description.arguments
        ],
        secrets=mounts(description.secrets),
        ssh=mounts(description.ssh),
        cache=[{"ID": mount.name, "location": sources.location(mount.span)} for mount in description.caches],
        sources=[_encoded(each) for each in sources.all],
    )


def _targets(targets: Sequence[Target], source: Source, call: Call) -> None:
    if call.format == "json":
        sources = _Sources(source)
        listed = [
            _present(
                name=t.name,
                default=t.default,
                description=t.description,
                base=t.base,
                platform=t.platform,
                location=sources.location(t.span),
            )
            for t in targets
        ]
        _print_json({"targets": listed, "sources": [_encoded(each) for each in sources.all]})
        return
    rows = [("TARGET", "DESCRIPTION")]
    for target in targets:
        default = "(default)" if target.default else ""
        rows.append((f"{target.name} {default}".strip(), target.description))
    _print_table(rows, after="")


def _dockerfile(plain: Plain, call: Call, renderer: Renderer) -> None:
    """The text on stdout, as the bytes that it is of; what is lost beside it, too."""
    text = plain.text.encode("utf-8", "surrogateescape")
    if call.format == "json":
        losses = [_present(what=loss.what, instead=loss.instead, place=loss.span.lines) for loss in plain.losses]
        _print_json({"dockerfile": text.decode("utf-8", "replace"), "losses": losses})
        return
    for loss in plain.losses:
        renderer.on_event(Notice(f"{loss.span.lines} {loss}"))
    click.echo(text, nl=not text.endswith(b"\n"))


class _Sources:
    """The files that an answer points into, and its places in them: a range for each line, as docker's tools have it."""

    def __init__(self, first: Source | None) -> None:
        self.all: list[Source] = [] if first is None else [first]

    def location(self, span: Span) -> dict[str, object]:
        if span.source not in self.all:
            self.all.append(span.source)
        ranges = [{"start": {"line": line}, "end": {"line": line}} for line in range(span.line, span.end_line + 1)]
        return _present(sourceIndex=self.all.index(span.source), ranges=ranges)


def _present(**fields: object) -> dict[str, object]:
    """Without what is empty, as JSON of docker's tools leaves it out."""
    return {name: value for name, value in fields.items() if value}


def _encoded(source: Source) -> str:
    return base64.b64encode("".join(f"{line}\n" for line in source.lines).encode("utf-8", "replace")).decode()


def _print_json(answer: Mapping[str, object]) -> None:
    click.echo(json.dumps(answer, indent=2))


def _print_table(rows: Sequence[Sequence[str]], gap: int = 3, after: str = "\n") -> None:
    widths = [max(len(row[column]) for row in rows) + gap for column in range(len(rows[0]))]
    for row in rows:
        click.echo(printable("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()))
    click.echo(after, nl=False)
