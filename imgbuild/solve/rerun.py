"""A RUN once more, for what it leaves: performed as a build does, perhaps under other circumstances, and then thrown away.

Other circumstances are what no step should depend on: the date, the machine's name, numbers of processes, clocks since boot, how many
processors there are, and the order in which directories are listed. For that, the step is given a file system in memory to write to; and
below all of its lowers, one more that has every name of them, made in another order: overlay lists what is merged as its lowest layer does.
Between two runs the wall clock goes on, too: what a file system says of files is not moved with the date. Caches are only read. Nothing
goes to the store.
"""

from __future__ import annotations

import os
import stat
import time

from imgbuild.errors import ConflictError, SandboxError
from imgbuild.graph.ops import CopyOp, RunOp, Step, WorkdirOp
from imgbuild.hints import Callable, Iterator, Mapping
from imgbuild.light.contextlib import ExitStack, contextmanager
from imgbuild.light.functools import partial
from imgbuild.light.pathlib import Path
from imgbuild.linux.memory import is_full
from imgbuild.oci.digest import DiffID
from imgbuild.rootfs.capture import settle, would_be
from imgbuild.rootfs.stubs import StubShelf
from imgbuild.sandbox.spec import UNMOVED, SandboxSpec
from imgbuild.sandbox.wire import SETUP_FAILED
from imgbuild.snapshot import DirectoryLower, Lower, Lowers
from imgbuild.snapshot.overlay import MAX_LOWERS
from imgbuild.snapshot.snapshotter import DirectorySnapshotter, Scratch
from imgbuild.snapshot.union import UnionView
from imgbuild.solve.borrowed import BorrowedMounts
from imgbuild.solve.commit import capture_step
from imgbuild.solve.log import StepLog
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.run import RunJob, hidden, run_once
from imgbuild.solve.state import RootState
from imgbuild.values import dataclass, replace

MOST_NAMES = 200_000
"""Names of a root file system that are made in another order."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under what a step is run: "", 0 or None is what a build has. `last_pid`: the number that the last process before its own had;
    `time_offset`: by how many seconds the clocks since boot are ahead; `memory`: a file system in memory, for the names of the root in
    another order, and, unless `on_disk`, for what the step writes; `ahead`: by how many seconds the wall clock is."""

    hostname: str = ""
    last_pid: int = 0
    time_offset: int = 0
    processors: int = 0
    memory: Path | None = None
    on_disk: bool = False
    ahead: int = 0


class Filled(ConflictError):
    """It failed with no room left in memory: on the disk it may not."""


class Unmoved(SandboxError):
    """The wall clock can't be ahead here, or not for this step."""


@dataclass(frozen=True, slots=True)
class Rerun:
    """A RUN that was performed again: the upperdir that it left, with the times of its layer-to-be, that layer's identity, and when it
    ran, by the machine's wall clock and by the clock since boot as the step sees it."""

    upper: DirectoryLower
    diff_id: DiffID
    began: float
    ended: float
    uptime: tuple[float, float]


@contextmanager
def rerun(
    rooms: Rooms, step: Step, op: RunOp, lowers: Lowers, stages: Mapping[int, Lowers], inputs: Mapping[str, str], under: Conditions
) -> Iterator[Rerun]:
    """Run `op` above `lowers`; its mounts read the lowers in `stages`, by the stage that they name. What it left is there until the context
    ends. ConflictError where it fails."""
    with ExitStack() as stack, rooms.store.temporary("again") as directory:
        memory = _Below(under.memory) if under.memory is not None else None
        scratch: Scratch = rooms.store if memory is None or under.on_disk else memory
        snapshotter = DirectorySnapshotter(rooms.store.root, scratch, features=rooms.features, seen=rooms.seen)
        given = replace(op, hostname=under.hostname or op.hostname, keep=())
        shape = partial(_shaped, under)
        with snapshotter.prepare(lowers, "again") as active, StepLog(active.directory / "log", hidden(rooms, op)) as log:
            names = stack.enter_context(memory.temporary("names")) if memory is not None else None
            below = lowers if names is None else _reordered(rooms, lowers, names)
            job = RunJob(
                step, given, below, stages.__getitem__, StubShelf(lambda: directory), lambda *_: None, lambda: False, inputs, shape=shape
            )
            with BorrowedMounts(rooms, given, inputs, stages.__getitem__, active.directory / "mounts", lambda: False) as mounts:
                began, up = time.time(), time.monotonic()
                ended = run_once(rooms, job, active, mounts, log)
                uptime = up + under.time_offset, time.monotonic() + under.time_offset
            status, over = ended.status, time.time()
            if status.setup_error and status.code == SETUP_FAILED:
                failed = Unmoved if status.setup_error.startswith(UNMOVED) else SandboxError
                raise failed(status.setup_error, at=step.span)
            if status.code or status.signal is not None or ended.expired:
                why = status.setup_error or (f"a limit of time ({ended.expired})" if ended.expired else f"exit code {status.code}")
                filled = under.memory is not None and not under.on_disk and is_full(under.memory)
                failure = Filled if filled else ConflictError
                raise failure(f"it does not succeed any more: {why}", at=step.span, detail=log.tail() or None)
            rootless = rooms.features.rootless
            settle(active.upper, lowers, op.epoch, rootless=rootless, seen=rooms.seen)
            diff_id = would_be(active.upper, lowers, op.epoch, rootless=rootless, seen=rooms.seen)
            yield Rerun(DirectoryLower(active.upper), diff_id, began, over, uptime)


