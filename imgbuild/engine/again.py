"""Runs of past steps: once as a build runs them, and once more under circumstances that no step should depend on, as far as this machine
can give them."""

from __future__ import annotations

import os
import time

from imgbuild.engine.outcomes import Unlike, unlike
from imgbuild.engine.retrace import FIRST_PID, IN_MEMORY, ON_DISK, Retraced
from imgbuild.engine.workplace import Workplace
from imgbuild.errors import ConflictError, SandboxError
from imgbuild.graph.ops import RunOp
from imgbuild.hints import Iterable, Iterator
from imgbuild.insight.reasons import Circumstances
from imgbuild.light.contextlib import AbstractContextManager, ExitStack, contextmanager
from imgbuild.light.pathlib import Path
from imgbuild.linux.memory import in_memory
from imgbuild.rootfs.materialize import materialize
from imgbuild.sandbox import cgroup
from imgbuild.sandbox.available import available_memory
from imgbuild.sandbox.clock_calls import MACHINES
from imgbuild.solve.rerun import Conditions, Filled, Rerun, Unmoved, rerun
from imgbuild.solve.rooms import Rooms
from imgbuild.values import dataclass, replace

HOSTNAME = "elsewhere-7c21"
_DAY = 24 * 3600
_FAR, _NEAR = (days * _DAY + 5 * 3600 + 7 * 60 + 13 for days in (400, 1))
"""How far ahead the date is, in seconds. The far one has another year, month, day of the month and of the week, hour, minute and second,
whatever the date is now (400 is more than a year and the longest month, and no multiple of 7, nor is 401). But certificates and lists of
packages are out of date then: a step that fails is tried with the near one, which has mostly the same year and month.
Ahead, as files are made with the machine's time, which is to be no time to come."""
_TODAY = 1
"""As far ahead is the date of a run which shows that it is the date with which a step fails, and not the way in which it is moved."""
_LAST_PID = 20_000
_TIME_OFFSET = 7_654_321
_PART = 4
"""Of the memory that is available, a step may fill one part of so many."""
_TIMES_LAYER = 3
"""So many times the size of its layer, a step may need while it runs."""
_NEXT = {_FAR: _NEAR, _NEAR: _TODAY, _TODAY: 0}
_NS_LAST_PID, _PID_MAX, _TIME_NAMESPACE = "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/pid_max", "/proc/self/ns/time"


