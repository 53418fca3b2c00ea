"""Two outcomes of one step, compared file by file: what differs, and why, as far as the bytes tell."""

from __future__ import annotations

from imgbuild.engine.diff import Contents as _Contents
from imgbuild.engine.diff import entries
from imgbuild.hints import Iterator
from imgbuild.insight.compare import Change, compare
from imgbuild.insight.reasons import Circumstances
from imgbuild.insight.unlike import Contents, Finding, paired, reasons_for
from imgbuild.light.contextlib import ExitStack
from imgbuild.snapshot import Lowers
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass

_CHUNK = 1 << 20
_MOST_READ = 8 << 20
"""How much of the beginning of a file is understood as what it is; further on, only the first difference is looked at."""
_AROUND = 4096
MOST_FINDINGS = 5000
"""Paths of one comparison that are explained; more are counted."""


@dataclass(frozen=True, slots=True)
class Unlike:
    """What differs between two outcomes, in the order of paths, and how many paths `more`."""

    findings: tuple[Finding, ...]
    more: int = 0


def unlike(old: Lowers, new: Lowers, made: tuple[Circumstances, Circumstances], *, rootless: bool) -> Unlike:
    """Compare two root file systems; a time of modification alone is a difference, as it is one of layers."""
    findings: list[Finding] = []
    more = 0
    with UnionView(old, userxattr=rootless) as one, UnionView(new, userxattr=rootless) as other:
        for change in compare(entries(one, other), entries(other, one), _Contents(one, other), times=True):
            if len(findings) >= MOST_FINDINGS:
                more += 1
            elif not (change.path == "/" and change.aspects == ("time",)):  # which no layer says
                findings.append(Finding(change, reasons_for(change, _contents(change, one, other), *made)))
    return Unlike(tuple(paired(findings, *made)), more)


def _contents(change: Change, one: UnionView, other: UnionView) -> Contents:
    """What the bytes of a file tell of why they differ."""
    if "content" not in change.aspects:
        return Contents()
    with ExitStack() as stack:
        files = [stack.enter_context(open(view.open(change.path), "rb", buffering=0)) for view in (one, other)]  # noqa: SIM115
        before, after = (file.read(_MOST_READ) for file in files)
        if before != after:
            return Contents(before, after)
        offset = _MOST_READ
        while True:
            before, after = (file.read(_CHUNK) for file in files)
            if before != after:
                at = next(_differing(before, after))
                start = max(0, at - _AROUND)
                return Contents(before[start : at + _AROUND], after[start : at + _AROUND], offset + start)
            if not before:
                return Contents()
            offset += len(before)


def _differing(before: bytes, after: bytes) -> Iterator[int]:
    yield from (at for at, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    yield min(len(before), len(after))
