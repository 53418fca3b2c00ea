"""``blame``: which layer, step and input wrote a path of an image, and, where they are all asked for, who did so before, or deleted it."""

from __future__ import annotations

import stat

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.machine import this_platform
from imgbuild.engine.performed import layers_after, performers
from imgbuild.engine.subjects import image_lowers, subject_image
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import ImgbuildError, NotFoundError, UsageError
from imgbuild.hints import Iterator
from imgbuild.insight.blame import Blamed, Origin, copied_from, decisive
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.insight.history import history
from imgbuild.layer.failures import explained
from imgbuild.light.contextlib import ExitStack
from imgbuild.linux.node import Node
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import Layer
from imgbuild.snapshot import Lowers
from imgbuild.snapshot.traces import Trace, opened_lowers, traces
from imgbuild.snapshot.union import UnionView
from imgbuild.transfer.images import Image
from imgbuild.values import dataclass

_MOST_STAGES = 16
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class BlameRequest:
    """Whose path it is. `everything`: all that any layer did to it; `recursive`: each file below it."""

    image: str
    path: str
    platform: str | None = None
    everything: bool = False
    recursive: bool = False


def blame(invocation: Invocation, request: BlameRequest) -> Iterator[Blamed]:
    """What wrote the path, by files, the last first. NotFoundError where the image does not have it, and not all was asked for."""
    with ExitStack() as stack:
        place = stack.enter_context(workplace(invocation))
        stack.enter_context(place.store.lease())
        image = subject_image(place, request.image, request.platform)
        history = _Layers(place, image.layers, origins(place, image, request.image))
        yield from history.blame(request)


class _Layers:
    """The layers of a root file system, and where each comes from."""

    def __init__(self, place: Workplace, layers: tuple[Layer, ...], origins: tuple[Origin, ...], depth: int = 0) -> None:
        self._place = place
        self._lowers: Lowers = image_lowers(place, layers)
        self._origins = origins
        self._depth = depth
        self._stages: dict[tuple[str, int], _Layers] = {}

    def blame(self, request: BlameRequest) -> Iterator[Blamed]:
        rootless = self._place.features.rootless
        with explained(request.path), UnionView(self._lowers, userxattr=rootless) as view:
            top = view.resolve(f"/{request.path}", follow_last=False)
            node = view.lstat(top)
            if request.recursive and node is not None:
                if not stat.S_ISDIR(node.mode):
                    raise UsageError(f"{top} is no directory", hint="leave out --recursive")
                if not request.everything:
                    yield from self._seen_below(view, top)
                    return
            with opened_lowers(self._lowers, userxattr=rootless) as readers:
                paths = [top] if node is None or not request.recursive else (path for path, _ in _files(view, top))
                for path in paths:
                    found = tuple(decisive(traces(readers, path)))
                    if not found or (node is None and not request.everything):
                        raise self._missing(request, path, found)
                    for trace in found if request.everything else found[:1]:
                        yield self._blamed(path, trace)

    def last(self, path: str) -> Blamed | None:
        """Who wrote what is at a path, its symlinks followed on the way."""
        rootless = self._place.features.rootless
        with UnionView(self._lowers, userxattr=rootless) as view, opened_lowers(self._lowers, userxattr=rootless) as readers:
            real = view.resolve(path, follow_last=False)
            trace = next(decisive(traces(readers, real)), None)
            return None if trace is None else self._blamed(real, trace)

    def _seen_below(self, view: UnionView, top: str) -> Iterator[Blamed]:
        """Who wrote the files that are there: those that the union shows, without a further look."""
        numbers = {lower: number for number, lower in enumerate(self._lowers)}
        for path, node in _files(view, top):
            yield self._blamed(path, Trace(numbers[view.made_of(path)[0]], "wrote", path, node))

    def _blamed(self, path: str, trace: Trace) -> Blamed:
        origin = self._origins[trace.lower]
        if trace.said != "wrote" or not origin.record:
            return Blamed(path, trace, origin)
        source = copied_from(origin.record, origin.instruction, path)
        return Blamed(path, trace, origin, source, self._via(origin, source))

    def _via(self, origin: Origin, source: str) -> Blamed | None:
        """Who wrote the file in the stage that it was copied from."""
        path, _, stage = source.partition(" of --from=")
        if not stage or not origin.performed or self._depth >= _MOST_STAGES:
            return None
        build, step = origin.performed
        read = [other for number in step.reads if (other := build.step(number)) is not None]
        if len(read) != 1:
            return None
        key = build.id, read[0].number
        try:
            if key not in self._stages:
                layers = layers_after(self._place, build, read[0])
                made = _performed(self._place, layers, Digest(build.digest))
                self._stages[key] = _Layers(self._place, layers, made, self._depth + 1)
            return self._stages[key].last(path)
        except ImgbuildError:
            return None  # what is known is said all the same

    def _missing(self, request: BlameRequest, path: str, found: tuple[Trace, ...]) -> NotFoundError:
        if not found:
            return NotFoundError(f"{request.image} has no {request.path}, and never had")
        deleted = found[0]
        origin = self._origins[deleted.lower]
        words = " ".join(origin.instruction.split()) or origin.diff_id
        who = f"{words if len(words) <= _LONGEST else words[:_LONGEST] + '...'} (layer {origin.number})"
        what = "it was deleted" if deleted.at == path else f"{deleted.at} was deleted"
        return NotFoundError(f"{request.image} has no {request.path}: {what} by {who}", hint="--all shows who wrote it before")


def _files(view: UnionView, top: str) -> Iterator[tuple[str, Node]]:
    return ((path, node) for path, node in view.walk(top) if not stat.S_ISDIR(node.mode))


def origins(place: Workplace, image: Image, name: str) -> tuple[Origin, ...]:
    """Where an image's layers come from: by its history, and by what was recorded of builds here."""
    rows = [row for row in reversed(history(place.store, image.descriptor, this_platform(), name)) if row.layer is not None]
    made = _performed(place, image.layers, image.descriptor.digest)
    if len(rows) != len(made):
        return made
    return tuple(
        Origin(each.number, each.diff_id, each.instruction or row.created_by, row.created, each.build, each.step, each.place,
               each.record, each.performed)
        for row, each in zip(rows, made, strict=True)
    )  # fmt: skip


def _performed(place: Workplace, layers: tuple[Layer, ...], digest: Digest) -> tuple[Origin, ...]:
    found = performers(place, tuple(layer.diff_id for layer in layers), digest)
    return tuple(_origin(place, number + 1, layer, found.get(number)) for number, layer in enumerate(layers))


def _origin(place: Workplace, number: int, layer: Layer, performed: tuple[BuildRecord, StepRecord] | None) -> Origin:
    if performed is None:
        return Origin(number, layer.diff_id)
    build, step = performed
    row = place.store.index.step(step.key) if step.key else None
    record = {} if row is None else dict(row.fields())
    where = f"{step.file.removeprefix(build.context.rstrip('/') + '/')}:{step.line}" if step.line else ""
    return Origin(number, layer.diff_id, step.text, "", build.id, step.number, where, record, performed)
