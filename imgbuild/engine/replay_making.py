"""Notes what a build came from, for `replay`: as much as decides what the next one finds, and nothing where that can't be said for sure.

Whatever was changed so shortly before the build began that another change would leave the same times is not noted: then the next build is
done again, and notes it. Nor is a context of thousands of files: to note them takes longer than to find them unchanged.
"""

from __future__ import annotations

import os
import stat
import time
from binascii import crc32
from itertools import chain

from imgbuild.engine import replay
from imgbuild.engine.flat import flat
from imgbuild.engine.replay import Watch, signature
from imgbuild.engine.replay_places import signatures, statuses_of
from imgbuild.engine.request import BuildPlan
from imgbuild.graph.ops import BuildGraph, CopyOp
from imgbuild.hints import TYPE_CHECKING, Any, Iterable, Iterator, Mapping
from imgbuild.light import json
from imgbuild.light.contextlib import suppress
from imgbuild.linux.node import Node
from imgbuild.oci.image import REF_NAME
from imgbuild.solve.events import Notice, StepStarted, Warned
from imgbuild.solve.nodes import in_order
from imgbuild.store.notes import trim_notes
from imgbuild.store.store import Store
from imgbuild.transfer.events import TransferNotice, TransferStarted

if TYPE_CHECKING:
    from imgbuild.context.local import SeenDirectory
    from imgbuild.engine.assemble import Built
    from imgbuild.engine.build import BuildResult
    from imgbuild.errors import Span

_COARSE_NS = 2_000_000_000
_FINE_NS = 50_000_000
"""How young a time must not be: where file systems count whole seconds, or two of them, and where they count less."""


def write_note(
    watch: Watch, store: Store, plan: BuildPlan, graph: BuildGraph, seen: tuple[SeenDirectory, ...], built: Built, result: BuildResult
) -> None:
    """Note a build, if all that it takes is known. `seen` is what was looked at in the build context."""
    if watch.asked is None or not _is_repeatable(plan, graph):
        return
    index, events = _index(watch, graph, result), _events(watch, graph)
    if index is None or events is None:
        return
    with suppress(OSError):
        kept = watch.basis.graph if watch.basis is not None else _flat(graph, plan.source.text)
        note = _note(watch, watch.asked, plan, seen, built, result, index, events, kept)
        if note is not None:
            _write(store, watch.question.path, replay.pack(note))


def _flat(graph: BuildGraph, text: bytes) -> tuple[int, bytes] | None:
    data = flat(graph)
    return None if data is None else (crc32(text), data)


def _index(watch: Watch, graph: BuildGraph, result: BuildResult) -> tuple[int, ...] | None:
    """What tells that no name changes from now on; None where another than the build's own changed meanwhile, or one that it reads, or
    somebody else changed its own."""
    before, after = watch.index, replay.read_index(watch.question.root)
    if before is None or after is None or not _has_result(after[1], result):
        return None
    if before[1] != after[1]:
        own = {name.familiar() for name in result.names}
        if any(stage.base is not None and stage.base.name in own for stage in graph.stages.values()):
            return None
        if _foreign(before[1], own) != _foreign(after[1], own):
            return None
    return after[0]


def _has_result(index: bytes, result: BuildResult) -> bool:
    """Whether index.json says what the build has left there: another one may have taken its names since."""
    entries = _entries(index)
    if not result.names:
        return any(digest == result.digest for _, digest in entries)
    spellings = [(name.familiar(), str(name)) for name in result.names]
    return all({digest for name, digest in entries if name in either} == {result.digest} for either in spellings)


def _foreign(index: bytes, own: set[str]) -> list[tuple[str, str]]:
    """The names in index.json other than the build's own, with their digests."""
    return sorted((name, digest) for name, digest in _entries(index) if name and name not in own)


