"""A build from end to end: source, bases, graph, solution, image, name, outputs."""

from __future__ import annotations

import os
import time
from binascii import crc32

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.recorded import Explainer, note_plan, note_result, recorded
from imgbuild.engine.request import BuildPlan, BuildRequest, make_plan
from imgbuild.engine.step_options import opened_agents
from imgbuild.engine.workplace import Early, Workplace, keep_failed, workplace
from imgbuild.graph.ops import BuildGraph, CopyOp, RemoteSource
from imgbuild.hints import TYPE_CHECKING, Callable, Iterable, Iterator, Mapping
from imgbuild.light.contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import Descriptor
from imgbuild.oci.reference import Reference
from imgbuild.solve.events import Notice, StepsKnown, Warned
from imgbuild.store.journal import new_id
from imgbuild.values import dataclass, replace

if TYPE_CHECKING:
    from imgbuild.context.local import SeenDirectory
    from imgbuild.context.tree import Tree
    from imgbuild.engine.output_options import Output
    from imgbuild.engine.reads import OnReads
    from imgbuild.engine.replay import Basis, Question, Watch
    from imgbuild.layer.compression import Compression
    from imgbuild.solve.agents import Agents
    from imgbuild.solve.chronicle import Chronicle
    from imgbuild.solve.rooms import Rooms
    from imgbuild.solve.state import Solution
    from imgbuild.solve.verdicts import Verdicts
    from imgbuild.solve.workers import Crew, Later
    from imgbuild.transfer.ahead import Ahead

OnEvent = Callable[[object], None]
DEFAULT_PARALLEL = 8
_MOST_NOTED = 2000
"""Files and directories of a context that are noted for a replay: of more, it takes longer than to look at them again."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What was built. `image_id` is the config's digest, as docker means it, or an index's own; `digest` the manifest's or the index's;
    `build` the id of its record."""

    image_id: Digest
    descriptor: Descriptor
    names: tuple[Reference, ...]
    cached: int
    performed: int
    seconds: float
    build: str = ""

    @property
    def digest(self) -> Digest:
        return self.descriptor.digest


def build_image(
    invocation: Invocation,
    request: BuildRequest,
    on_event: OnEvent,
    *,
    question: Question | None = None,
    on_reads: OnReads | None = None,
    early: Early | None = None,
    basis: Basis | None = None,
) -> BuildResult:
    """Build, name and write out an image; an error leaves the store as it was, but for what later builds can use. `question`: what was
    asked of a note that did not answer; one is made, if it can be. `on_reads` is told what the build reads, before it does. `early` is
    the zygote, where that was started; `basis` what a note had for this build."""
    watch = None
    if on_reads is not None:
        from imgbuild.engine.reads import first_reads

        on_reads(first_reads(request, invocation.environ))
    if question is not None:
        from imgbuild.engine.replay import Watch

        watch = Watch(question, invocation, basis)
        invocation, on_event = watch.invocation, _heard(on_event, watch)
    plan = None if _is_elsewhere(request.context) else make_plan(invocation, request)
    if watch is not None and plan is not None:
        from imgbuild.engine.replay_places import look_at_places

        look_at_places(watch, plan.source)
    with ExitStack() as stack:
        place = stack.enter_context(workplace(invocation, sandboxes=True, early=early))
        stack.enter_context(place.store.lease())
        if place.notice:
            on_event(Notice(place.notice))
        if plan is None:
            from imgbuild.engine.elsewhere import brought_in

            request = stack.enter_context(brought_in(place, request, on_event))
            plan = make_plan(invocation, request)
        result = build_planned(place, request, plan, on_event, build_id=new_id(), watch=watch, on_reads=on_reads)
    if request.iidfile or request.metadata_file:
        from imgbuild.engine.result_files import write_files

        write_files(request, result)
    return result


def _heard(on_event: OnEvent, watch: Watch) -> OnEvent:
    def heard(event: object) -> None:
        watch.events.append(event)
        on_event(event)

    return heard


def _is_elsewhere(context: str) -> bool:
    if os.path.isdir(context):
        return False
    from imgbuild.engine.elsewhere import is_elsewhere

    return is_elsewhere(context)


