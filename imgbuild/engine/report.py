"""``report``: all that is known of one build, brought together as values: its record, the build before it, its layers' files, its logs.

Reads only, and needs no rights: files are listed from the layers' blobs, so that nothing is made in the store for it. What is gone from
the store by now is left out, and is said to be.
"""

from __future__ import annotations

import os
from itertools import islice

from imgbuild.engine.explained import earlier_builds
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.machine import this_platform
from imgbuild.engine.performed import chain_of, last_step, layer_of, result_of
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import CorruptError, ImageError, LayerError, NotFoundError, StoreError
from imgbuild.hints import Callable, Iterator
from imgbuild.insight.beside import compare_builds
from imgbuild.insight.builds import BuildRecord, StepRecord, find_build, parse_build
from imgbuild.insight.earlier import parse_earlier
from imgbuild.insight.history import history
from imgbuild.layer import WHITEOUT
from imgbuild.layer.compress import decompressing
from imgbuild.layer.tar import read_tar
from imgbuild.light.collections import deque
from imgbuild.oci.digest import Digest
from imgbuild.report import LogLine, Report, ReportLayer, ReportLog
from imgbuild.report.files import Files, Tree
from imgbuild.report.logs import MOST_LINE
from imgbuild.report.markup import one_line
from imgbuild.store.history import History
from imgbuild.store.logs import has_log, read_log
from imgbuild.values import dataclass

Readable = Callable[[bytes], str]
"""Makes text of a line of output, without what would move a cursor."""

_GONE = (CorruptError, ImageError, LayerError, NotFoundError, StoreError, OSError)
_NODES, _LEAST_NODES = 5000, 60
"""Files and directories that are told by name: in all layers together, by their sizes, and in each in any case."""
_MOST_ENTRIES = 2_000_000
_HEAD_BYTES, _TAIL_BYTES, _ALL_BYTES = 48 << 10, 160 << 10, 3 << 20
"""Of logs: of each, and of all."""
_LONGEST_LINE = 1 << 16


def build_report(invocation: Invocation, name: str, readable: Readable) -> Report:
    """All that a report tells of the build that a name means."""
    with workplace(invocation, snapshots=False) as place, place.store.lease():
        build = find_build(History(place.store), name)
        before = _before(place, build)
        layers, of_image = _layers(place, build)
        return Report(
            build=build,
            before=before,
            comparison=compare_builds(before, build) if before is not None else None,
            layers=layers,
            of_image=of_image,
            logs=_logs(place, build, readable),
        )


def _before(place: Workplace, build: BuildRecord) -> BuildRecord | None:
    """The last build of the same target that was over before this one."""
    wanted = (build.target, build.bake_target)
    earlier = earlier_builds(place.store, parse_earlier(build.raw), build.started)
    found = (each for each in earlier if (each.target, each.bake_target) == wanted and each.status != "running")
    return next((parse_build(each.raw) for each in found), None)


def _layers(place: Workplace, build: BuildRecord) -> tuple[tuple[ReportLayer, ...], bool]:
    """The layers of the image, lowest first; where there is none, or not any more, those that the steps made."""
    image = _image_layers(place, build) if build.digest else None
    found = _step_layers(place, build) if image is None else image
    whole = sum(layer.uncompressed for layer in found) or 1
    made: dict[tuple[str, int], tuple[Files | None, int]] = {}
    layers = []
    for number, layer in enumerate(found, 1):
        budget = _LEAST_NODES + _NODES * layer.uncompressed // whole
        key = layer.diff_id, budget
        if key not in made:
            made[key] = _files(place, layer.blob, budget)
        files, deleted = made[key]
        number_of = layer.step.number if layer.step is not None else None
        layers.append(ReportLayer(number, number_of, layer.instruction, layer.diff_id, layer.size, layer.uncompressed, files, deleted))
    return tuple(layers), image is not None


@dataclass(frozen=True, slots=True)
class _Layer:
    step: StepRecord | None
    instruction: str
    diff_id: str
    size: int
    uncompressed: int
    blob: Digest | None


