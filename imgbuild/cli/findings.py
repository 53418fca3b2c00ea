"""What differs between outcomes of a step, and why, as text for people and as JSON."""

from __future__ import annotations

from typing import Any

import click

from imgbuild.hints import Callable, Iterator, Sequence
from imgbuild.insight.unlike import Finding

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


_LONGEST = 70


def what_steps_had(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that run past steps again."""
    options = (
        click.option("--secret", "secrets", multiple=True, metavar="id=ID[,src=FILE|env=NAME]", help="A secret of a step: none is kept."),
        click.option("--ssh", multiple=True, metavar="ID[=SOCKET|KEY,...]", help="An agent or keys that a step had."),
        click.option("--allow", multiple=True, metavar="RIGHT", help="What it was allowed: security.insecure, device[=/dev/NAME]."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing of what is being run."),
        click.option("--format", "format_", type=click.Choice(["text", "json"]), default="text", show_default=True),
    )
    for option in reversed(options):
        command = option(command)
    return command


def short(text: str) -> str:
    """An instruction in one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def finding_lines(
    findings: Sequence[Finding], more: int, *, everything: bool, option: str = "--all", earlier: frozenset[str] = frozenset()
) -> Iterator[str]:
    """The first path that differs with its reasons, and the number of the others, which `option` shows; or all of them."""
    for finding in findings if everything else findings[:1]:
        renamed = f" -> {finding.other}" if finding.other else ""
        since = ", since the layer in the store was made" if finding.path in earlier else ""
        aspects = "" if not finding.change.aspects else f"  ({', '.join(finding.change.aspects)}{since})"
        yield f"  {_SIGNS[finding.change.verb]} {finding.path}{renamed}{aspects}"
        for reason in finding.reasons:
            at = "" if reason.offset is None else f" (byte {reason.offset})"
            yield f"      {reason.words}{at}"
        for hint in dict.fromkeys(reason.hint for reason in finding.reasons if reason.hint):
            yield f"      hint: {hint}"
    others = (0 if everything else max(0, len(findings) - 1)) + more
    if others:
        kinds = dict.fromkeys(finding.reasons[0].kind for finding in findings[1:] if finding.reasons)
        by = f" ({', '.join(kinds)})" if kinds and not everything else ""
        yield f"  and {others} more{by}" + ("" if everything else f"; {option} shows them")
    if not findings:
        yield "  no file differs: the layer's own form does"


def finding_json(finding: Finding, *, between: str) -> dict[str, Any]:
    """One path, and between which two outcomes it differs."""
    value: dict[str, Any] = {"path": finding.path, "change": finding.change.verb, "aspects": list(finding.change.aspects)}
    if finding.other:
        value["other"] = finding.other
    value["between"] = between
    reasons = [{"kind": each.kind, "words": each.words, "offset": each.offset, "hint": each.hint} for each in finding.reasons]
    value["reasons"] = [{name: item for name, item in reason.items() if item not in (None, "")} for reason in reasons]
    return value