def build_planned(
    place: Workplace,
    request: BuildRequest,
    plan: BuildPlan,
    on_event: OnEvent,
    *,
    build_id: str,
    crew: Crew | None = None,
    keep: bool = True,
    target: str = "",
    shown: Callable[[int], int] | None = None,
    watch: Watch | None = None,
    on_reads: OnReads | None = None,
) -> BuildResult:
    """As `build_image`, of a request that was checked, in a workplace whose store is leased, and without the files beside it.

    Builds with one `build_id` know each other's fresh steps. `crew`: what builds beside this one share with it, whose zygote has been
    started. Where `keep` is false, the image is only to be read by them: it gets no name and no output. `target` is the name of one that
    belongs to a bake, which shows a step by the number that `shown` makes of its own. `watch` has looked on from the
    start; `on_reads` as above.
    """
    build, bake = ("", build_id) if target else (build_id, "")
    with recorded(place, request, on_event, build=build, bake=bake, name=target, shown=shown) as chronicle:
        note_plan(chronicle, request, plan)
        result = _build(place, request, plan, build_id, crew, keep, chronicle, watch, on_reads)
        note_result(chronicle, result)
    return result


def _build(
    place: Workplace,
    request: BuildRequest,
    plan: BuildPlan,
    build_id: str,
    crew: Crew | None,
    keep: bool,
    chronicle: Chronicle,
    watch: Watch | None,
    on_reads: OnReads | None,
) -> BuildResult:
    started, on_event = time.time(), chronicle.on_event
    graph = _known_graph(place, watch, plan.source.text, on_event)
    if graph is None:
        from imgbuild.engine.lowering import lowered_graph

        graph = lowered_graph(place, request, plan, on_event)
    on_event(StepsKnown(sum(len(stage.steps) + len(stage.tests) for stage in graph.stages.values())))
    if on_reads is not None:
        from imgbuild.engine.reads import all_reads

        on_reads(all_reads(request, place.environ, plan, graph))
    compression = compression_of(place, request)
    names, outputs = (plan.names, plan.outputs) if keep else ((), ())
    from imgbuild.solve.workers import Later

    with Later() as later, _sent_ahead(place, outputs, names, compression) as ahead:
        with _reported(outputs, graph) as verdicts:
            solution, seen = _solve(place, request, plan, graph, build_id, chronicle, crew, verdicts, ahead, later, watch is not None)
        if plan.leaks is not None and solution.performed and plan.leaks.weak:
            on_event(Notice(f"too short or too plain to be looked for in layers: the secret {', '.join(map(repr, plan.leaks.weak))}"))
        from imgbuild.engine.assemble import assemble

        built = assemble(place.store, graph, solution, compression.kind, plan)
        if crew is not None:
            crew.check()
        meanwhile = later.go_on if later.left is not None else None
        for name in names:
            place.store.tags.set(name, built.descriptor, meanwhile)
        if not names:
            place.store.tags.add_untagged(built.descriptor, meanwhile)
        later.tell()
        if outputs:
            from imgbuild.engine.outputs import write_outputs

            write_outputs(place, outputs, names, built, solution, on_event, ahead)
    seconds = time.time() - started
    result = BuildResult(built.id, built.descriptor, names, solution.cached, solution.performed, seconds, chronicle.build)
    if watch is not None and seen is not None:
        from imgbuild.engine.replay_making import write_note

        write_note(watch, place.store, plan, graph, seen, built, result)
    return result


def _known_graph(place: Workplace, watch: Watch | None, text: bytes, on_event: OnEvent) -> BuildGraph | None:
    """The graph of the build before, where nothing is another one that it was made of; and what was said of it is said again."""
    if watch is None:
        return None
    watch.unlowered = len(watch.events)
    if watch.basis is None:
        return None
    from imgbuild.engine.flat import restored
    from imgbuild.engine.replay import is_still

    check, data = watch.basis.graph
    if crc32(text) != check or not is_still(watch.basis):
        watch.basis = None  # it was written to just now, or a base is another one
        return None
    graph = restored(data)
    if graph is None:
        watch.basis = None
        return None
    for base in filter(None, (stage.base for stage in graph.stages.values())):
        if not all(place.store.blobs.has(layer.blob.digest, layer.blob.size) for layer in base.layers):
            watch.basis = None  # it is brought in once more
            return None
    texts = {stage.span.source.name: stage.span.source for stage in graph.stages.values()}
    for event in watch.basis.events:
        if isinstance(event, Warned) and event.span.source.name in texts:  # a note has no lines, and the build's record shows them
            event = replace(event, span=replace(event.span, source=texts[event.span.source.name]))
        on_event(event)
    return graph


def _sent_ahead(
    place: Workplace, outputs: tuple[Output, ...], names: tuple[Reference, ...], compression: Compression
) -> AbstractContextManager[Ahead | None]:
    if not outputs:
        return nullcontext()
    from imgbuild.engine.outputs import sent_ahead

    return sent_ahead(place, outputs, names, compression)


