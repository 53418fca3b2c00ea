"""What differs between two outcomes of one step, path by path, and why: changes and contents in, findings out. Pure."""

from __future__ import annotations

import os

from imgbuild.hints import Iterable, Iterator
from imgbuild.insight.compare import Change, Entry
from imgbuild.insight.formats import reasons_in
from imgbuild.insight.reasons import Circumstances, Reason, clock
from imgbuild.insight.stamps import NAMES, Pair, explain
from imgbuild.patterns import pattern
from imgbuild.values import dataclass, replace

_AUX_CACHE = "/var/cache/ldconfig/aux-cache"
_LOGS = ("/var/log/", "/var/cache/debconf/", "/var/cache/apt/", "/var/lib/apt/extended_states", "/root/.npm/_logs/")
_CHANGING = pattern(rb"(?<=[._-])[A-Za-z0-9]{6,12}(?![A-Za-z0-9])|\d+")
"""The parts of names that stand for a time, a number of a process, or chance."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What two versions of a file begin with; or, where that is the same, what is around their first difference, at `offset`."""

    old: bytes = b""
    new: bytes = b""
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """A path that is not the same in two outcomes, and why. `other` is what it is called in the second, where that is its name alone."""

    change: Change
    reasons: tuple[Reason, ...]
    other: str = ""

    @property
    def path(self) -> str:
        return self.change.path


def reasons_for(change: Change, contents: Contents, one: Circumstances, other: Circumstances) -> tuple[Reason, ...]:
    """Why a path differs; `contents` where that is what does."""
    found: list[Reason] = []
    for aspect in change.aspects:
        if aspect == "content":
            found += _of_content(change.path, contents, one, other)
        else:
            found += _of_aspect(aspect, change, one, other)
    return tuple({(reason.kind, reason.words): reason for reason in found}.values()) or (_lone(change),)


def _lone(change: Change) -> Reason:
    where = "first" if change.verb == "removed" else "second"
    return Reason("names", f"it is there only after the {where} of the two runs")


def _of_content(path: str, contents: Contents, one: Circumstances, other: Circumstances) -> Iterator[Reason]:
    if path == _AUX_CACHE:
        yield Reason("ldconfig", "ldconfig's cache has inode numbers and times of libraries")
        return
    reasons = reasons_in(contents.old, contents.new, one, other) if not contents.offset else tuple(_around(contents, one, other))
    if path.startswith(_LOGS) and reasons and reasons[0].kind not in ("order", "hash order"):
        yield Reason("log", f"a log or cache of the package manager or of the system: {reasons[0].words}", reasons[0].offset)
        reasons = reasons[1:]
    yield from reasons


def _around(contents: Contents, one: Circumstances, other: Circumstances) -> Iterator[Reason]:
    yield from explain(Pair(contents.offset, contents.old, contents.new), one, other)


def _of_aspect(aspect: str, change: Change, one: Circumstances, other: Circumstances) -> Iterator[Reason]:
    old, new = change.old, change.new
    assert old is not None
    assert new is not None
    if aspect == "link":
        pair = Pair(0, os.fsencode(old.link), os.fsencode(new.link))
        yield from (reason.within("the target of the symlink") for reason in explain(pair, one, other))
        return
    said = {
        "type": lambda: f"{old.kind} -> {new.kind}",
        "mode": lambda: f"{old.mode:04o} -> {new.mode:04o}",
        "owner": lambda: f"{old.uid}:{old.gid} -> {new.uid}:{new.gid}",
        "hardlink": lambda: f"{_linked(old)} -> {_linked(new)}",
        "device": lambda: f"{old.device[0]}:{old.device[1]} -> {new.device[0]}:{new.device[1]}",
        "xattrs": lambda: ", ".join(each.name.decode("utf-8", "backslashreplace") for each in change.xattrs),
        "time": lambda: f"{clock(old.mtime_ns // 10**9)} -> {clock(new.mtime_ns // 10**9)}",
    }
    names = {"time": "mtime"}
    words = {"time": "its time of modification", "xattrs": "its attributes", "hardlink": "what it is a hard link to"}
    yield Reason(names.get(aspect, aspect), f"{words.get(aspect, f'its {aspect}')}: {said[aspect]()}")


