"""Keeps steps from running side by side that, by what they needed before, do not fit into memory together.

What a RUN held when it last ran is remembered by what it is (Buildfile, platform, stage and instruction), not by its key, which is another
one whenever it has to run again. A step of which nothing is known counts as nothing, and one that runs alone always may.
"""

from __future__ import annotations

import time

from imgbuild.errors import StoreError
from imgbuild.graph.ops import RunOp, Step
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Iterator, Mapping
from imgbuild.light import threading
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.oci.digest import digest_of
from imgbuild.solve.events import OnEvent, StepWaiting
from imgbuild.store.index import Index
from imgbuild.store.locks import Interrupted

if TYPE_CHECKING:
    from imgbuild.solve.chronicle import Chronicle

_LOOK_SECONDS = 0.2
_OWNER = "peaks"
"""The owner of what is remembered, among the index's memos."""


class Memory:
    """The memory that steps share. `budget` bytes of it; None: what is available when it is first asked."""

    def __init__(self, budget: int | None = None) -> None:
        self._budget = budget
        self._changed = threading.Condition()
        self._held: dict[int, tuple[str, int]] = {}
        self._next = 0

    @contextmanager
    def held(self, name: str, peak: int, on_wait: Callable[[str], None], stopped: Callable[[], bool]) -> Iterator[float]:
        """A step that may need `peak` bytes (0: not known) runs meanwhile: the seconds that it waited for others, until it fitted beside
        them. `on_wait` is told once why. Raises Interrupted when `stopped` says so."""
        number, waited = self._enter(name, peak, on_wait, stopped)
        try:
            yield waited
        finally:
            with self._changed:
                del self._held[number]
                self._changed.notify_all()

    def _enter(self, name: str, peak: int, on_wait: Callable[[str], None], stopped: Callable[[], bool]) -> tuple[int, float]:
        started, said = time.monotonic(), False
        while True:
            with self._changed:
                why = self._why(peak)
                if why and said:
                    self._changed.wait(_LOOK_SECONDS)
                    why = self._why(peak)
                if not why:
                    self._next += 1
                    self._held[self._next] = (name, peak)
                    return self._next, time.monotonic() - started if said else 0.0
            if stopped():
                raise Interrupted("the step was stopped")
            if not said:
                on_wait(why)
                said = True

    def _limit(self) -> int:
        if self._budget is None:
            from imgbuild.sandbox import cgroup
            from imgbuild.sandbox.available import available_memory

            self._budget = available_memory(cgroup.here()) or 1 << 60
        return self._budget

    def _why(self, peak: int) -> str:
        """Why a step does not fit now; "" where it does, or nothing else that is known runs."""
        used = sum(size for _, size in self._held.values())
        if not used or not peak or used + peak <= self._limit():
            return ""
        from imgbuild.solve.causes import size_text

        others = ", ".join(name for name, size in self._held.values() if size)
        there = f"of the {size_text(self._limit())} that there are"
        return f"before, it held {size_text(peak)} of memory; {size_text(used)} {there} may be needed by {others}"


@contextmanager
def within(
    memory: Memory, index: Index, chronicle: Chronicle, step: Step, number: int, on_event: OnEvent, stopped: Callable[[], bool]
) -> Iterator[None]:
    """When there is room for a RUN beside the others, by what it held before; and then that is known anew."""
    peak, whole = expected(index, chronicle.subject, step), False
    with memory.held(step.name, peak, lambda why: on_event(StepWaiting(number, why)), stopped) as waited:
        chronicle.waited(number, waited)
        try:
            yield
            whole = True
        finally:
            learn(index, chronicle.subject, step, chronicle.usage(number), whole=whole)


def expected(index: Index, subject: str, step: Step) -> int:
    """The bytes that a RUN held when it last ran, within its own limit; 0 where that is not known. `subject` is the Buildfile."""
    assert isinstance(step.op, RunOp)
    known = index.content_digest(_OWNER, identity_of(subject, step))
    peak = int(known) if known is not None and known.isdigit() else 0
    limit = step.op.limits.memory
    return peak if limit is None else min(peak, limit)


def learn(index: Index, subject: str, step: Step, usage: Mapping[str, Any], *, whole: bool) -> None:
    """Remember what a RUN held (`usage` as records have it). One that did not get to its end (not `whole`) may have needed more than it
    got. To no more than a tenth, so that most runs of a step write nothing."""
    held = usage.get("peak_held", 0)
    identity = identity_of(subject, step)
    with suppress(StoreError):  # a store that is full must not hide how the step ended
        known = index.content_digest(_OWNER, identity)
        before = int(known) if known is not None and known.isdigit() else 0
        if held > before * 1.1 or (whole and held < before * 0.9):
            index.record_content_digest(_OWNER, identity, str(held))


def identity_of(subject: str, step: Step) -> str:
    """What a RUN is, whatever its key: its Buildfile, platform, stage and words."""
    assert isinstance(step.op, RunOp)
    stage = step.name.partition("] ")[0].lstrip("[").rpartition(" ")[0]
    return digest_of("\0".join((subject, step.op.platform, stage, step.name.partition("] ")[2])).encode("utf-8", "surrogateescape"))
