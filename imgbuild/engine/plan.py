"""``imgbuild plan``: what a build would do, and why, without doing it: nothing runs, no layer is fetched, nothing is named or recorded."""

from __future__ import annotations

from imgbuild.engine.build import opened_rooms
from imgbuild.engine.elsewhere import brought_in, is_elsewhere
from imgbuild.engine.explained import Explanation, Naming, Past, earlier_builds
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.lowering import lowered_graph
from imgbuild.engine.recorded import subject_of
from imgbuild.engine.request import BuildPlan, BuildRequest, make_plan
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.graph.ops import BuildGraph, CopyOp, RunOp, Step
from imgbuild.hints import Callable, Iterable, Mapping
from imgbuild.insight.cause import Cause
from imgbuild.insight.earlier import parse_earlier
from imgbuild.light.contextlib import ExitStack
from imgbuild.solve.forecast import HIT, MISS, Forecast, Outlook
from imgbuild.solve.nodes import Node, stands_on
from imgbuild.solve.remembered import Miss
from imgbuild.solve.state import Solution, SolvedStage
from imgbuild.values import dataclass

OnEvent = Callable[[object], None]


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What would become of a step: "hit", "miss" or "unknown". `causes` (and `more`) say why a miss is one; `same` is the number of the
    equal step whose result a hit is, `until` are those that must run before it is known. `seconds` is how long it took when it was last
    performed, None where that is not known."""

    number: int
    step: Step
    outcome: str
    key: str
    causes: tuple[Cause, ...] = ()
    more: int = 0
    same: int | None = None
    until: tuple[int, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What a step reads of a build context: a change to it would have the steps with these numbers performed, which take so long."""

    number: int
    name: str
    steps: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class PlannedBuild:
    """A build that was not done. `seconds` is about how long what is not surely found takes, steps side by side where they can be."""

    steps: tuple[PlannedStep, ...]
    sources: tuple[Source, ...]
    seconds: float

    def count(self, outcome: str) -> int:
        """How many steps have this outcome."""
        return sum(step.outcome == outcome for step in self.steps)


def plan_build(invocation: Invocation, request: BuildRequest, on_event: OnEvent) -> PlannedBuild:
    """What `build_image` would do with the same request; an error where it would find one before anything is performed."""
    with ExitStack() as stack:
        place = stack.enter_context(workplace(invocation))
        stack.enter_context(place.store.lease())
        if is_elsewhere(request.context):
            request = stack.enter_context(brought_in(place, request, on_event))
        return planned_build(place, request, on_event)


def planned_build(place: Workplace, request: BuildRequest, on_event: OnEvent) -> PlannedBuild:
    """As `plan_build`, in a workplace whose store is leased."""
    plan = make_plan(place.invocation, request)
    return planned_graph(place, request, plan, lowered_graph(place, request, plan, on_event, layers=False), on_event)[0]


def planned_graph(
    place: Workplace, request: BuildRequest, plan: BuildPlan, graph: BuildGraph, on_event: OnEvent
) -> tuple[PlannedBuild, Solution | None]:
    """The same of a graph; and how it is solved, where all of it is here."""
    try:
        with opened_rooms(place, request, plan, graph, on_event) as rooms:
            forecast = Forecast(rooms, graph)
            outlooks = tuple(forecast.outlooks())
            subject = parse_earlier(subject_of(request, plan))
            past = Past(place.store, graph, earlier_builds(place.store, subject), subject.buildfile)
            states = forecast.states()
            planned = _planned(graph, outlooks, past)
            if states is None:
                return planned, None
            stages = {index: SolvedStage(steps, state.layers(), state) for index, (state, steps) in states.items()}
            return planned, Solution(stages, len(outlooks), 0)
    finally:
        place.store.index.disregard_hits()


def _planned(graph: BuildGraph, outlooks: Iterable[Outlook], past: Past) -> PlannedBuild:
    numbers: dict[Node, int] = {}
    keys: dict[Node, str] = {}
    steps: dict[Node, PlannedStep] = {}
    naming = Naming(graph, past, lambda node: keys.get(node, ""))
    for number, outlook in enumerate(outlooks, start=1):
        node, wanted = outlook.node, outlook.wanted
        numbers[node] = number
        keys[node] = wanted.key if wanted is not None else ""
        found = Explanation(())
        if outlook.outcome == MISS and wanted is None:
            found = Explanation((Cause("no-cache"),))
        elif outlook.outcome == MISS and wanted is not None:
            found = past.explain(Miss(number, node, wanted, outlook.why))
        steps[node] = PlannedStep(
            number=number,
            step=outlook.step,
            outcome=outlook.outcome,
            key=keys[node],
            causes=naming.named(node, number, found) if outlook.outcome == MISS else (),
            more=found.more,
            same=numbers[outlook.same] if outlook.same is not None else None,
            until=tuple(sorted(numbers[other] for other in outlook.until)),
            seconds=past.seconds(node),
        )
    costs = {node: 0.0 if step.outcome == HIT else step.seconds or 0.0 for node, step in steps.items()}
    every = {node: step.seconds or 0.0 for node, step in steps.items()}
    return PlannedBuild(tuple(steps.values()), tuple(_sources(graph, steps, every)), _longest(graph, costs))


def _sources(graph: BuildGraph, steps: Mapping[Node, PlannedStep], seconds: Mapping[Node, float]) -> Iterable[Source]:
    """What is read of build contexts, and who stands on it."""
    for node, step in steps.items():
        names = list(_contexts(step.step))
        if not names:
            continue
        above = {node}
        for other in steps:  # each comes after what it needs
            below, read = stands_on(graph, other)
            if above & {each for each in (below, *read) if each is not None} and not (step.step.independent and other == node):
                above.add(other)
        numbers = tuple(sorted(steps[other].number for other in above))
        took = _longest(graph, {other: seconds[other] if other in above else 0.0 for other in steps})
        yield from (Source(step.number, name, numbers, took) for name in names)


def _contexts(step: Step) -> Iterable[str]:
    if isinstance(step.op, CopyOp) and step.op.stage is None:
        yield from (f"{source} of context {step.op.context}" if step.op.context else source for source in step.op.sources)
    elif isinstance(step.op, RunOp):
        for mount in step.op.mounts:
            if mount.stage is None and (mount.kind == "bind" or mount.context):
                yield f"{mount.source} of context {mount.context}" if mount.context else mount.source


def _longest(graph: BuildGraph, seconds: Mapping[Node, float]) -> float:
    """How long the steps take that wait for each other longest."""
    done: dict[Node, float] = {}
    for node, own in seconds.items():
        below, read = stands_on(graph, node)
        done[node] = own + max((done[other] for other in (below, *read) if other is not None), default=0.0)
    return max(done.values(), default=0.0)