def _linked(entry: Entry) -> str:
    return entry.first or "a file of its own"


def paired(findings: Iterable[Finding], one: Circumstances, other: Circumstances) -> list[Finding]:
    """The findings, where a path that is gone and one that is new are one, if they are named alike but for numbers or chance."""
    found = list(findings)
    gone: dict[tuple[bytes, str], list[Finding]] = {}
    for each in found:
        if each.change.verb == "removed" and each.change.old is not None:
            gone.setdefault((_shape(each.path), each.change.old.kind), []).append(each)
    merged: dict[int, Finding] = {}
    for each in found:
        if each.change.verb == "added" and each.change.new is not None:
            candidates = gone.get((_shape(each.path), each.change.new.kind))
            if candidates:
                first = candidates.pop(0)
                merged[id(first)] = _renamed(first, each, one, other)
                merged[id(each)] = merged[id(first)]
    result: list[Finding] = []
    for each in found:
        kept = merged.get(id(each), each)
        if kept is each or each.change.verb == "removed":
            result.append(kept)
    return result


def _shape(path: str) -> bytes:
    return _CHANGING.sub(b"*", os.fsencode(path))


def _renamed(gone: Finding, new: Finding, one: Circumstances, other: Circumstances) -> Finding:
    pair = Pair(0, os.fsencode(gone.path), os.fsencode(new.path))
    reasons = [Reason("names", f"its name has {reason.words}") for reason in explain(pair, one, other)]
    return Finding(gone.change, tuple(reasons[:1]), new.path)


def with_order_explained(findings: Iterable[Finding], before: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings, where another order is not that of directories: `before` are those between two runs that listed them alike."""
    alike = {each.path: each for each in before if any(reason.kind == "hash order" for reason in each.reasons)}
    return tuple(
        alike[each.path] if each.path in alike and any(reason.kind == "order" for reason in each.reasons) else each for each in findings
    )


_TRIED = {
    "time": "on another date",
    "order": "when directories are listed in another order",
    "file system": "when it is written to another file system",
    "hostname": "when the machine has another name",
    "pid": "when processes have other numbers",
    "uptime": "when the clocks since boot say something else",
    "processors": "when there are fewer processors",
}
_OPEN = frozenset(("random", "names", "type", "mode", "owner", "mtime", "xattrs", "hardlink", "device", "processors"))
"""Of numbers as small as those of processors, bytes alone tell nothing: a count of links goes from 2 to 1, too."""


def is_unexplained(finding: Finding) -> bool:
    """Whether it is only known what differs, and not, or not for sure, by what."""
    return not finding.other and bool(finding.reasons) and finding.reasons[0].kind in _OPEN


def with_trial(finding: Finding, kind: str) -> Finding:
    """A finding of which a run with this circumstance alone has shown that it is why."""
    said, *rest = finding.reasons
    if said.kind == kind:
        return finding
    said = _unnamed(said)
    return replace(finding, reasons=(Reason(kind, f"only {_TRIED[kind]}: {said.words}", said.offset), *rest))


def without_guess(finding: Finding) -> Finding:
    """A finding of which no run with one circumstance alone has shown why: what its bytes look like was by chance."""
    said, *rest = finding.reasons
    return replace(finding, reasons=(_unnamed(said), *rest)) if said.kind == "processors" else finding


def _unnamed(said: Reason) -> Reason:
    """What differs, in the place of what it looks like."""
    return replace(said, kind="random", words=said.words.removeprefix(f"{NAMES[said.kind]}: ")) if said.kind in NAMES else said