def _entries(index: bytes) -> list[tuple[str, str]]:
    """The names in index.json, "" for none, with their digests."""
    try:
        document = json.loads(index)
    except ValueError:
        return []
    entries = document.get("manifests") if isinstance(document, dict) else None
    return [_named(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _named(entry: Mapping[str, object]) -> tuple[str, str]:
    annotations, digest = entry.get("annotations"), entry.get("digest")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return (name if isinstance(name, str) else "", digest if isinstance(digest, str) else "")


def _note(
    watch: Watch,
    asked: dict[str, str | None],
    plan: BuildPlan,
    seen: tuple[SeenDirectory, ...],
    built: Built,
    result: BuildResult,
    index: tuple[int, ...],
    events: tuple[tuple[Any, ...], ...],
    graph: tuple[int, bytes] | None,
) -> tuple[Any, ...] | None:
    source = plan.source
    statuses = statuses_of(watch, source)
    if statuses is None or signatures(statuses) != watch.places:
        return None
    found = {place: status for place, status in statuses.items() if status is not None}
    nodes = chain.from_iterable((directory.status, *(node for _, node in directory.entries)) for directory in seen)
    # Of directories that are not listed, it only counts that they are there.
    times = [time for status in found.values() if not stat.S_ISDIR(status.st_mode) for time in (status.st_mtime_ns, status.st_ctime_ns)]
    if _any_young(chain(times, chain.from_iterable((node.mtime_ns, node.ctime_ns) for node in nodes)), watch.started):
        return None
    return (
        watch.question.words,
        replay.boot_id(),
        time.time_ns(),
        tuple(asked.items()),
        tuple([place for place, status in statuses.items() if status is None]),
        (*((place, signature(status)) for place, status in found.items()), (f"{watch.question.root}/index.json", index)),
        tuple(_blobs(built)),
        (os.path.realpath(source.context), tuple(map(_noted, seen))),
        events,
        graph,
        (result.image_id, result.digest, tuple(name.familiar() for name in result.names), result.build),
    )


def _any_young(times_ns: Iterable[int], started_ns: int) -> bool:
    """Whether a time is so near to the start of the build that it would not tell of another change."""
    coarse, fine = started_ns - _COARSE_NS, started_ns - _FINE_NS
    return any(time_ns >= coarse and (time_ns >= fine or time_ns % 1_000_000_000 == 0) for time_ns in times_ns)


def _is_repeatable(plan: BuildPlan, graph: BuildGraph) -> bool:
    source = plan.source
    if source.file is None or source.fetched or plan.contexts or plan.secrets or plan.agents or b"include" in source.text.lower():
        return False
    stages = graph.stages.values()
    if any(stage.tests for stage in stages):
        return False
    return not any(step.no_cache or (isinstance(step.op, CopyOp) and step.op.remotes) for stage in stages for step in stage.steps)


def _events(watch: Watch, graph: BuildGraph) -> tuple[tuple[Any, ...], ...] | None:
    """What the next build will say, in the form of a note: what was said before the first step, and the steps in the order in which they
    are found; None where more was said."""
    found: list[tuple[Any, ...]] = []
    stepping = False
    for number, event in enumerate(watch.events):
        match event:
            case Notice(text) if not stepping:
                found.append(("notice" if number >= watch.unlowered else "earlier", text))
            case Warned(rule, message, span) if not stepping:
                found.append(("warned", rule, message, *_place(span)))
            case StepStarted():
                stepping = True
            case Notice() | Warned() | TransferStarted() | TransferNotice():
                return None
    for index, number in in_order(graph):
        if number:
            step, _ = graph.stages[index].step_at(number)
            found.append(("step", step.name, *_place(step.span)))
    return tuple(found)


def _place(span: Span) -> tuple[str, int, int, int, int]:
    return (span.source.name, span.line, span.end_line, span.column, span.end_column)


def _blobs(built: Built) -> Iterator[tuple[str, int]]:
    descriptors = [built.descriptor]
    for image in built.images:
        descriptors += [image.descriptor, image.manifest.config, *image.manifest.layers]
    for digest, size in dict.fromkeys((descriptor.digest, descriptor.size) for descriptor in descriptors):
        yield digest.removeprefix("sha256:"), size


def _noted(directory: SeenDirectory) -> tuple[Any, ...]:
    return (
        "" if directory.path == "/" else directory.path,
        _numbers(directory.status),
        tuple([name for name, _ in directory.entries]),
        tuple([_numbers(node) for _, node in directory.entries]),
    )


def _numbers(node: Node) -> tuple[int, int, int, int]:
    return (node.ino, node.size, node.mtime_ns, node.ctime_ns)


def _write(store: Store, path: str, data: bytes) -> None:
    """Publish a note. It need not survive a crash of the machine: it is of this boot."""
    made = f"{path}.{os.getpid()}"  # one that a crash leaves behind is a note like any other when there are too many
    with open(made, "xb", buffering=0) as file:
        file.write(data)
    os.replace(made, path)
    trim_notes(store.root)
