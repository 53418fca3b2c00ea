"""``repro``: RUN steps of a past build once more, and once more under other circumstances; what of their layers differs, and why."""

from __future__ import annotations

from imgbuild.engine.again import Failed, Runs, Varied, empty_rooms, last_words, opened_runs
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.outcomes import Unlike
from imgbuild.engine.performed import build_of, step_of
from imgbuild.engine.retrace import Retraced, check_given, retrace, with_files
from imgbuild.engine.step_options import allowed, opened_agents, read_agents, read_secrets
from imgbuild.engine.trials import with_trials
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import ConflictError, ImgbuildError, NotFoundError, UsageError
from imgbuild.graph.ops import RunOp
from imgbuild.hints import Callable, Sequence
from imgbuild.insight.builds import BuildRecord, StepRecord, with_steps
from imgbuild.insight.compare import order
from imgbuild.insight.unlike import Finding, with_order_explained
from imgbuild.light.contextlib import ExitStack
from imgbuild.solve.rerun import Rerun, wait_for_another_moment
from imgbuild.solve.rooms import Rooms
from imgbuild.values import dataclass, replace

_TOGETHER = 8
"""So many steps wait together for the clock; what each of them has left is on the disk meanwhile."""


@dataclass(frozen=True, slots=True)
class ReproRequest:
    """Which build, and which of its steps, by their numbers as they are shown; without any, every RUN. The rest is as the build had it."""

    build: str = "last"
    steps: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reproduced:
    """A step that was run again: the identity of the layer in the store ("" where it is gone), and those of both runs. `findings` are the
    paths that differ between the two runs, and those that only differ between the store's layer and both (`earlier`); `more` were
    counted."""

    record: StepRecord
    stored: str
    runs: tuple[str, str]
    findings: tuple[Finding, ...]
    earlier: frozenset[str]
    more: int
    conditions: Varied
    problem: str = ""
    """Why it fails under other circumstances, if it does: then the second layer is ""."""
    failed: tuple[Failed, ...] = ()
    """On which other dates it fails; then the second layer is of a run on another one, or on today's."""

    @property
    def alike(self) -> bool:
        """Whether all layers are one."""
        return not self.problem and self.runs[0] == self.runs[1] and self.stored in ("", self.runs[0])

    @property
    def lasts(self) -> bool:
        """Whether it succeeds on another date, if only on a near one: what is fetched is signed for less than a year."""
        return all(each.far or each.once for each in self.failed)

    @property
    def same(self) -> bool:
        """Whether it is the same again."""
        return self.alike and self.lasts


def repro(
    invocation: Invocation, request: ReproRequest, on_step: Callable[[StepRecord], object], on_done: Callable[[Reproduced], object]
) -> BuildRecord:
    """Run the steps of a build again: `on_step` is told of each before, `on_done` after, in the same order. Call it from the main
    thread. NotFoundError where what a step needs is gone, ConflictError where it does not succeed any more."""
    secrets, agents = read_secrets(request.secrets, invocation.environ), read_agents(request.ssh, invocation.environ)
    allow = frozenset(map(allowed, request.allow))
    with workplace(invocation, sandboxes=True) as place, place.store.lease():
        try:
            build = build_of(place, request.build)
            chosen = _chosen(build, request.steps)
            with opened_runs(place) as runs, opened_agents(agents, place.environ) as opened, empty_rooms(place) as rooms:
                repeating = _Repeating(place, runs, replace(rooms, secrets=secrets, agents=opened), build, allow)
                for start in range(0, len(chosen), _TOGETHER):
                    repeating.run(chosen[start : start + _TOGETHER], on_step, on_done)
        finally:
            place.store.index.disregard_hits()
    return build


@dataclass(frozen=True, slots=True)
class _Begun:
    """A step after its first run."""

    retraced: Retraced
    rooms: Rooms
    op: RunOp
    first: Rerun


