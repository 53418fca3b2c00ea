"""``cache audit``: steps that a build would find in the store, performed once more as a build does, and compared with what is there."""

from __future__ import annotations

import random

from imgbuild.engine.again import Runs, empty_rooms, last_words, opened_runs
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.outcomes import Unlike, unlike
from imgbuild.engine.retrace import Retraced, check_given, retrace, stored_layer, with_files
from imgbuild.engine.step_options import allowed, opened_agents, read_agents, read_secrets
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import ConflictError, ImgbuildError
from imgbuild.graph.ops import RunOp
from imgbuild.hints import Callable, Mapping
from imgbuild.insight.builds import BuildRecord, StepRecord, recent_builds
from imgbuild.insight.unlike import Finding
from imgbuild.light.contextlib import ExitStack
from imgbuild.oci.digest import DiffID
from imgbuild.rootfs.materialize import materialize
from imgbuild.snapshot import Lower
from imgbuild.solve.rerun import made_again, wait_for_another_moment
from imgbuild.solve.rooms import Rooms
from imgbuild.store.history import History
from imgbuild.store.rows import StepRow
from imgbuild.store.store import Store
from imgbuild.values import dataclass, replace

SAME, DIFFERS, UNKNOWN = "same", "differs", "unknown"
_Place = tuple[BuildRecord, StepRecord]


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """How many steps (None: all), and by which chance they are chosen; what they are given beside what is recorded."""

    sample: int | None
    seed: int
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audited:
    """A step that would be found: "same" as what it makes now, or "differs", or "unknown", for why not (`problem`). `record` and `build`
    are None where it is not known any more which build had it; `findings` are what differs, `more` paths are counted."""

    key: str
    outcome: str
    record: StepRecord | None = None
    build: BuildRecord | None = None
    problem: str = ""
    stored: str = ""
    now: str = ""
    findings: tuple[Finding, ...] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Audit:
    """How many steps a build could find, and how many of them were looked at."""

    steps: int
    chosen: int


def audit(
    invocation: Invocation, request: AuditRequest, on_step: Callable[[StepRecord], object], on_done: Callable[[Audited], object]
) -> Audit:
    """Look at steps one after the other: `on_step` is told of each before, `on_done` after. Call it from the main thread."""
    secrets, agents = read_secrets(request.secrets, invocation.environ), read_agents(request.ssh, invocation.environ)
    allow = frozenset(map(allowed, request.allow))
    with workplace(invocation, sandboxes=True) as place, place.store.lease():
        found = [row for row in place.store.index.steps() if _would_be_found(place, row)]
        chosen = sorted(found, key=lambda row: row.key)
        if request.sample is not None and request.sample < len(chosen):
            chosen = random.Random(request.seed).sample(chosen, request.sample)
        try:
            places = _places(place, {row.key for row in chosen})
            with opened_runs(place) as runs, opened_agents(agents, place.environ) as opened, empty_rooms(place) as rooms:
                auditor = _Auditor(place, runs, replace(rooms, secrets=secrets, agents=opened), allow)
                for row in chosen:
                    if row.key in places:
                        on_step(places[row.key][1])
                    on_done(auditor.audited(row, places.get(row.key)))
        finally:
            place.store.index.disregard_hits()
    return Audit(len(found), len(chosen))


def _would_be_found(place: Workplace, row: StepRow) -> bool:
    """Whether the step counts, if what it stands on is the same: its layer, if it has one, is there."""
    return row.empty or row.diff_id is None or stored_layer(place.store, row.diff_id) is not None


def _places(place: Workplace, keys: set[str]) -> Mapping[str, _Place]:
    """The builds and steps by keys: the last that performed them, or else the last that found them. What the store has is the last one's:
    those before it may have stood on layers that are gone."""
    performed: dict[str, _Place] = {}
    found: dict[str, _Place] = {}
    for build in recent_builds(History(place.store)):
        for step in build.steps:
            if step.key in keys and step.outcome in ("done", "cached"):
                (performed if step.outcome == "done" else found).setdefault(step.key, (build, step))
    return {**found, **performed}


class _Auditor:
    def __init__(self, place: Workplace, runs: Runs, rooms: Rooms, allow: frozenset[str]) -> None:
        self._place = place
        self._runs = runs
        self._rooms = rooms
        self._allow = allow

    def audited(self, row: StepRow, where: _Place | None) -> Audited:
        """A step; what stands in the way of performing it again is its `problem`."""
        if where is None:
            return Audited(row.key, UNKNOWN, problem="no build is kept that had it")
        build, record = where
        known = Audited(row.key, UNKNOWN, record, build, stored=row.diff_id or "")
        try:
            retraced = retrace(self._place, build, record)
            check_given(retraced, self._rooms, self._allow)
            with with_files(self._place, self._rooms, retraced) as rooms:
                return self._compared(known, retraced, rooms)
        except ConflictError as error:
            if record.test:
                return replace(known, outcome=DIFFERS, problem=error.message)
            return replace(known, problem=last_words(error))
        except ImgbuildError as error:
            return replace(known, problem=error.message)

    def _compared(self, known: Audited, retraced: Retraced, rooms: Rooms) -> Audited:
        op = retraced.step.op
        if isinstance(op, RunOp):
            wait_for_another_moment(retraced.made.ended)
            with self._runs.first(rooms, retraced, op) as run:
                if retraced.record.test:
                    return replace(known, outcome=SAME)
                made = self._runs.made(op, run)
                return _verdict(known, retraced, run.diff_id, lambda: self._runs.unlike_stored(retraced, run, made))
        with ExitStack() as stack:
            directory = stack.enter_context(self._place.store.temporary("audit"))
            scratch = stack.enter_context(Store.open(directory / "store"))
            lower, diff_id = made_again(replace(rooms, store=scratch), retraced.step, op, retraced.lowers, retraced.stages)
            return _verdict(known, retraced, diff_id, lambda: self._unlike(retraced, lower))

    def _unlike(self, retraced: Retraced, lower: Lower | None) -> Unlike:
        store, features = self._place.store, self._place.features
        stored = (retraced.layer,) if retraced.layer is not None else ()
        old = materialize(store, (*retraced.below, *stored), features=features, deep=False)
        new = (*materialize(store, retraced.below, features=features, deep=False), *((lower,) if lower is not None else ()))
        return unlike(old, new, (retraced.made, replace(retraced.made, began=0.0, ended=0.0)), rootless=features.rootless)


def _verdict(known: Audited, retraced: Retraced, diff_id: DiffID | None, compare: Callable[[], Unlike]) -> Audited:
    if diff_id == retraced.diff_id:
        return replace(known, outcome=SAME, now=diff_id or "")
    found = compare()
    return replace(known, outcome=DIFFERS, now=diff_id or "", findings=found.findings, more=found.more)
