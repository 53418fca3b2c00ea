"""Keeps what a failed step leaves, and reads it again: its upperdir by rename, what its mounts had, its output, and a record of the rest.

The record holds the operation and what it stood on, by the names of snapshots; no secret is in it, nor a proxy's password. What it says is
enough to enter the step's sandbox again (`reenter`). It is JSON of our own, of one version.
"""

from __future__ import annotations

import os

from imgbuild.errors import ImgbuildError
from imgbuild.graph.ops import DeviceOp, Document, Limits, MountOp, RunOp, Step, TestOp
from imgbuild.hints import TYPE_CHECKING, Any, Mapping
from imgbuild.light import json
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.sandbox.spec import ExitStatus
from imgbuild.snapshot import Lowers
from imgbuild.snapshot.snapshotter import Active
from imgbuild.solve.causes import Cause
from imgbuild.solve.log import StepLog
from imgbuild.solve.rooms import Rooms
from imgbuild.store.failed import LOG, MOUNTS, RECORD, TREE, VERSION, failed_steps, new_id, overdue, take_away
from imgbuild.store.temporary import write_durably
from imgbuild.store.trees import physical
from imgbuild.values import asdict, dataclass, fields, replace

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT_OF_MOUNTS = ("context", "upper")


@dataclass(frozen=True, slots=True)
class Ruin:
    """A step that failed for good, while its snapshot is still there: what is to be kept of it."""

    step: Step
    op: RunOp
    lowers: Lowers
    stage_lowers: Callable[[int], Lowers]
    inputs: Mapping[str, str]
    active: Active
    status: ExitStatus
    cause: Cause
    log: StepLog


def keep_failed(rooms: Rooms, ruin: Ruin) -> tuple[str, tuple[str, ...]]:
    """Keep it, and let go of what is beyond the limits: its id, "" where it is not kept, and what the user should know of it, in lines.
    Whatever can't be done is only said: the step's own failure is what counts."""
    keep = rooms.keep() if rooms.keep is not None else None
    if keep is None or not keep.number:
        return "", ()
    try:
        place = _keep(rooms, ruin, keep.bytes)
        take_away(rooms.store, overdue(failed_steps(rooms.store.root), keep, rooms.store.clock()))
    except (ImgbuildError, OSError) as error:
        return "", (f"its state could not be kept: {error.message if isinstance(error, ImgbuildError) else error.strerror}",)
    if isinstance(place, str):
        return "", (place,)
    part = "all" if ruin.log.complete else "the first and the last of the"
    all_of_it = () if ruin.log.whole else (f"{part} {ruin.log.lines} lines of its output are in {place / LOG}",)
    return place.name, (*all_of_it, f"its state is kept: `imgbuild debug {place.name}` enters it")


def _keep(rooms: Rooms, ruin: Ruin, most: int) -> Path | str:
    store = rooms.store
    lowers = [_name(store.root, lowers) for lowers in ((lower,) for lower in ruin.lowers)]
    stages = {mount.stage: ruin.stage_lowers(mount.stage) for mount in ruin.op.mounts if mount.stage is not None}
    names = {str(index): [_name(store.root, (lower,)) for lower in below] for index, below in stages.items()}
    if not all(lowers) or not all(name for each in names.values() for name in each):
        return "its state is not kept: what it stands on is not in the store"
    with store.temporary("failed") as temporary:
        new = temporary / "new"
        new.mkdir()
        _move(ruin.active, new)
        size = physical(new, set())
        if size > most:
            return f"its state is not kept: it takes {size >> 20} MiB, and the settings allow {most >> 20}"
        (new / LOG).write_bytes(ruin.log.all())
        facts = {**_facts(ruin), "created": store.clock(), "size": size, "lowers": lowers, "stages": names}
        write_durably(new / RECORD, json.dumps(facts, indent=1).encode(), new)
        place = store.root / "failed" / new_id()
        new.rename(place)
    return place


def _move(active: Active, new: Path) -> None:
    """Take the step's files over: nothing is copied."""
    os.rename(active.upper, new / TREE)
    (new / MOUNTS).mkdir()
    with suppress(FileNotFoundError):
        for mount in sorted((active.directory / "mounts").iterdir()):
            (new / MOUNTS / mount.name).mkdir()
            for name in _KEPT_OF_MOUNTS:
                with suppress(FileNotFoundError):
                    os.rename(mount / name, new / MOUNTS / mount.name / name)


def _name(root: Path, lowers: Lowers) -> str:
    """The snapshot of the store that a lower is; "" for one that is none."""
    (lower,) = lowers
    return lower.directory.name if lower.directory.parent == root / "snapshots" else ""


def _facts(ruin: Ruin) -> dict[str, Any]:
    span, status = ruin.step.span, ruin.status
    op = replace(ruin.op, proxy=tuple(entry for entry in ruin.op.proxy if "@" not in entry))
    return {
        "version": VERSION,
        "step": ruin.step.name,
        "source": span.source.name,
        "line": span.line,
        "end_line": span.end_line,
        "text": list(span.source.lines[span.line - 1 : span.end_line]),
        "cause": {"kind": ruin.cause.kind, "message": ruin.cause.message, "notes": ruin.cause.notes, "hint": ruin.cause.hint},
        "code": status.code,
        "signal": status.signal,
        "oom": status.oom,
        "usage": asdict(status.usage),
        "test": isinstance(op, TestOp),
        "op": _plain(op),
        "inputs": dict(ruin.inputs),
    }


def _plain(op: RunOp) -> dict[str, Any]:
    facts = {item.name: getattr(op, item.name) for item in fields(op)}
    facts["mounts"] = [{**_fields(mount), "span": None} for mount in op.mounts]
    facts["devices"] = [{**_fields(device), "span": None} for device in op.devices]
    facts["limits"] = _fields(op.limits)
    facts["document"] = None if op.document is None else _fields(op.document)
    return facts


def _fields(value: Any) -> dict[str, Any]:
    return {item.name: getattr(value, item.name) for item in fields(value)}


def recorded_op(facts: Mapping[str, Any]) -> RunOp:
    """The operation that a record holds. TypeError or KeyError where it is no record of this version."""
    plain = {name: _tuples(value) for name, value in facts["op"].items()}
    plain["mounts"] = tuple(MountOp(**mount) for mount in facts["op"]["mounts"])
    plain["devices"] = tuple(DeviceOp(**device) for device in facts["op"]["devices"])
    plain["limits"] = Limits(**facts["op"]["limits"])
    document = facts["op"]["document"]
    plain["document"] = None if document is None else Document(**document)
    return RunOp(**plain)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