class _Repeating:
    def __init__(self, place: Workplace, runs: Runs, rooms: Rooms, build: BuildRecord, allow: frozenset[str]) -> None:
        self._place = place
        self._runs = runs
        self._rooms = rooms
        self._build = build
        self._allow = allow

    def run(
        self, chosen: Sequence[StepRecord], on_step: Callable[[StepRecord], object], on_done: Callable[[Reproduced], object]
    ) -> None:
        """All of them once, then, when the clock shows another time, all once more. Where one fails, those before it are finished."""
        begun: list[_Begun] = []
        failure: ImgbuildError | None = None
        with ExitStack() as stack:
            for record in chosen:
                on_step(record)
                try:
                    begun.append(self._begin(stack, record))
                except ImgbuildError as error:
                    failure = _named(record, error)
                    break
            for each in begun:
                wait_for_another_moment(begun[-1].first.ended)
                try:
                    result = self._finish(each)
                except ImgbuildError as error:
                    raise _named(each.retraced.record, error) from None
                on_done(result)
        if failure is not None:
            raise failure

    def _begin(self, stack: ExitStack, record: StepRecord) -> _Begun:
        retraced = retrace(self._place, self._build, record)
        op = retraced.step.op
        assert isinstance(op, RunOp)
        check_given(retraced, self._rooms, self._allow)
        rooms = stack.enter_context(with_files(self._place, self._rooms, retraced))
        return _Begun(retraced, rooms, op, stack.enter_context(self._runs.first(rooms, retraced, op)))

    def _finish(self, begun: _Begun) -> Reproduced:
        retraced, first, made = begun.retraced, begun.first, self._runs.made(begun.op, begun.first)
        before = self._runs.unlike_stored(retraced, first, made)
        between, second, conditions, problem, under = Unlike(()), "", Varied(), "", None
        failed: tuple[Failed, ...] = ()
        try:
            with self._runs.second(begun.rooms, retraced, begun.op, first) as run:
                between = self._runs.unlike(retraced, (first, run.run), (made, run.made))
                second, conditions, under, failed = run.run.diff_id, run.conditions, run.under, run.failed
        except ConflictError as error:  # it has just succeeded, as a build runs it
            problem = last_words(error)
        findings = with_order_explained(between.findings, before.findings)
        if under is not None:
            findings = with_trials(self._runs, begun.rooms, retraced, begun.op, (first, made), under, findings, before.findings)
        known = {path for finding in findings for path in (finding.path, finding.other)}
        older = [finding for finding in before.findings if not known & {finding.path, finding.other} - {""}]
        return Reproduced(
            record=retraced.record,
            stored=retraced.diff_id if retraced.layer is not None and retraced.diff_id is not None else "",
            runs=(first.diff_id, second),
            findings=tuple(sorted((*findings, *older), key=lambda finding: order(finding.path))),
            earlier=frozenset(finding.path for finding in older),
            more=between.more + before.more,
            conditions=conditions,
            problem=problem,
            failed=failed,
        )


def _named(record: StepRecord, error: ImgbuildError) -> ImgbuildError:
    error.message = f"#{record.number} {record.text}: {error.message}"
    return error


def _chosen(build: BuildRecord, numbers: tuple[str, ...]) -> list[StepRecord]:
    ended = [step for step in with_steps(build).steps if step.outcome in ("done", "cached")]
    if not numbers:
        runs = [step for step in ended if is_run(step)]
        if not runs:
            raise NotFoundError(f"the build {build.id} has no RUN that ended well")
        return runs
    found = list({step.number: step for step in (step_of(build, number) for number in numbers)}.values())
    for step in found:
        if step not in ended:
            raise UsageError(f"step {step.number} of the build {build.id} has left nothing: it was {step.outcome}")
        if not is_run(step):
            hint = "`imgbuild cache audit` looks at COPY, too"
            raise UsageError(f"#{step.number} {step.text} runs nothing that leaves a layer", hint=hint)
    return found


def is_run(step: StepRecord) -> bool:
    """Whether a step is a RUN."""
    return not step.test and step.text.split(" ", 1)[0] == "RUN"