def _image_layers(place: Workplace, build: BuildRecord) -> list[_Layer] | None:
    try:
        image = result_of(place, build)
        rows = history(place.store, image.descriptor, this_platform(), lenient=True)
    except _GONE:
        return None
    steps = _chain(place, build)
    stored = {layer.diff_id: layer.blob.size for layer in image.layers}
    found: list[_Layer] = []
    for row in rows:  # the topmost first, as the chain is walked
        if row.layer is not None:
            step = steps.pop() if steps and steps[-1].layer is not None and steps[-1].layer.diff_id == row.layer else None
            instruction = step.text if step is not None else one_line(row.created_by)
            found.append(_Layer(step, instruction, row.layer, stored[row.layer], row.size, row.blob))
    return found[::-1]


def _chain(place: Workplace, build: BuildRecord) -> list[StepRecord]:
    """The steps that made layers of the image, the topmost last."""
    try:
        return [step for step in chain_of(build, last_step(place, build)) if step.layer is not None]
    except _GONE:
        return []


def _step_layers(place: Workplace, build: BuildRecord) -> list[_Layer]:
    found = []
    for step in build.steps:
        if step.layer is not None and not step.test:
            try:
                blob: Digest | None = layer_of(place, step).blob.digest
            except _GONE:
                blob = None
            found.append(_Layer(step, step.text, step.layer.diff_id, step.layer.size, step.layer.uncompressed, blob))
    return found


def _files(place: Workplace, blob: Digest | None, budget: int) -> tuple[Files | None, int]:
    """The files of a layer, and how many names it deletes; None where they can't be read."""
    tree, deleted = Tree(), 0
    if blob is None:
        return None, 0
    try:
        with place.store.blobs.open(blob) as stream:
            for entry, _ in islice(read_tar(decompressing(stream)), _MOST_ENTRIES):
                if entry.name.rpartition(b"/")[2].startswith(WHITEOUT):
                    deleted += 1
                elif entry.kind == "dir":
                    tree.add(os.fsdecode(entry.name), None)
                else:
                    tree.add(os.fsdecode(entry.name), entry.size if entry.kind == "file" else 0)
    except _GONE:
        return None, 0
    return tree.bounded(budget), deleted


def _logs(place: Workplace, build: BuildRecord, readable: Readable) -> tuple[ReportLog, ...]:
    """What the steps wrote; of cached ones, when they were performed."""
    written = [step for step in build.steps if step.log]
    share = min(1.0, _ALL_BYTES / ((_HEAD_BYTES + _TAIL_BYTES) * max(1, len(written))))
    found = []
    for step in written:
        if not has_log(place.store.root, step.log):
            found.append(ReportLog(step.number, step.build, gone=True))
            continue
        kept = _Kept(int(_HEAD_BYTES * share), int(_TAIL_BYTES * share))
        for seconds, line in _lines(read_log(place.store.root, step.log)):
            kept.add(LogLine(seconds, readable(line)[: 2 * MOST_LINE]))
        found.append(kept.log(step))
    return tuple(found)


class _Kept:
    """The first and the last lines of a log, as many as there is room for."""

    def __init__(self, head: int, tail: int) -> None:
        self._room, self._left = head, tail
        self._head: list[LogLine] = []
        self._tail: deque[LogLine] = deque()
        self._lines = self._bytes = 0

    def add(self, line: LogLine) -> None:
        if self._room > 0 and not self._tail:
            self._room -= _weight(line)
            self._head.append(line)
            return
        self._tail.append(line)
        self._left -= _weight(line)
        while self._left < 0 and len(self._tail) > 1:
            out = self._tail.popleft()
            self._left += _weight(out)
            self._lines += 1
            self._bytes += len(out.text) + 1

    def log(self, step: StepRecord) -> ReportLog:
        return ReportLog(step.number, step.build, tuple(self._head), tuple(self._tail), self._lines, self._bytes)


def _weight(line: LogLine) -> int:
    """About what a line takes in the page."""
    return len(line.text) + 30


def _lines(pieces: Iterator[tuple[float, int, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The lines of a log, each with the time of its end; of one that has no end, parts."""
    rest, last = b"", 0.0
    for seconds, _, data in pieces:
        *lines, rest = (rest + data).split(b"\n")
        yield from ((seconds, line) for line in lines)
        if len(rest) > _LONGEST_LINE:
            yield seconds, rest
            rest = b""
        last = seconds
    if rest:
        yield last, rest
