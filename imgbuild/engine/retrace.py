"""Steps of past builds, to be performed again: from the record of a step to its operation, what it stood on and what it read.

The record that a step's key was made of has every field of its operation that matters; beside it the index keeps what the key leaves out.
So neither the Buildfile nor its arguments are needed again, and what is run is what was, whatever the Buildfile says by now. Only files of
a build context are not kept: they are read where they were, and have to be the same still, by their digests.
"""

from __future__ import annotations

import time

from imgbuild.engine.performed import layers_before
from imgbuild.engine.workplace import Workplace
from imgbuild.errors import CorruptError, ImgbuildError, NotFoundError, Source, Span, UsageError
from imgbuild.graph.key import SECRET_INPUT
from imgbuild.graph.ops import CopyOp, FileText, MountOp, RemoteSource, RunOp, Step, WorkdirOp
from imgbuild.hints import Any, Iterator, Mapping
from imgbuild.insight.builds import BuildRecord, StepRecord
from imgbuild.insight.reasons import Circumstances
from imgbuild.light import json
from imgbuild.light.contextlib import ExitStack, contextmanager
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import DiffID, chain_id
from imgbuild.oci.image import Layer
from imgbuild.rootfs.materialize import materialize
from imgbuild.snapshot import Lowers
from imgbuild.solve.failed import recorded_op
from imgbuild.solve.inputs import context_digests, mount_digests
from imgbuild.solve.rooms import Rooms
from imgbuild.store.rows import StepRow
from imgbuild.store.store import Store
from imgbuild.values import dataclass, replace

_SLACK = 60.0
"""Seconds that a step may have taken where that is not known."""
ON_DISK, IN_MEMORY = "disk", "memory"
"""How directories are listed: as in a build, or otherwise."""
FIRST_PID = 2
"""The number of a step's second process: its command is the first one of its namespace."""


@dataclass(frozen=True, slots=True)
class Retraced:
    """A step as it was performed: its operation, whose mounts name the `stages` that they read by their own numbers; the lowers that it
    stood on; and the layer that it left, None where it left none or that is gone (`kept`)."""

    record: StepRecord
    step: Step
    lowers: Lowers
    stages: Mapping[int, Lowers]
    inputs: Mapping[str, str]
    diff_id: DiffID | None
    layer: Layer | None
    below: tuple[Layer, ...]
    made: Circumstances
    build: BuildRecord

    @property
    def kept(self) -> bool:
        """Whether what it left is still there."""
        return self.diff_id is None or self.layer is not None


def retrace(place: Workplace, build: BuildRecord, record: StepRecord) -> Retraced:
    """The step of a build, with all that it takes to perform it again; NotFoundError where some of it is not there any more."""
    row = place.store.index.step(record.key) if record.key else None
    if row is None:
        raise NotFoundError("it is not in the cache any more", hint="build it again")
    fields = row.fields()
    try:
        ledger: Mapping[str, Any] = json.loads(row.usage)
        beside = ledger.get("beside", {})
        op = _op(fields, beside)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CorruptError(f"the record of {record.name} can't be read") from None
    if isinstance(op, CopyOp) and op.remotes:
        raise NotFoundError("what it fetched is not fetched again")
    below = layers_before(place, build, record)
    independent = isinstance(op, CopyOp) and op.link
    if not independent and ledger.get("parent") != chain_id(layer.diff_id for layer in below):
        raise NotFoundError("what it was performed on is another by now", hint="build it again")
    text = Source(record.file, ())
    step = Step(op, record.name, Span(text, record.line, record.end_line))
    return Retraced(
        record=record,
        step=step,
        lowers=() if independent else materialize(place.store, below, features=place.features),
        stages=_stages(place, op, beside),
        inputs={str(name): str(digest) for name, digest in fields.get("inputs", {}).items()},
        diff_id=row.diff_id,
        layer=stored_layer(place.store, row.diff_id) if row.diff_id is not None else None,
        below=below,
        made=_made(build, record, row, op),
        build=build,
    )


def _op(fields: Mapping[str, Any], beside: Mapping[str, Any]) -> RunOp | CopyOp | WorkdirOp:
    """The operation of a record. Of stages it says only that there is one: here it is the number of the mount that reads it."""
    kind, plain = fields["op"], dict(fields["fields"])
    contexts: Mapping[str, str] = beside.get("contexts", {})
    if kind in ("RunOp", "TestOp"):
        mounts = [
            {**mount, "stage": number if mount["stage"] else None, "context": contexts.get(str(number), "?") if mount["context"] else ""}
            for number, mount in enumerate(plain["mounts"])
        ]
        more = {"addresses": [], "proxy": [], "cgroup_parent": "", **{name: beside[name] for name in _BESIDE if name in beside}}
        return recorded_op({"op": {**plain, **more, "mounts": mounts, "limits": beside.get("limits", {})}})
    if kind == "CopyOp":
        plain["stage"] = 0 if plain["stage"] else None
        plain["context"] = contexts.get("0", "?") if plain["context"] else ""
        plain["remotes"] = tuple(RemoteSource(url="", **remote) for remote in plain["remotes"])
        plain["documents"] = tuple(FileText(**each) for each in plain["documents"])
        listed: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
        return CopyOp(**listed)
    return WorkdirOp(**plain)


_BESIDE = ("addresses", "proxy", "cgroup_parent")