def _reported(outputs: Iterable[Output], graph: BuildGraph) -> AbstractContextManager[Verdicts]:
    """What the tests of a build are heard by; with the reports that were asked for."""
    if any(output.kind == "junit" for output in outputs):
        from imgbuild.engine.junit import reported

        return reported(tuple(outputs), graph)
    from imgbuild.solve.verdicts import Verdicts

    return nullcontext(Verdicts())


def compression_of(place: Workplace, request: BuildRequest) -> Compression:
    """How layers of a build are compressed."""
    from imgbuild.layer.compression import Compression

    if request.compression:
        return Compression(request.compression)  # type: ignore[arg-type]
    return place.settings.compression or Compression()


def _solve(
    place: Workplace,
    request: BuildRequest,
    plan: BuildPlan,
    graph: BuildGraph,
    build_id: str,
    chronicle: Chronicle,
    crew: Crew | None,
    verdicts: Verdicts,
    ahead: Ahead | None,
    later: Later,
    watched: bool,
) -> tuple[Solution, tuple[SeenDirectory, ...] | None]:
    """The solution, and, where it is `watched`, what was looked at in the build context, if that is not too much."""
    from imgbuild.solve.solver import Solver

    # What may have a secret is looked through first, as a whole.
    final = _final_steps(graph) if ahead is not None and plan.leaks is None else frozenset()
    with opened_rooms(place, request, plan, graph, chronicle.on_event) as opened:
        rooms = replace(opened, begun=lambda step: ahead.begin if ahead is not None and id(step) in final else None)
        width = request.parallel or place.settings.parallelism or DEFAULT_PARALLEL
        seconds = place.settings.build_timeout
        solution = Solver(
            rooms, graph, chronicle.on_event, build=build_id, width=width, seconds=seconds, crew=crew, verdicts=verdicts,
            chronicle=chronicle, replay=request.replay_logs, causes=Explainer(place, graph, chronicle), later=later, idle=_load_the_rest,
        ).solve()  # fmt: skip
        return solution, rooms.context.looked_at(_MOST_NOTED) if watched else None


def _load_the_rest() -> None:
    """What comes after the last step."""
    import imgbuild.engine.assemble
    import imgbuild.engine.replay_making
    import imgbuild.linux.writing
    import imgbuild.store.removal  # noqa: F401


@contextmanager
def opened_rooms(place: Workplace, request: BuildRequest, plan: BuildPlan, graph: BuildGraph, on_event: OnEvent) -> Iterator[Rooms]:
    """What a solve of the graph works with."""
    from imgbuild.context.local import LocalContext
    from imgbuild.solve.etc import HostNetwork
    from imgbuild.solve.rooms import Rooms

    stats = None if plan.source.fetched and not plan.source.kept else place.store.index
    with (
        LocalContext(plan.source.context, plan.source.ignore, stats=stats, scratch=place.store.scratch.temporary) as context,
        opened_agents(plan.agents, place.environ) as agents,
        _from_elsewhere(place, request, plan, graph, agents, on_event) as (contexts, remotes),
    ):
        yield Rooms(
            store=place.store,
            zygote=place.start_zygote,
            features=place.features,
            context=context,
            compression=compression_of(place, request),
            host=HostNetwork(_read("/etc/resolv.conf")),
            secrets=plan.secrets,
            contexts=contexts,
            agents=agents,
            failures=Path(request.failure_dir) if request.failure_dir else None,
            keep=lambda: keep_failed(place.settings),
            silence=place.settings.silence,
            memory=place.settings.memory,
            remotes=remotes,
            leaks=plan.leaks,
        )


@contextmanager
def _from_elsewhere(
    place: Workplace, request: BuildRequest, plan: BuildPlan, graph: BuildGraph, agents: Agents | None, on_event: OnEvent
) -> Iterator[tuple[Mapping[str, Tree], Mapping[RemoteSource, Tree]]]:
    """The named contexts that are files, and what is behind URLs and in repositories, if the graph reads any."""
    if not plan.contexts and not any(isinstance(s.op, CopyOp) and s.op.remotes for stage in graph.stages.values() for s in stage.steps):
        yield {}, {}
        return
    from imgbuild.engine.contexts import opened_contexts
    from imgbuild.engine.remote import Fetchers, fetch_sources

    with (
        Fetchers(place, plan.secrets, on_event, offline=request.pull == "never", agents=agents) as fetchers,
        opened_contexts(place, plan.contexts, graph, fetchers) as contexts,
    ):
        yield contexts, fetch_sources(fetchers, graph)


def _final_steps(graph: BuildGraph) -> frozenset[int]:
    """The identities of the steps whose layers the images will have."""
    found: set[int] = set()
    for target in graph.targets:
        at: int | None = target
        while at is not None:
            stage = graph.stages[at]
            found.update(map(id, stage.steps))
            at = stage.parent
    return frozenset(found)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""
