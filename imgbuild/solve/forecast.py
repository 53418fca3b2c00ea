"""What a solve of a graph would do, without doing it: each step is looked up as `solver` does, and nothing is performed.

Where a step would be performed, its key is known and so are the keys of those that stand on it; not known is what it will leave. So a step
above it is surely performed if there is no record of it; if there is one, that counts if the step below leaves the same again. What a
stage's files are is not known either before the stage is: what reads them has no key yet. Without the cache such a step is performed all
the same, unless the build has another one that may turn out to be its equal.
"""

from __future__ import annotations

from imgbuild.errors import ImgbuildError
from imgbuild.graph.key import key_record, step_key
from imgbuild.graph.ops import BuildGraph, Step
from imgbuild.hints import Iterator
from imgbuild.light.collections import Counter
from imgbuild.oci.digest import chain_id
from imgbuild.oci.image import Layer
from imgbuild.snapshot import Lowers
from imgbuild.solve.inputs import remember, step_inputs
from imgbuild.solve.nodes import Node, end, in_order
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.state import Absent, RootState, StepLayer, Wanted, identity_after, look_up
from imgbuild.values import dataclass

HIT, MISS, UNKNOWN = "hit", "miss", "unknown"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would become of a step. A "hit" may be the result of an equal step of this build, `same`; `why` a "miss" is one is said as in
    `state.Absent`. What is "unknown" depends on what the steps `until` leave. `wanted` is None where the step's key is not known yet."""

    node: Node
    step: Step
    outcome: str
    wanted: Wanted | None = None
    why: str = ""
    same: Node | None = None
    until: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class _After:
    """What is known of a root file system: how the next step's key calls it, if that is known; the state itself, where it is; and which
    steps it waits for."""

    identity: str | None
    state: RootState | None
    until: tuple[Node, ...] = ()


class Forecast:
    """Looks one graph up, once, in one thread. `build` is what the index would call the build."""

    def __init__(self, rooms: Rooms, graph: BuildGraph, build: str = "") -> None:
        self._rooms = rooms
        self._graph = graph
        self._build = build
        self._after: dict[Node, _After] = {}
        self._performed: dict[str, Node] = {}
        self._ops: Counter[bytes] | None = None

    def outlooks(self) -> Iterator[Outlook]:
        """Every step, after those that it needs; ContextError and the like where the build would fail for it."""
        for index, number in in_order(self._graph):
            if number == 0:
                self._after[(index, 0)] = self._origin(index)
                continue
            step, before = self._graph.stages[index].step_at(number)
            try:
                yield self._outlook((index, number), step, self._after[(index, before)])
            except ImgbuildError as error:
                raise error.located(step.span) from None

    def states(self) -> dict[int, tuple[RootState, tuple[StepLayer, ...]]] | None:
        """Once every step was looked up: what each stage ends with, and what its steps left; None where not all of that is here."""
        found = {}
        for index, stage in self._graph.stages.items():
            every = [self._after[(index, number)].state for number in range(1, len(stage.steps) + 1)]
            last = self._after[end(self._graph, index)].state
            own = [state.own() for state in every if state is not None]
            if last is None or None in every:
                return None
            found[index] = (last, tuple(result for result in own if result is not None))
        return found

    def _origin(self, index: int) -> _After:
        stage = self._graph.stages[index]
        if stage.parent is not None:
            return self._after[end(self._graph, stage.parent)]
        layers = stage.base.layers if stage.base is not None else ()
        identity = chain_id(layer.diff_id for layer in layers)
        return _After(identity, RootState(identity, self._materialize, base=stage.base))

    def _outlook(self, node: Node, step: Step, below: _After) -> Outlook:
        read = [self._after[end(self._graph, other)] for other in step.stages]
        unread = tuple(dict.fromkeys(each for after in read if after.state is None for each in after.until))
        if unread or (below.identity is None and not step.independent):
            if step.no_cache and self._is_alone(step):
                self._after[node] = _After(None, None, (node,))
                return Outlook(node, step, MISS, why="cache")
            until = unread or below.until
            self._after[node] = _After(None, None, (*until, node))
            return Outlook(node, step, UNKNOWN, until=until)
        wanted = self._want(step, below)
        identity = identity_after(self._stand_in(below), step, wanted.key) if below.identity is not None else None
        if (same := self._performed.get(wanted.key)) is not None:
            self._after[node] = _After(identity, None, self._after[same].until)
            return Outlook(node, step, HIT, wanted, same=same)
        found = self._found(step, wanted, below)
        if found is None:
            self._after[node] = _After(identity, None, (*below.until, node))
            return Outlook(node, step, UNKNOWN, wanted, until=below.until)
        if isinstance(found, Absent):
            self._performed[wanted.key] = node
            self._after[node] = _After(identity, None, (node,))
            return Outlook(node, step, MISS, wanted, found.why)
        state = None
        if below.state is not None and identity is not None:
            state = RootState(identity, self._materialize, parent=below.state, result=found)
        self._after[node] = _After(identity, state, () if state is not None else below.until)
        return Outlook(node, step, HIT, wanted)

    def _is_alone(self, step: Step) -> bool:
        """Whether no other step does the same, whatever it does that on."""
        if self._ops is None:
            every = (step for stage in self._graph.stages.values() for step in (*stage.steps, *(test.step for test in stage.tests)))
            self._ops = Counter(key_record(step.op, "", {}) for step in every)
        return self._ops[key_record(step.op, "", {})] == 1

    def _found(self, step: Step, wanted: Wanted, below: _After) -> StepLayer | Absent | None:
        """What the index has; None where that counts only if the step below leaves what it left before."""
        if below.state is not None or step.independent:
            return look_up(self._rooms, step, wanted.key, self._stand_in(below), self._build)
        if self._rooms.store.index.step(wanted.key) is None:
            return Absent("record")
        return Absent("cache") if step.no_cache else None

    def _stand_in(self, below: _After) -> RootState:
        """The state, or what has its identity."""
        return below.state or RootState(below.identity or "", self._materialize)

    def _want(self, step: Step, below: _After) -> Wanted:
        inputs = step_inputs(self._rooms, step, self._stage_state)
        for memo in inputs.memos:
            remember(self._rooms, memo)
        made = key_record(step.op, "" if step.independent else below.identity or "", inputs.digests)
        return Wanted(step, made, step_key(made), inputs.kept)

    def _stage_state(self, index: int) -> RootState:
        state = self._after[end(self._graph, index)].state
        assert state is not None
        return state

    def _materialize(self, layers: tuple[Layer, ...]) -> Lowers:
        from imgbuild.rootfs.materialize import materialize

        return materialize(self._rooms.store, layers, features=self._rooms.features)
