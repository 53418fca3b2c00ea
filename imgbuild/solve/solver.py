"""Solves a graph: each needed step is looked up by its key, or performed once, beside whatever does not depend on it.

First everything is looked up, in one thread: where all is cached, no thread and no zygote is started, and the rooms that perform
steps are not even imported. What was not found is then performed in parallel.

A step's key is known when all that it reads is. Whoever finds no record takes the step's lock, looks again, and performs it; another
thread or process that wants the same step waits there and then finds the record. The lock is kept until the layer is captured.
"""

from __future__ import annotations

import time

from imgbuild.errors import ImgbuildError, LeakError, StepFailed
from imgbuild.graph.key import key_record, step_key
from imgbuild.graph.ops import BuildGraph, RunOp, Step, TestOp
from imgbuild.hints import TYPE_CHECKING, Callable, Hashable
from imgbuild.light import threading
from imgbuild.light.contextlib import ExitStack
from imgbuild.light.functools import partial
from imgbuild.oci.digest import chain_id
from imgbuild.oci.image import Layer
from imgbuild.snapshot import Lower, Lowers
from imgbuild.solve.captures import Captures
from imgbuild.solve.chronicle import Chronicle
from imgbuild.solve.events import OnEvent, StepFinished, StepStarted
from imgbuild.solve.inputs import Memo, remember, step_inputs
from imgbuild.solve.nodes import Node, end, in_order, needs, ordinary_runs, tests
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.state import Absent, Promise, RootState, Solution, SolvedStage, StepLayer, Wanted, identity_after, look_up
from imgbuild.solve.verdicts import Verdicts
from imgbuild.solve.workers import Crew, Later, Workers, beside
from imgbuild.store.locks import Interrupted
from imgbuild.values import dataclass, field

if TYPE_CHECKING:
    from imgbuild.rootfs.capture import Captured
    from imgbuild.rootfs.stubs import StubShelf
    from imgbuild.sandbox.spec import Usage
    from imgbuild.solve.opened import Openings
    from imgbuild.solve.telling import Causes

_JOIN_SECONDS = 5.0
_SHORT_SECONDS = 0.005


