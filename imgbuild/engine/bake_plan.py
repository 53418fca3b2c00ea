"""``imgbuild bake --plan``: what a bake would do for each of its targets, without doing it.

A target that reads another one's result is looked up with what that would be, if all of it is there: then its image is made up here, and
kept nowhere. Else it is not known before that was built. What two targets share is said of both, though a bake performs it once.
"""

from __future__ import annotations

from imgbuild.engine.assemble import Assembled, assemble, compressed_here
from imgbuild.engine.bake import BakeRequest, of_target, request_for, selected
from imgbuild.engine.build import OnEvent, compression_of
from imgbuild.engine.contexts import ContextBase, NamedContext, context_image
from imgbuild.engine.elsewhere import brought_in
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.lowering import lowered_graph
from imgbuild.engine.plan import PlannedBuild, planned_graph
from imgbuild.engine.request import BuildPlan, BuildRequest, make_plan
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import ImageError
from imgbuild.graph.ops import BuildGraph
from imgbuild.hints import TYPE_CHECKING, cast
from imgbuild.light.contextlib import ExitStack
from imgbuild.oci.digest import Digest, digest_of
from imgbuild.oci.image import LAYER_COMPRESSION
from imgbuild.oci.platform import Platform
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.solve.state import Solution
    from imgbuild.store.index import Index
    from imgbuild.store.store import Store


@dataclass(frozen=True, slots=True)
class PlannedTarget:
    """What would become of a target; where `build` is None, that is not known before the targets `until` were built."""

    build: PlannedBuild | None
    until: tuple[str, ...] = ()

    @property
    def cached(self) -> bool:
        """Whether nothing of it would be performed."""
        return self.build is not None and self.build.count("hit") == len(self.build.steps)


def plan_targets(invocation: Invocation, request: BakeRequest, on_event: OnEvent) -> dict[str, PlannedTarget]:
    """What `bake` would do with the same request, by target, each after those that it reads; an error where that would find one first."""
    selection = selected(invocation, request, on_event)
    planned: dict[str, PlannedTarget] = {}
    with ExitStack() as stack:
        place = stack.enter_context(workplace(invocation))
        stack.enter_context(place.store.lease())
        made: dict[str, tuple[Assembled, ...]] = {}
        pending = list(selection.targets)
        while pending:
            name = next(each for each in pending if not set(selection.targets[each].linked()) & set(pending))
            pending.remove(name)
            target = selection.targets[name]
            until = tuple(other for other in target.linked() if other not in made)
            if until:
                planned[name] = PlannedTarget(None, until)
                continue
            build = request_for(request, selection, name, on_event)
            with of_target(target):
                build = stack.enter_context(brought_in(place, build, on_event))
                images = _plan(place, build, planned, name, made, on_event)
            if images:
                made[name] = images
    return {name: planned[name] for name in selection.targets}


def _plan(
    place: Workplace, request: BuildRequest, planned: dict[str, PlannedTarget], name: str, made: dict[str, tuple[Assembled, ...]],
    on_event: OnEvent,
) -> tuple[Assembled, ...]:  # fmt: skip
    """Plan one target; its images, where all of it is there."""
    plan = make_plan(place.invocation, request)

    def images(place: Workplace, context: NamedContext, platform: Platform) -> ContextBase:
        if context.kind == "stored" and context.value in made:
            return _for(platform, context.value, made[context.value])
        return context_image(place, context, platform)

    graph = lowered_graph(place, request, plan, on_event, layers=False, images=images)
    build, solution = planned_graph(place, request, plan, graph, on_event)
    planned[name] = PlannedTarget(build)
    return _made_up(place, request, plan, graph, solution) if planned[name].cached and solution is not None else ()


def _for(platform: Platform, name: str, images: tuple[Assembled, ...]) -> Assembled:
    found = next((image for image in images if platform.accepts(image.platform)), None)
    if found is None:
        raise ImageError(f"the target {name} is not built for {platform}", hint="add it to its platforms")
    return found


def _made_up(
    place: Workplace, request: BuildRequest, plan: BuildPlan, graph: BuildGraph, solution: Solution
) -> tuple[Assembled, ...]:
    """The images as a build would make them, without their being written; none where layers would be compressed in another way."""
    kind = compression_of(place, request).kind
    layers = [layer for stage in solution.stages.values() for layer in stage.layers]
    if any(compressed_here(place.store, layer) and LAYER_COMPRESSION[layer.blob.media_type] != kind for layer in layers):
        return ()
    return assemble(cast("Store", _Unwritten(place.store.index)), graph, solution, kind, plan).images


class _Unwritten:
    """A store as far as `assemble` needs one, which keeps nothing."""

    def __init__(self, index: Index) -> None:
        self.index = index

    @property
    def blobs(self) -> _Unwritten:
        return self

    def put(self, data: bytes) -> Digest:
        return digest_of(data)
