"""What the index shall remember of steps that were performed."""

from __future__ import annotations

from imgbuild.errors import StoreError
from imgbuild.hints import Any, Mapping
from imgbuild.light import json
from imgbuild.light.contextlib import suppress
from imgbuild.oci.image import Layer
from imgbuild.snapshot import Lower
from imgbuild.solve.nodes import Node
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.state import RootState, Wanted, ground
from imgbuild.store.rows import StepRow
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Miss:
    """A step that was not found, and why (see `state.Absent`), before it is performed. `number` is the one that is shown."""

    number: int
    node: Node
    wanted: Wanted
    why: str


def record(
    rooms: Rooms, build: str, wanted: Wanted, layer: Layer | None, lower: Lower | None, parent: RootState, costs: Mapping[str, Any]
) -> None:
    """Remember that the step was performed, and what it read. This may wait for the parent's capture, which was begun before."""
    ledger = {**costs, "parent": ground(parent, wanted.step), "step": wanted.step.name}
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