@dataclass(frozen=True, slots=True)
class Varied:
    """What was another one in the second run, and what could not be, in words."""

    varied: tuple[str, ...] = ()
    unvaried: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A run that failed on another date: what the clock was when it began, in seconds since 1970; `far`: that is in another year; and why
    it failed, in words. `once`: the next time it did not, so that it is not the date, or not that alone."""

    date: float
    far: bool
    words: str
    once: bool = False


@dataclass(frozen=True, slots=True)
class Second:
    """The run under other circumstances; `failed` are those on dates further away."""

    run: Rerun
    under: Conditions
    made: Circumstances
    conditions: Varied
    failed: tuple[Failed, ...] = ()


class Runs:
    """Runs steps again; `memory` is a file system of so many bytes in memory, None where there is none."""

    def __init__(self, place: Workplace, memory: Path | None, size: int) -> None:
        self._place = place
        self._memory = memory
        self._size = size

    def first(self, rooms: Rooms, retraced: Retraced, op: RunOp) -> AbstractContextManager[Rerun]:
        """As a build runs it. What it left is there until the context ends."""
        return self.run(rooms, retraced, op, Conditions())

    def made(self, op: RunOp, run: Rerun) -> Circumstances:
        """Under what the first run was."""
        processors = len(os.sched_getaffinity(0))
        return Circumstances(run.began, run.ended, op.hostname, FIRST_PID, run.uptime, processors, ON_DISK)

    @contextmanager
    def second(self, rooms: Rooms, retraced: Retraced, op: RunOp, first: Rerun) -> Iterator[Second]:
        """Under other circumstances: as many of them as the kernel, the size of the step, and what it does, allow."""
        tried = self._conditions(retraced, op)
        dates = _Dates("" if tried[0].ahead else f"not known how on {self._place.features.machine}")
        while True:
            conditions = tried.pop(0)
            stack = ExitStack()
            began = time.time()
            try:
                run = stack.enter_context(self.run(rooms, retraced, op, conditions))
            except Unmoved as error:
                tried = dates.unmoved(error, (conditions, *tried))
                continue
            except SandboxError:
                if not tried:
                    raise
                continue
            except Filled:
                tried = [replace(conditions, on_disk=True)]
                continue
            except ConflictError as error:
                tried = [dates.next(error, conditions, began)]
                continue
            with stack:
                dates.succeeded(conditions)
                if conditions.ahead == _TODAY:
                    conditions = replace(conditions, ahead=0)
                processors = conditions.processors or len(os.sched_getaffinity(0))
                pid = conditions.last_pid + 1 if conditions.last_pid else FIRST_PID
                listing = IN_MEMORY if conditions.memory is not None else ON_DISK
                made = Circumstances(run.began, run.ended, conditions.hostname, pid, run.uptime, processors, listing, conditions.ahead)
                seconds = int(run.began) - int(first.began) + conditions.ahead
                yield Second(run, conditions, made, _words(conditions, seconds, dates.why), tuple(dates.failed))
            return

    def unlike(self, retraced: Retraced, runs: tuple[Rerun, Rerun], made: tuple[Circumstances, Circumstances]) -> Unlike:
        """How the outcomes of two runs differ."""
        if runs[0].diff_id == runs[1].diff_id:
            return Unlike(())
        old, new = ((*retraced.lowers, run.upper) for run in runs)
        return unlike(old, new, made, rootless=self._place.features.rootless)

    def unlike_stored(self, retraced: Retraced, run: Rerun, made: Circumstances) -> Unlike:
        """How the outcome of a run differs from the layer in the store, if that is there."""
        if retraced.layer is None or retraced.layer.diff_id == run.diff_id:
            return Unlike(())
        stored = materialize(self._place.store, (*retraced.below, retraced.layer), features=self._place.features, deep=False)
        lowers = materialize(self._place.store, retraced.below, features=self._place.features, deep=False)
        return unlike(stored, (*lowers, run.upper), (retraced.made, made), rootless=self._place.features.rootless)

    def run(self, rooms: Rooms, retraced: Retraced, op: RunOp, conditions: Conditions) -> AbstractContextManager[Rerun]:
        """Under the conditions. What it left is there until the context ends."""
        return rerun(rooms, retraced.step, op, retraced.lowers, retraced.stages, retraced.inputs, conditions)

    def _conditions(self, retraced: Retraced, op: RunOp) -> list[Conditions]:
        """What to try, one after the other, until the kernel allows it. Files in memory would count against a limit of that."""
        layer = retraced.record.layer
        fits = (layer.uncompressed if layer is not None else 0) * _TIMES_LAYER < self._size and op.limits.memory is None
        processors = (len(os.sched_getaffinity(0)) + 1) // 2
        offset = _TIME_OFFSET if os.path.exists(_TIME_NAMESPACE) else 0
        ahead = _FAR if self._place.features.machine in MACHINES else 0
        full = Conditions(HOSTNAME, _last_pid(), offset, processors, self._memory, on_disk=not fits, ahead=ahead)
        fewer = replace(full, last_pid=0, time_offset=0)
        return list(dict.fromkeys((full, replace(full, time_offset=0), fewer, replace(fewer, on_disk=True), replace(fewer, memory=None))))


class _Dates:
    """Which dates a step is run on: `failed` are those on which it failed, and `why` is, in the end, why it is today's."""

    def __init__(self, why: str) -> None:
        self.why = why
        self.failed: list[Failed] = []

    def unmoved(self, error: Unmoved, tried: Iterable[Conditions]) -> list[Conditions]:
        """What is to be tried, where the date can't be another one."""
        self.why = error.message.partition(": ")[2]
        return [replace(each, ahead=0) for each in tried]

    def next(self, error: ConflictError, conditions: Conditions, began: float) -> Conditions:
        """What is to be tried after a failure: first the same again, as some steps fail by chance; if today's date was not moved either,
        there is nothing, and `error` is raised."""
        if not conditions.ahead:
            raise error
        if conditions.ahead == _TODAY:
            self.why = "it fails where its processes are traced"
            self.failed.clear()
        elif not self._has_failed(conditions):
            self.why = "it fails on another one"
            self.failed.append(Failed(began + conditions.ahead, conditions.ahead == _FAR, last_words(error).partition(": ")[2]))
            return conditions
        return replace(conditions, ahead=_NEXT[conditions.ahead])

    def succeeded(self, conditions: Conditions) -> None:
        """It did not fail so; if it had, then by chance."""
        if self._has_failed(conditions):
            self.failed[-1] = replace(self.failed[-1], once=True)

    def _has_failed(self, conditions: Conditions) -> bool:
        far = {_FAR: True, _NEAR: False}.get(conditions.ahead)
        return bool(self.failed) and self.failed[-1].far is far