@dataclass(slots=True)
class _Tally:
    """Counts, under the lock of the solver."""

    cached: int = 0
    performed: int = 0
    missing: int = 0
    next_number: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Solver:
    """Solves one graph, once. `width` steps at most run at once, and all of it in `seconds`, if there is such a limit. `build` is
    what the index calls this build and those beside it; `chronicle` notes what it does. `replay`: what a cached step once wrote is said
    again. `causes` know why a step was not found; that of the last one is left to who has time `later`. `idle` is called once, when a
    command runs and there is nothing else to do."""

    def __init__(
        self,
        rooms: Rooms,
        graph: BuildGraph,
        on_event: OnEvent,
        *,
        build: str,
        width: int,
        seconds: float | None = None,
        crew: Crew | None = None,
        verdicts: Verdicts | None = None,
        chronicle: Chronicle | None = None,
        replay: bool = False,
        causes: Causes,
        later: Later,
        idle: Callable[[], object] = lambda: None,
    ) -> None:
        self._rooms = rooms
        self._graph = graph
        self._on_event = on_event
        self._chronicle = chronicle or Chronicle(str(rooms.store.root), {"id": build})
        self._chronicle.lowered(graph)
        self._replay = replay
        self._causes = causes
        self._build = build
        self._width = width
        self._workers = Workers(width, seconds, crew, self._chronicle.tick)
        self._crew = crew
        self._captures = Captures(2, idle)
        self._hurried = threading.Event()
        self._states: dict[Node, RootState] = {}
        self._wanted: dict[Node, Wanted] = {}
        self._tally = _Tally()
        self._memos: list[Memo] = []
        self._ending = ExitStack()
        self._leak: LeakError | None = None
        self._later = later
        self._stubs: StubShelf | None = None
        self._noting: Openings | None = None
        self._verdicts = verdicts or Verdicts()

    def solve(self) -> Solution:
        """The solution; StepFailed or another located error where a step can't be done, or, when all else is done, where a test
        failed. On any exception, KeyboardInterrupt included, everything that was started has been told to stop."""
        with self._ending:
            return self._solve()

    def _solve(self) -> Solution:
        order = in_order(self._graph)
        try:
            missing = [node for node in order if not self._find(*node)]
            if missing:
                self._perform_all(missing)
            stages = {index: self._solved(index) for index in self._graph.stages}
            for memo in self._memos:
                remember(self._rooms, memo)
        except BaseException as error:
            hurried = not isinstance(error, Exception) or (self._crew is not None and self._crew.hurried.is_set())
            self._abandon(hurried=hurried)
            if self._leak is not None and isinstance(error, Exception):
                raise self._leak from None  # which counts more than whatever else failed
            raise
        self._verdicts.check()
        return Solution(stages, self._tally.cached, self._tally.performed)

    def _find(self, index: int, number: int) -> bool:
        """Look a node up before anything is performed; False where it must be, or stands on what must be."""
        if any(other not in self._states for other in needs(self._graph, (index, number))):
            return False
        if number == 0:
            self._origin(index)
            return True
        step, before = self._graph.stages[index].step_at(number)
        started = time.monotonic()
        try:
            wanted = self._want(index, number, step)
        except ImgbuildError as error:
            raise error.located(step.span) from None
        found = self._lookup(wanted, self._states[(index, before)])
        if isinstance(found, Absent):
            return False
        shown, seconds = self._next_number(), time.monotonic() - started
        self._on_event(StepStarted(shown, step.name, step.span))
        self._found(index, number, wanted, found)
        self._chronicle.found(shown, (index, number), step, wanted.key, found.ledger, seconds)
        self._say_again(shown, found)
        self._announce(step, shown, "cached", seconds)
        return True

    def _perform_all(self, missing: list[Node]) -> None:
        if self._rooms.compression.kind != "zstd":
            import typing  # noqa: F401  # dataclasses look into it, even where another thread has loaded only half of it

        if any(number and isinstance(self._graph.stages[index].step_at(number)[0].op, RunOp) for index, number in missing):
            # The last moment with one thread: from here on, only the zygote makes processes.
            count, stages = ordinary_runs(self._graph, missing)
            self._rooms.zygote().expect(count, min(self._width, stages))
        from imgbuild.solve.memory import Memory
        from imgbuild.solve.performing import Performing

        memory = (self._crew.memory if self._crew is not None else None) or Memory(self._rooms.memory)
        self._performing = Performing(
            self._rooms, self._chronicle, self._captures, memory, self._on_event, self._stage_state, self._shelf,
            self._workers.stopped.is_set, self._check_stopped, self._openings,
        )  # fmt: skip
        self._chronicle.begin_soon()
        self._tally.missing = len(missing)
        tasks: dict[Hashable, Callable[[], None]] = {node: partial(self._node, *node) for node in missing}
        before: dict[Hashable, list[Hashable]] = {node: [other for other in needs(self._graph, node) if other in tasks] for node in missing}
        beside(lambda: self._work(tasks, before))

    def _work(self, tasks: dict[Hashable, Callable[[], None]], before: dict[Hashable, list[Hashable]]) -> None:
        self._workers.run(tasks, before, frozenset(tests(self._graph)))
        self._chronicle.tick()
        if self._later.left is not None and not self._captures.join(_SHORT_SECONDS):
            self._later.tell()  # there is time now
        self._captures.join()

    def _node(self, index: int, number: int) -> None:
        try:
            self._origin(index) if number == 0 else self._step(index, number, self._graph.stages[index].step_at(number)[0])
        finally:
            with self._tally.lock:
                self._tally.missing -= 1

    def _solved(self, index: int) -> SolvedStage:
        stage = self._graph.stages[index]
        own = [self._states[(index, number)].own() for number in range(1, len(stage.steps) + 1)]
        state = self._states[end(self._graph, index)]
        return SolvedStage(tuple(result for result in own if result is not None), state.layers(), state)

    def _abandon(self, *, hurried: bool) -> None:
        """Stop what runs. Steps that were done are still captured, so that the next build finds them, unless somebody waits for the end:
        then all threads are told to stop, and have a moment to clean up after themselves."""
        self._workers.stop()
        try:
            if not hurried:
                self._workers.join(None)
                self._captures.join()
        finally:
            self._hurried.set()
            deadline = time.monotonic() + _JOIN_SECONDS
            self._workers.join(_JOIN_SECONDS)
            self._captures.join(max(0.0, deadline - time.monotonic()))

    def _check_stopped(self) -> None:
        if self._workers.stopped.is_set():
            raise Interrupted("the step was stopped")

    def _check_hurried(self) -> None:
        if self._hurried.is_set() or (self._crew is not None and self._crew.hurried.is_set()):
            raise Interrupted("the capture was stopped")

    def _materialize(self, layers: tuple[Layer, ...]) -> Lowers:
        from imgbuild.rootfs.materialize import materialize

        return materialize(self._rooms.store, layers, features=self._rooms.features, cancelled=self._workers.stopped.is_set)

    def _origin(self, index: int) -> None:
        stage = self._graph.stages[index]
        if stage.parent is not None:
            self._states[(index, 0)] = self._states[end(self._graph, stage.parent)]
            return
        layers = stage.base.layers if stage.base is not None else ()
        identity = chain_id(layer.diff_id for layer in layers)
        self._states[(index, 0)] = RootState(identity, self._materialize, base=stage.base)

    def _next_number(self) -> int:
        with self._tally.lock:
            self._tally.next_number += 1
            return self._tally.next_number

    def _step(self, index: int, number: int, step: Step) -> None:
        shown = self._next_number()
        started = time.monotonic()
        self._chronicle.started(shown, (index, number), step)
        self._on_event(StepStarted(shown, step.name, step.span))
        outcome, usage, failure = "failed", None, None
        try:
            cached, usage = self._resolve(index, number, step, shown)
            outcome = "cached" if cached else "done"
        except ImgbuildError as error:
            failure, usage = error.located(step.span), error.usage if isinstance(error, StepFailed) else None
            outcome = "canceled" if self._workers.stopped.is_set() else "failed"
            # A test that fails ends the build when the other tests are over, too.
            if not (outcome == "failed" and isinstance(step.op, TestOp) and isinstance(error, StepFailed)):
                raise failure from None
        finally:
            seconds = time.monotonic() - started
            self._chronicle.finished(shown, outcome, seconds, usage, failure)
            announce = partial(self._announce, step, shown, outcome, seconds, usage, failure)
            announce() if self._later.left is None else self._later.left.then(announce)

    def _announce(
        self, step: Step, shown: int, outcome: str, seconds: float, usage: Usage | None = None, failure: ImgbuildError | None = None
    ) -> None:
        if isinstance(step.op, TestOp):
            self._verdicts.add(step, outcome, seconds, failure)
        self._on_event(StepFinished(shown, outcome, seconds, usage))

    def _parent(self, index: int, number: int) -> RootState:
        return self._states[(index, self._graph.stages[index].step_at(number)[1])]

    def _want(self, index: int, number: int, step: Step) -> Wanted:
        """The step's record and key, made once; what it reads has been solved."""
        wanted = self._wanted.get((index, number))
        if wanted is None:
            inputs = step_inputs(self._rooms, step, self._stage_state)
            self._memos += inputs.memos
            parent = "" if step.independent else self._parent(index, number).identity
            made = key_record(step.op, parent, inputs.digests)
            wanted = self._wanted[(index, number)] = Wanted(step, made, step_key(made), inputs.kept if self._chronicle.kept else ())
        return wanted

    def _found(self, index: int, number: int, wanted: Wanted, result: StepLayer) -> None:
        parent = self._parent(index, number)
        identity = identity_after(parent, wanted.step, wanted.key)
        self._states[(index, number)] = RootState(identity, self._materialize, parent=parent, result=result, wanted=wanted)
        self._wanted.pop((index, number), None)  # what it read is not of interest any more
        with self._tally.lock:
            self._tally.cached += 1

    def _resolve(self, index: int, number: int, step: Step, shown: int) -> tuple[bool, Usage | None]:
        """Find or perform the step, and note the state after it. True where it was found."""
        parent = self._parent(index, number)
        wanted = self._want(index, number, step)
        self._chronicle.keyed(shown, wanted.key)
        with ExitStack() as stack:
            stack.enter_context(self._rooms.store.lock(f"step {wanted.key}", cancelled=self._workers.stopped.is_set))
            found = self._lookup(wanted, parent)
            if not isinstance(found, Absent):
                self._found(index, number, wanted, found)
                self._chronicle.cached(shown, found.ledger)
                self._say_again(shown, found)
                return True, None
            from imgbuild.solve.telling import Telling

            with Telling(partial(self._causes.look, shown, (index, number), wanted, found.why), self._causes.prepare) as explain:
                lower, usage, captured = self._performing.perform(wanted, parent, shown, explain)
                self._chronicle.performed(shown, usage)
                with self._tally.lock:
                    self._tally.performed += 1
                    if self._tally.missing == 1 and not isinstance(step.op, RunOp):  # then the disk will be waited for
                        self._later.left = explain
                        explain.put_off()
                identity = identity_after(parent, step, wanted.key)
                if lower is None:
                    self._record(wanted, None, None, parent, shown)
                    self._states[(index, number)] = RootState(identity, self._materialize, parent=parent, result=StepLayer(None))
                    return False, usage
                promise = Promise()
                self._states[(index, number)] = RootState(
                    identity, self._materialize, parent=parent, result=promise, lower=lower, independent=step.independent, wanted=wanted
                )
                self._captures.add(partial(self._capture, stack.pop_all(), promise, lower, captured, parent, wanted, shown))
                return False, usage

    def _stage_state(self, index: int) -> RootState:
        return self._states[end(self._graph, index)]

    def _say_again(self, shown: int, found: StepLayer) -> None:
        if self._replay:
            from imgbuild.solve.telling import say_again

            say_again(self._rooms.store.root, self._on_event, shown, found.ledger)

    def _record(self, wanted: Wanted, layer: Layer | None, lower: Lower | None, parent: RootState, shown: int) -> None:
        from imgbuild.solve.remembered import record

        record(self._rooms, self._build, wanted, layer, lower, parent, self._chronicle.costs(shown), self._stage_state)

    def _lookup(self, wanted: Wanted, parent: RootState) -> StepLayer | Absent:
        return look_up(self._rooms, wanted.step, wanted.key, parent, self._build)

    def _openings(self) -> Openings | None:
        """What notes which files steps open; None where nothing is recorded."""
        if not self._chronicle.kept or "reads" in self._rooms.features.disabled:
            return None
        from imgbuild.solve.opened import Openings
        with self._tally.lock:
            if self._noting is None:
                self._noting = Openings(self._rooms, self._chronicle.subject)
                self._ending.callback(self._noting.close)
            return self._noting

    def _shelf(self) -> StubShelf:
        """The mount points that images lack, for all steps of this build."""
        from imgbuild.rootfs.stubs import StubShelf

        with self._tally.lock:
            if self._stubs is None:
                self._stubs = StubShelf(lambda: self._ending.enter_context(self._rooms.store.temporary("stubs")))
            return self._stubs

    def _capture(
        self, held: ExitStack, promise: Promise, lower: Lower, captured: Captured | None, parent: RootState, wanted: Wanted, shown: int
    ) -> None:
        """Make the layer of a performed step, and the record that lets others find it; then let go of the step's lock."""
        with held:
            try:
                started = time.monotonic()
                if captured is None:
                    from imgbuild.solve.commit import capture_step

                    failed = partial(self._uncaptured, lower, shown)
                    captured = capture_step(self._rooms, wanted.step, lower, parent, self._check_hurried, failed)
                self._chronicle.captured(shown, captured, time.monotonic() - started)
                self._record(wanted, captured.layer, lower, parent, shown)
                promise.keep(StepLayer(captured.layer))
            except BaseException as error:  # whoever waits for the layer gets it
                if isinstance(error, ImgbuildError):
                    error.located(wanted.step.span)
                promise.break_(error)
                self._workers.fail(error)

    def _uncaptured(self, lower: Lower, shown: int, error: ImgbuildError) -> None:
        """A layer can't be made for a reason of its own, and not for one of what it stands on."""
        self._chronicle.uncaptured(shown, error, self._workers.stopped.is_set())
        if isinstance(error, LeakError):  # its files do not stay either, when nothing runs on them any more
            from imgbuild.solve.commit import erase_lower

            self._leak = error
            self._ending.callback(erase_lower, self._rooms.store, lower.directory)
