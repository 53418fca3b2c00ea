"""What the index shall remember of steps that were performed."""

from __future__ import annotations

from imgbuild.errors import StoreError
from imgbuild.graph.ops import CopyOp, Limits, Op, RunOp, TestOp
from imgbuild.hints import Any, Callable, Mapping
from imgbuild.light import json
from imgbuild.light.contextlib import suppress
from imgbuild.oci.image import Layer
from imgbuild.snapshot import Lower
from imgbuild.solve.nodes import Node
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.state import RootState, Wanted, ground
from imgbuild.store.rows import StepRow
from imgbuild.values import dataclass, fields


@dataclass(frozen=True, slots=True)
class Miss:
    """A step that was not found, and why (see `state.Absent`), before it is performed. `number` is the one that is shown."""

    number: int
    node: Node
    wanted: Wanted
    why: str


def record(
    rooms: Rooms,
    build: str,
    wanted: Wanted,
    layer: Layer | None,
    lower: Lower | None,
    parent: RootState,
    costs: Mapping[str, Any],
    stages: Callable[[int], RootState],
) -> None:
    """Remember that the step was performed, and what it read. This may wait for captures that were begun before: the parent's, and those
    of `stages` that it read."""
    ledger = {**costs, "parent": ground(parent, wanted.step), "step": wanted.step.name}
    if beside := _beside(wanted.step.op, stages):
        ledger["beside"] = beside
    if wanted.step.arguments:
        ledger["arguments"] = wanted.step.arguments
    rooms.store.index.record_step(
        StepRow(
            key=wanted.key,
            record=wanted.record,
            diff_id=layer.diff_id if layer is not None else None,
            snapshot=lower.directory.name if lower is not None else "",
            empty=layer is None,
            usage=json.dumps(ledger),
            build=build,
            created=rooms.store.clock(),
        )
    )
    if wanted.kept:
        with suppress(StoreError):  # a build never fails for what only explains a later one
            rooms.store.evidence.keep(wanted.kept)


def _beside(op: Op, stages: Callable[[int], RootState]) -> dict[str, Any]:
    """What of an operation its key does not hold, and who performs it again has to know: the layers of the stages that it reads and the
    names of contexts, by the number of the mount (of a COPY: 0), addresses, proxies without passwords, and limits."""
    if isinstance(op, TestOp) or not isinstance(op, RunOp | CopyOp):
        return {}
    readers = list(enumerate(op.mounts)) if isinstance(op, RunOp) else [(0, op)]
    found: dict[str, Any] = {
        "stages": {str(number): _diff_ids(stages(each.stage)) for number, each in readers if each.stage is not None},
        "contexts": {str(number): each.context for number, each in readers if each.context},
    }
    if isinstance(op, RunOp):
        found["proxy"] = [entry for entry in op.proxy if "@" not in entry]
        found["addresses"], found["cgroup_parent"] = list(op.addresses), op.cgroup_parent
        usual = Limits()
        limits = {item.name: getattr(op.limits, item.name) for item in fields(Limits)}
        found["limits"] = {name: value for name, value in limits.items() if value != getattr(usual, name)}
    return {name: value for name, value in found.items() if value}


def _diff_ids(state: RootState) -> list[str]:
    return [layer.diff_id for layer in state.layers()]
