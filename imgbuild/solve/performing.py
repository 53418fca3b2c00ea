"""Performs one step that was not found: what makes its lower, and what is learned meanwhile."""

from __future__ import annotations

from imgbuild.graph.ops import CopyOp, RunOp, WorkdirOp
from imgbuild.hints import TYPE_CHECKING, Callable
from imgbuild.light.functools import partial
from imgbuild.snapshot import DirectoryLower, Lower
from imgbuild.solve.captures import Captures
from imgbuild.solve.chronicle import Chronicle
from imgbuild.solve.events import OnEvent, StepOutput
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.state import RootState, Wanted
from imgbuild.store.rows import parse_record
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.rootfs.capture import Captured
    from imgbuild.rootfs.stubs import StubShelf
    from imgbuild.sandbox.spec import Usage
    from imgbuild.snapshot import Lowers
    from imgbuild.solve.memory import Memory
    from imgbuild.solve.opened import Opening, Openings
    from imgbuild.solve.telling import Telling


_MOST_PATHS = 100
"""Of more, it is noted that a COPY came from everywhere."""


@dataclass(frozen=True, slots=True)
class Performing:
    """What the steps of a solve are performed with. `stages` gives the state at the end of a stage, `stopped` says that the step is to
    end, `check` raises then; `openings` is asked where a step stands on files of the build context."""

    rooms: Rooms
    chronicle: Chronicle
    captures: Captures
    memory: Memory
    on_event: OnEvent
    stages: Callable[[int], RootState]
    shelf: Callable[[], StubShelf]
    stopped: Callable[[], bool]
    check: Callable[[], None]
    openings: Callable[[], Openings | None]

    def perform(
        self, wanted: Wanted, parent: RootState, shown: int, explain: Telling
    ) -> tuple[Lower | None, Usage | None, Captured | None]:
        """Make the step's lower: None where it has nothing to change; and its layer, where that comes with it. Meanwhile, `explain` it."""
        rooms, step = self.rooms, wanted.step
        lowers = () if step.independent else parent.lowers()
        match step.op:
            case RunOp():
                return *self._run(wanted, parent, lowers, shown, explain), None
            case CopyOp() as op:
                from imgbuild.solve.files import perform_copy

                made, captured = perform_copy(rooms, step, op, lowers, self.stages, self.check, partial(self._came, shown, op))
                return made, None, captured
            case WorkdirOp() as op:
                from imgbuild.solve.files import perform_workdir

                return perform_workdir(rooms, op, lowers), None, None

    def _run(self, wanted: Wanted, parent: RootState, lowers: Lowers, shown: int, explain: Telling) -> tuple[Lower | None, Usage]:
        from imgbuild.solve.memory import within
        from imgbuild.solve.run import RunJob, perform_run

        rooms, step, chronicle, on_event = self.rooms, wanted.step, self.chronicle, self.on_event
        assert isinstance(step.op, RunOp)
        keep = chronicle.output(shown)

        def output(stream: int, data: bytes) -> None:
            keep(stream, data)
            on_event(StepOutput(shown, stream, data))

        openings = self.openings() if parent.copies or wanted.kept else None
        opening = openings.begin(wanted, parent.copies) if openings is not None else None
        job = RunJob(
            step, step.op, lowers, lambda stage: self.stages(stage).lowers(), self.shelf(), output, self.stopped,
            inputs=parse_record(wanted.record)["inputs"], started=partial(self.captures.command_runs, rooms.compression, explain),
            on_event=on_event, spent=chronicle.spender(shown), opening=opening,
        )  # fmt: skip
        try:
            with within(self.memory, rooms.store.index, chronicle, step, shown, on_event, self.stopped):
                lower, usage = perform_run(rooms, job)
            if openings is not None and opening is not None:
                self.captures.add(partial(self._note, shown, opening, lower))
                openings.learn(step, parent.copies, usage.wall_seconds)
            return lower, usage
        finally:
            if opening is not None:
                opening.release()
            if (work := chronicle.ended(shown)) is not None:
                self.captures.add(work)

    def _came(self, shown: int, op: CopyOp, paths: list[str]) -> None:
        """Where the sources of a COPY are, of a stage."""
        if op.stage is not None:
            self.chronicle.opened(shown, {"from": paths if len(paths) <= _MOST_PATHS else ["/"]})

    def _note(self, shown: int, opening: Opening, lower: Lower | None) -> None:
        """What a step opened, when there is time for that."""
        self.chronicle.opened(shown, opening.facts(lower.path if isinstance(lower, DirectoryLower) else None))
