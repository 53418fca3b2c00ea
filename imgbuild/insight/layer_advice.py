"""What layers hold that nobody sees: files that later layers delete or replace; and what the largest ones are made of. Pure."""

from __future__ import annotations

from imgbuild.hints import Iterator, Mapping, Sequence
from imgbuild.insight.advice import Advice, counted, named, shown_bytes
from imgbuild.insight.builds import StepRecord
from imgbuild.layer.listing import Listed
from imgbuild.light import re
from imgbuild.values import dataclass, field

_LEAST_BYTES = 1 << 20
_BIG = 50 << 20
_BIG_SHARE = 0.25
_TOP = 5
_OWNERS = re.compile(r"(?<![\w./-])(?:chown|chmod|chgrp|setfacl)\s")

Layers = Sequence[tuple[StepRecord, Sequence[Listed]]]
"""The steps of an image that left layers, the lowest first, with what these say."""


@dataclass(slots=True)
class _Node:
    """A path as the layers up to one show it: who wrote it, and how large it is there."""

    writer: StepRecord | None = None
    size: int = 0
    below: dict[str, _Node] = field(default_factory=dict)


@dataclass(slots=True)
class _Lost:
    """Files of one step that another hides: their paths with sizes, as far as they were deleted, and replaced."""

    deleted: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, int] = field(default_factory=dict)
    alike: int = 0
    """How many of those that were replaced have the same size as before."""


def shadowed(layers: Layers) -> Iterator[Advice]:
    """Bytes that an image has and nobody sees, by who wrote and who hid them."""
    lost = _lost(layers)
    steps = {step.number: step for step, _ in layers}
    for (writer, hider), each in lost.items():
        one, other = steps[writer], steps[hider]
        if (size := sum(each.deleted.values())) >= _LEAST_BYTES:
            yield _deleted(one, other, each.deleted, size)
        if (size := sum(each.replaced.values())) >= _LEAST_BYTES:
            yield _replaced(one, other, each, size)


def _lost(layers: Layers) -> dict[tuple[int, int], _Lost]:
    root, lost = _Node(), dict[tuple[int, int], _Lost]()
    for step, entries in layers:
        # What a layer says of those below comes before what it has itself, in whatever order its tar has them.
        for entry in entries:
            if entry.kind in ("deleted", "emptied"):
                _hide(root, entry, step, lost)
        for entry in entries:
            if entry.kind not in ("deleted", "emptied"):
                _write(root, entry, step, lost)
    return lost


def _hide(root: _Node, entry: Listed, step: StepRecord, lost: dict[tuple[int, int], _Lost]) -> None:
    above, _, name = entry.path.rpartition("/")
    parent = _at(root, above)
    if parent is None:
        return
    node = parent if not name else parent.below.get(name)
    if node is None:
        return
    for path, each in _files(node, entry.path):
        if each is not node or entry.kind == "deleted":
            _note(lost, each, step).deleted[path] = each.size
    if entry.kind == "deleted":
        parent.below.pop(name, None)
    else:
        node.below.clear()


def _write(root: _Node, entry: Listed, step: StepRecord, lost: dict[tuple[int, int], _Lost]) -> None:
    node = root
    for part in entry.path.split("/"):
        node = node.below.setdefault(part, _Node())
    if entry.kind != "dir":
        for path, each in _files(node, entry.path):
            if each.writer is not step:
                found = _note(lost, each, step)
                found.replaced[path] = each.size
                found.alike += each.size == entry.size
        node.below.clear()
        node.writer, node.size = step, entry.size
    elif node.writer is not None:  # a directory in the place of a file
        if node.writer is not step:
            _note(lost, node, step).replaced[entry.path] = node.size
        node.writer, node.size = None, 0


def _at(root: _Node, path: str) -> _Node | None:
    node: _Node | None = root
    for part in path.split("/") if path else ():
        node = node.below.get(part) if node is not None else None
    return node