def made_again(
    rooms: Rooms, step: Step, op: CopyOp | WorkdirOp, lowers: Lowers, stages: Mapping[int, Lowers]
) -> tuple[Lower | None, DiffID | None]:
    """What a COPY or WORKDIR makes above `lowers`, in the store of `rooms`, which is to be one of its own: its lower, and its layer's
    identity; None where there is nothing to be made."""
    from imgbuild.solve.files import perform_copy, perform_workdir

    def below(layers: object) -> Lowers:
        return lowers

    if isinstance(op, WorkdirOp):
        made: Lower | None = perform_workdir(rooms, op, lowers)
    else:
        states = {index: RootState("", lambda layers, index=index: stages[index]) for index in stages}  # type: ignore[misc]
        made, captured = perform_copy(rooms, step, op, lowers, states.__getitem__, lambda: None)
        if captured is not None:
            return made, captured.layer.diff_id
    if made is None:
        return None, None
    return made, capture_step(rooms, step, made, RootState("", below), lambda: None).layer.diff_id


class _Below:
    """What is not finished, in a directory of its own kind: it goes away as a whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def temporary(self, prefix: str) -> Iterator[Path]:
        """See snapshotter.Scratch."""
        path = self._directory / f"{prefix}-{os.urandom(8).hex()}"
        path.mkdir()
        try:
            yield path
        finally:
            self.discard(path)

    def discard(self, path: Path) -> None:
        """See snapshotter.Scratch."""
        from imgbuild.store.removal import remove_tree

        remove_tree(path)


def _shaped(under: Conditions, spec: SandboxSpec) -> SandboxSpec:
    sysctl = (*spec.sysctl, ("kernel.ns_last_pid", str(under.last_pid))) if under.last_pid else spec.sysctl
    return replace(spec, sysctl=sysctl, time_offset=under.time_offset, processors=under.processors, ahead=under.ahead)


def _reordered(rooms: Rooms, lowers: Lowers, directory: Path) -> Lowers:
    """The lowers above one more, which shows nothing: each name is another lower's, and comes from it. It has them in the order in which
    a file system in memory lists them, the last one first; lowers are sorted, or as a disk has them."""
    if not lowers or len(lowers) >= MAX_LOWERS - 1:
        return lowers
    (directory / "top").mkdir()
    nothing = directory / "nothing"
    nothing.write_bytes(b"")
    with rooms.view(lowers) as view:
        for path, is_directory in _named(view):
            place = f"{directory}/top{path}"
            if is_directory:
                os.mkdir(place)
            else:
                os.link(nothing, place)
    return (DirectoryLower(directory / "top"), *lowers)


def _named(view: UnionView) -> Iterator[tuple[str, bool]]:
    """The paths of a view but the top, parents first, siblings sorted; and which are directories."""
    for number, (path, node) in enumerate(view.walk()):
        if number > MOST_NAMES:
            return
        if path != "/":
            yield path, stat.S_ISDIR(node.mode)


def wait_for_another_moment(ended: float, *, now: Callable[[], float] = time.time) -> None:
    """Return when the wall clock shows another time than at `ended`, in any format that counts seconds (zip counts every second one)."""
    while int(now() / 2) <= int(ended / 2):
        time.sleep(max(0.01, (int(ended / 2) + 1) * 2 - now()))
