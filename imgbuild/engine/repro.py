"""``repro``: RUN steps of a past build once more, and once more under other circumstances; what of their layers differs, and why."""

from __future__ import annotations

from imgbuild.engine.again import Runs, Varied, empty_rooms, opened_runs
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.performed import build_of, step_of
from imgbuild.engine.retrace import check_given, retrace, with_files
from imgbuild.engine.step_options import allowed, opened_agents, read_agents, read_secrets
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import ImgbuildError, NotFoundError, UsageError
from imgbuild.graph.ops import RunOp
from imgbuild.hints import Callable
from imgbuild.insight.builds import BuildRecord, StepRecord, with_steps
from imgbuild.insight.compare import order
from imgbuild.insight.unlike import Finding
from imgbuild.light.contextlib import ExitStack
from imgbuild.oci.digest import DiffID
from imgbuild.solve.rerun import wait_for_another_moment
from imgbuild.solve.rooms import Rooms
from imgbuild.values import dataclass, replace


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
    runs: tuple[DiffID, DiffID]
    findings: tuple[Finding, ...]
    earlier: frozenset[str]
    more: int
    conditions: Varied

    @property
    def same(self) -> bool:
        """Whether all layers are one."""
        return self.runs[0] == self.runs[1] and self.stored in ("", self.runs[0])


def repro(
    invocation: Invocation, request: ReproRequest, on_step: Callable[[StepRecord], object], on_done: Callable[[Reproduced], object]
) -> BuildRecord:
    """Run the steps of a build again, one after the other: `on_step` is told of each before, `on_done` after. Call it from the main
    thread. NotFoundError where what a step needs is gone, ConflictError where it does not succeed any more."""
    secrets, agents = read_secrets(request.secrets, invocation.environ), read_agents(request.ssh, invocation.environ)
    allow = frozenset(map(allowed, request.allow))
    with workplace(invocation, sandboxes=True) as place, place.store.lease():
        try:
            build = build_of(place, request.build)
            chosen = _chosen(build, request.steps)
            with opened_runs(place) as runs, opened_agents(agents, place.environ) as opened, empty_rooms(place) as rooms:
                rooms = replace(rooms, secrets=secrets, agents=opened)
                for record in chosen:
                    on_step(record)
                    try:
                        on_done(_reproduced(place, runs, rooms, build, record, allow))
                    except ImgbuildError as error:
                        error.message = f"#{record.number} {record.text}: {error.message}"
                        raise
        finally:
            place.store.index.disregard_hits()
    return build


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


def _reproduced(place: Workplace, runs: Runs, rooms: Rooms, build: BuildRecord, record: StepRecord, allow: frozenset[str]) -> Reproduced:
    retraced = retrace(place, build, record)
    op = retraced.step.op
    assert isinstance(op, RunOp)
    check_given(retraced, rooms, allow)
    with with_files(place, rooms, retraced) as filled, ExitStack() as stack:
        first = stack.enter_context(runs.first(filled, retraced, op))
        made = runs.made(op, first)
        wait_for_another_moment(first.ended)
        second = stack.enter_context(runs.second(filled, retraced, op, first))
        between = runs.unlike(retraced, (first, second.run), (made, second.made))
        before = runs.unlike_stored(retraced, first, made)
    known = {path for finding in between.findings for path in (finding.path, finding.other)}
    older = [finding for finding in before.findings if not known & {finding.path, finding.other} - {""}]
    return Reproduced(
        record=record,
        stored=retraced.diff_id if retraced.layer is not None and retraced.diff_id is not None else "",
        runs=(first.diff_id, second.run.diff_id),
        findings=tuple(sorted((*between.findings, *older), key=lambda finding: order(finding.path))),
        earlier=frozenset(finding.path for finding in older),
        more=between.more + before.more,
        conditions=second.conditions,
    )
