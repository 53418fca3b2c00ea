"""What differs between outcomes of a step, and why, as text for people and as JSON."""

from __future__ import annotations

from typing import Any

from imgbuild.hints import Iterator, Sequence
from imgbuild.insight.unlike import Finding

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def finding_lines(findings: Sequence[Finding], more: int, *, everything: bool, earlier: frozenset[str] = frozenset()) -> Iterator[str]:
    """The first path that differs with its reasons, and the number of the others, or all of them."""
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
        yield f"  and {others} more{by}" + ("" if everything else "; --all shows them")
    if not findings:
        yield "  no file differs: the layer's own form does"


def finding_json(finding: Finding, earlier: frozenset[str] = frozenset()) -> dict[str, Any]:
    """One path."""
    value: dict[str, Any] = {"path": finding.path, "change": finding.change.verb, "aspects": list(finding.change.aspects)}
    if finding.other:
        value["other"] = finding.other
    value["between"] = "store and first run" if finding.path in earlier else "first and second run"
    reasons = [{"kind": each.kind, "words": each.words, "offset": each.offset, "hint": each.hint} for each in finding.reasons]
    value["reasons"] = [{name: item for name, item in reason.items() if item not in (None, "")} for reason in reasons]
    return value