@contextmanager
def opened_runs(place: Workplace) -> Iterator[Runs]:
    """Starts the zygote: call it before there are threads. Nothing is left of it, however this process ends."""
    with ExitStack() as stack:
        size = (available_memory(cgroup.here()) or 0) // _PART
        directory: Path | None = stack.enter_context(place.store.temporary("memory"))
        try:
            memory = stack.enter_context(in_memory(directory, size)) if directory is not None and size else None
        except OSError:
            memory = None
        place.start_zygote()
        yield Runs(place, memory, size)


@contextmanager
def empty_rooms(place: Workplace) -> Iterator[Rooms]:
    """What runs of past steps work with, without any build context."""
    from imgbuild.context.local import LocalContext
    from imgbuild.layer.compression import Compression
    from imgbuild.solve.etc import HostNetwork

    with place.store.temporary("nothing") as directory, LocalContext(directory) as nothing:
        yield Rooms(
            store=place.store, zygote=place.start_zygote, features=place.features, context=nothing, compression=Compression(),
            host=HostNetwork(resolv_conf()),
        )  # fmt: skip


def last_words(error: ConflictError) -> str:
    """Why a step does not succeed any more, with the last line that it wrote."""
    last = (error.detail or "").rstrip().rpartition("\n")[2]
    return f"{error.message}; its last line was: {last}" if last else error.message


def resolv_conf() -> bytes:
    """This machine's."""
    try:
        return Path("/etc/resolv.conf").read_bytes()
    except OSError:
        return b""


def _last_pid() -> int:
    """What the number of the last process is to be; 0 where the kernel does not let it be set."""
    if not os.path.exists(_NS_LAST_PID):
        return 0
    with open(_PID_MAX, encoding="ascii") as file:
        return min(_LAST_PID, int(file.read()) // 2)


def _words(conditions: Conditions, seconds: int, unmoved: str) -> Varied:
    """What was another one, and what was not."""
    has = len(os.sched_getaffinity(0))
    days = round(conditions.ahead / _DAY)
    each = (
        (f"the wall clock, by {seconds} s", True, ""),
        (f"the date, by {days} day{'' if days == 1 else 's'}", bool(conditions.ahead), unmoved),
        ("the machine's name", bool(conditions.hostname), ""),
        ("the numbers of processes", bool(conditions.last_pid), "the kernel does not let them be set"),
        (f"the clocks since boot, by {conditions.time_offset} s", bool(conditions.time_offset), "the kernel has no time namespaces for us"),
        (f"processors: {conditions.processors} of {has}", 0 < conditions.processors < has, "there is one alone"),
        ("the order of directories", conditions.memory is not None, "there is no file system in memory"),
        ("the file system that is written to", conditions.memory is not None and not conditions.on_disk, "it does not fit into memory"),
    )
    varied = tuple(name for name, done, _ in each if done)
    return Varied(varied, tuple(f"{name.partition(', by')[0].partition(':')[0]}: {why}" for name, done, why in each if not done))