def _stages(place: Workplace, op: RunOp | CopyOp | WorkdirOp, beside: Mapping[str, Any]) -> Mapping[int, Lowers]:
    """The root file systems that are read, by the number of who reads them."""
    if isinstance(op, WorkdirOp):
        return {}
    wanted = [number for number, mount in enumerate(op.mounts) if mount.stage is not None] if isinstance(op, RunOp) else []
    if isinstance(op, CopyOp) and op.stage is not None:
        wanted = [0]
    known: Mapping[str, list[str]] = beside.get("stages", {})
    found: dict[int, Lowers] = {}
    for number in wanted:
        if str(number) not in known:
            raise NotFoundError("which stage it read is not recorded", hint="build it again without the cache")
        layers = [stored_layer(place.store, DiffID(diff_id)) for diff_id in known[str(number)]]
        if None in layers:
            raise NotFoundError("layers of a stage that it read are not in the store any more", hint="build it again")
        found[number] = materialize(place.store, tuple(layer for layer in layers if layer is not None), features=place.features)
    return found


def stored_layer(store: Store, diff_id: DiffID) -> Layer | None:
    """The layer, if one of its blobs is there."""
    found = (row.blob for row in store.index.layers_of(diff_id) if store.blobs.has(row.blob.digest, row.blob.size))
    return next((Layer(blob, diff_id) for blob in found), None)


def _made(build: BuildRecord, record: StepRecord, row: StepRow, op: RunOp | CopyOp | WorkdirOp) -> Circumstances:
    """Under what the layer was made that is in the store."""
    began, ended = row.created - _SLACK - (record.usage.wall_seconds or 0.0 if record.usage else 0.0), row.created
    if record.build == build.id and record.outcome == "done":
        began, ended = build.started + record.started, build.started + record.started + record.seconds
    booted = time.time() - time.monotonic()
    uptime = (began - booted, ended - booted) if began > booted else (0.0, 0.0)
    return Circumstances(began, ended, op.hostname if isinstance(op, RunOp) else "", FIRST_PID, uptime, 0, ON_DISK)


@contextmanager
def with_files(place: Workplace, rooms: Rooms, retraced: Retraced) -> Iterator[Rooms]:
    """The rooms with the build contexts that a step reads, as they were then; NotFoundError where they are gone, or others by now."""
    op, readers = retraced.step.op, list(_context_readers(retraced.step.op))
    with ExitStack() as stack:
        for name in {each.context for _, each in readers}:
            tree = stack.enter_context(_opened(retraced.build, name))
            rooms = replace(rooms, contexts={**rooms.contexts, name: tree}) if name else replace(rooms, context=tree)
        for number, reader in readers:
            inputs = mount_digests(retraced.inputs, number) if isinstance(op, RunOp) else retraced.inputs
            try:
                now = context_digests(rooms, reader, op.epoch)
            except ImgbuildError as error:
                raise NotFoundError(f"what it read of the build context is not there any more: {error.message}") from None
            if now != dict(inputs):
                raise NotFoundError("what it read of the build context is not the same any more", hint="build it again")
        yield rooms


def _context_readers(op: RunOp | CopyOp | WorkdirOp) -> Iterator[tuple[int, CopyOp | MountOp]]:
    if isinstance(op, CopyOp) and op.stage is None and (op.sources or not op.documents):
        yield 0, op
    elif isinstance(op, RunOp):
        for number, mount in enumerate(op.mounts):
            if mount.stage is None and (mount.kind == "bind" or mount.context):
                yield number, mount


@contextmanager
def _opened(build: BuildRecord, name: str) -> Iterator[Any]:
    """A build context where it was."""
    from imgbuild.context.ignore import Ignore
    from imgbuild.context.local import LocalContext

    given = dict(word.partition("=")[::2] for word in build.options.get("contexts", ()))
    directory = Path(given.get(name, "") if name else build.context)
    if not str(directory).startswith("/") and not (name and directory.is_dir()):
        shown = given.get(name, name) if name else build.context
        raise NotFoundError(f"it read files of a build context that is not kept: {shown}")
    if not directory.is_dir():
        raise NotFoundError(f"it read files of the build context {directory}, which is not there any more")
    file = Path(build.buildfile)
    ignore = Ignore.load(directory, file) if not name and build.buildfile.startswith("/") else Ignore.load(directory)
    with LocalContext(directory, ignore) as context:
        yield context


def check_given(retraced: Retraced, rooms: Rooms, allow: frozenset[str]) -> None:
    """UsageError where the step had what it is not given now: a secret, an agent, more rights."""
    op = retraced.step.op
    if not isinstance(op, RunOp):
        return
    for mount in op.mounts:
        if mount.kind == "secret":
            _check_secret(retraced, rooms, mount, op)
        had = mount.required or mount.id in retraced.build.ssh
        if mount.kind == "ssh" and had and (rooms.agents is None or mount.id not in rooms.agents):
            raise UsageError(f"it needs the ssh agent {mount.id!r}", hint=f"give it again with --ssh {mount.id}")
    if op.security == "insecure" and "security.insecure" not in allow:
        raise UsageError("it had all rights over this machine", hint="if you trust it still, add --allow security.insecure")
    for device in op.devices:
        if "device" not in allow and f"device={device.name}" not in allow:
            raise UsageError(f"it used the device {device.name}", hint=f"if you trust it still, add --allow device={device.name}")


def _check_secret(retraced: Retraced, rooms: Rooms, mount: MountOp, op: RunOp) -> None:
    from imgbuild.solve.secrets import secret_inputs

    name = f"{SECRET_INPUT}{mount.id}"
    had = mount.required or mount.id in retraced.build.secrets or name in retraced.inputs
    if had and mount.id not in rooms.secrets:
        raise UsageError(f"it needs the secret {mount.id!r}: none is kept", hint=f"give it again with --secret id={mount.id},src=FILE")
    if name in retraced.inputs and secret_inputs(rooms.store, rooms.secrets, op).get(name, "") not in ("", retraced.inputs[name]):
        raise UsageError(f"the secret {mount.id!r} is not the one that it had", hint="with another one it is another step: build it again")