def _files(node: _Node, path: str) -> Iterator[tuple[str, _Node]]:
    """The files at a path and below it."""
    pending = [(path, node)]
    while pending:
        at, each = pending.pop()
        if each.writer is not None:
            yield at, each
        pending.extend((f"{at}/{name}" if at else name, inner) for name, inner in each.below.items())


def _note(lost: dict[tuple[int, int], _Lost], node: _Node, step: StepRecord) -> _Lost:
    assert node.writer is not None
    return lost.setdefault((node.writer.number, step.number), _Lost())


def _deleted(writer: StepRecord, hider: StepRecord, paths: Mapping[str, int], size: int) -> Advice:
    by = f"`{hider.text}` (line {hider.line})"
    copied = not writer.text.startswith("RUN")
    if copied:
        message = f"mount them where they are needed (RUN --mount=type=bind), or leave them out: {by} deletes them, the layer keeps them"
    else:
        message = f"delete the files in this very RUN: where {by} does it, the layer keeps them"
    evidence = (f"{by} deletes {counted(len(paths), 'file')} of it with {shown_bytes(size)}: {_largest(paths)}",)
    return Advice("copied" if copied else "cleanup", writer, message, evidence, bytes=size, facts=_facts(hider, paths))


def _replaced(writer: StepRecord, hider: StepRecord, lost: _Lost, size: int) -> Advice:
    by = f"`{hider.text}` (line {hider.line})"
    owners = lost.alike == len(lost.replaced) and hider.text.startswith("RUN") and _OWNERS.search(hider.text) is not None
    if owners and not writer.text.startswith("RUN"):
        message = f"COPY --chown and --chmod do what {by} does, without a second copy of the files"
    elif owners:
        message = f"change owners and modes in this very RUN: {by} makes a second copy of the files"
    else:
        message = f"write the files once: {by} writes them again, and the image has both"
    evidence = (f"{by} writes {counted(len(lost.replaced), 'file')} of it with {shown_bytes(size)} again: {_largest(lost.replaced)}",)
    return Advice("ownership" if owners else "overwritten", writer, message, evidence, bytes=size, facts=_facts(hider, lost.replaced))


def _facts(hider: StepRecord, paths: Mapping[str, int]) -> dict[str, object]:
    largest = sorted(paths.items(), key=lambda item: (-item[1], item[0]))[:100]
    return {"instruction": hider.text, "line": hider.line, "files": len(paths), "paths": dict(largest)}


def _largest(paths: Mapping[str, int]) -> str:
    """The largest directories or files among the paths."""
    return named([f"/{path}" for path in sorted(paths, key=lambda path: (-paths[path], path))])


def big(layers: Layers) -> Iterator[Advice]:
    """What the largest layers are made of."""
    whole = sum(entry.size for _, entries in layers for entry in entries)
    for step, entries in layers:
        size = sum(entry.size for entry in entries)
        if size < _BIG or size < _BIG_SHARE * whole:
            continue
        tops: dict[str, int] = {}
        for entry in entries:
            if entry.size:
                top = "/".join(entry.path.split("/")[:2]) if entry.path.count("/") >= 2 else entry.path.rpartition("/")[0]
                tops[top] = tops.get(top, 0) + entry.size
        largest = sorted(tops.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
        evidence = (f"it is {shown_bytes(size)} of {shown_bytes(whole)}: " + ", ".join(f"/{top} {shown_bytes(of)}" for top, of in largest),)
        message = "look at whether all of it is needed: it is a large part of the image"
        yield Advice("big", step, message, evidence, facts={"size": size, "image": whole, "directories": dict(largest)})


def below(entries: Sequence[Listed], directories: Sequence[str]) -> dict[str, int]:
    """The bytes of files below each of the directories."""
    return {path: sum(entry.size for entry in entries if f"/{entry.path}".startswith(f"{path}/")) for path in directories}
