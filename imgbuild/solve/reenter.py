"""A failed step's sandbox once more, in the state that it left: the same mounts, environment, user and network, without its limits.

It is made of what the step's own was made of (`run`, `mounts`), from the record. What is written goes to a new upperdir, and is thrown
away: also what is written to cache mounts and writable binds. What was in tmpfs mounts is gone. Secrets and agents are those that are
given now; those that are not are absent.
"""

from __future__ import annotations

from imgbuild.errors import CorruptError, NotFoundError, Source, Span
from imgbuild.graph.ops import Limits, MountOp, RunOp, Step
from imgbuild.hints import Iterator, Mapping
from imgbuild.light.contextlib import contextmanager
from imgbuild.light.pathlib import Path
from imgbuild.rootfs.failed import failed_lowers, lowers_named
from imgbuild.rootfs.stubs import StubShelf
from imgbuild.sandbox.spec import SandboxSpec
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.solve.borrowed import BorrowedMounts
from imgbuild.solve.failed import recorded_op
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.run import RunJob, step_spec
from imgbuild.store.failed import MOUNTS, FailedStep
from imgbuild.values import dataclass, replace

_SHELLS = ("/bin/bash", "/bin/sh", "/usr/bin/sh", "/bin/ash", "/busybox/sh")


@dataclass(frozen=True, slots=True)
class Again:
    """What is to be run, and what the user should know of how it differs from what the step had."""

    spec: SandboxSpec
    notices: tuple[str, ...]


@contextmanager
def reentered(rooms: Rooms, failed: FailedStep, command: tuple[str, ...], *, again: bool) -> Iterator[Again]:
    """The sandbox of a failed step for `command`, or for a shell; with `again`, for what the step itself ran. It can be started once,
    inside the context. NotFoundError where there is neither a command nor a shell."""
    try:
        op = recorded_op(failed.facts)
        lowers = failed_lowers(rooms.store, failed, rooms.features)
        stages = {int(index): lowers_named(rooms.store, failed, names, rooms.features) for index, names in failed.facts["stages"].items()}
        step = Step(op, failed.name, _span(failed))
        inputs = {str(name): str(digest) for name, digest in failed.facts["inputs"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CorruptError(f"the record of the failed step {failed.id} can't be read") from None
    given, notices = _without_missing(rooms, op)
    argv = op.argv if again else command or _shell(rooms, lowers, failed)
    given = replace(given, argv=argv, limits=Limits(), keep=())
    with (
        rooms.store.temporary("stubs") as stubs,
        rooms.snapshotter.prepare(lowers, "debug") as active,
        _KeptMounts(rooms, given, inputs, stages.__getitem__, active.directory / "mounts", failed) as mounts,
    ):
        job = RunJob(step, given, lowers, stages.__getitem__, StubShelf(lambda: stubs), lambda *_: None, lambda: False, inputs)
        yield Again(step_spec(rooms, job, active, mounts), notices)


class _KeptMounts(BorrowedMounts):
    """The mounts of a step, as it left them."""

    def __init__(
        self, rooms: Rooms, op: RunOp, inputs: Mapping[str, str], stage_lowers: object, directory: Path, failed: FailedStep
    ) -> None:
        super().__init__(rooms, op, inputs, stage_lowers, directory, lambda: False)  # type: ignore[arg-type]
        self._kept = failed.directory / MOUNTS

    def _from_context(self, mount: MountOp, directory: Path) -> tuple[Lowers, str]:
        return (DirectoryLower(self._kept / directory.name / "context"),), "/source"

    def _written(self, directory: Path) -> Lowers:
        upper = self._kept / directory.name / "upper"
        return (DirectoryLower(upper),) if upper.is_dir() else ()


def _without_missing(rooms: Rooms, op: RunOp) -> tuple[RunOp, tuple[str, ...]]:
    """The operation, to be done without the secrets and agents that are not given now."""
    notices = []
    for mount in op.mounts:
        absent = (mount.kind == "secret" and mount.id not in rooms.secrets) or (
            mount.kind == "ssh" and (rooms.agents is None or mount.id not in rooms.agents)
        )
        if absent:
            option = f"--secret id={mount.id},src=.." if mount.kind == "secret" else f"--ssh {mount.id}"
            what = "the secret" if mount.kind == "secret" else "the ssh agent"
            notices.append(f"{what} {mount.id!r} is not there: secrets are not kept; give it again with {option}")
    # In their places, whose numbers their files are kept by.
    return replace(op, mounts=tuple(replace(mount, required=False) for mount in op.mounts)), tuple(notices)


def _shell(rooms: Rooms, lowers: Lowers, failed: FailedStep) -> tuple[str, ...]:
    with rooms.view(lowers) as view:
        for path in _SHELLS:
            status = view.stat(path)
            if status is not None and status.mode & 0o111:
                return (path,)
    hint = f"give a command: imgbuild debug {failed.id} COMMAND; or take files out: imgbuild cp failed:{failed.id}:/PATH ."
    raise NotFoundError("there is no shell in the step's root", hint=hint)


def _span(failed: FailedStep) -> Span:
    facts = failed.facts
    lines = ("",) * (int(facts["line"]) - 1) + tuple(map(str, facts["text"]))
    return Span(Source(str(facts["source"]), lines), int(facts["line"]), int(facts["end_line"]))
