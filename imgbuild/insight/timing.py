"""Where the time of a build went: its critical path, and how much of it ran side by side. Pure."""

from __future__ import annotations

from imgbuild.hints import Sequence
from imgbuild.insight.builds import StepRecord
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """`path`: the chain of steps, each of which needs the one before it, that takes longest: no number of processors makes the build
    shorter than its `path_seconds`, which end with the last one's capture. `work`: seconds of all steps together. `parallelism`: how many
    ran at once on the average of the time in which any did, `most` at the most. `waited`: seconds that steps waited for memory."""

    path: tuple[StepRecord, ...] = ()
    path_seconds: float = 0.0
    work: float = 0.0
    parallelism: float = 0.0
    most: int = 0
    waited: float = 0.0


def timing(steps: Sequence[StepRecord]) -> Timing:
    """The timing of a build's steps. What a step waited for is no work."""
    if not steps:
        return Timing()
    path, seconds = _critical_path(steps)
    work = sum(map(_own, steps))
    busy, most = _busy([(step.started + step.waited, step.started + step.seconds) for step in steps])
    return Timing(path, seconds, work, work / busy if busy > 0 else 1.0, max(most, 1), sum(step.waited for step in steps))


def _own(step: StepRecord) -> float:
    return max(0.0, step.seconds - step.waited)


def _critical_path(steps: Sequence[StepRecord]) -> tuple[tuple[StepRecord, ...], float]:
    known = {step.number: step for step in steps}
    until: dict[int, float] = {}
    before: dict[int, int | None] = {}
    for number in sorted(known):  # a step starts after those that it needs, and numbers are in the order of the starts
        step = known[number]
        needed = [other for other in (*((step.parent,) if step.parent is not None else ()), *step.reads) if other in until]
        longest = max(needed, key=lambda other: (until[other], -other), default=None)
        until[number] = _own(step) + (until[longest] if longest is not None else 0.0)
        before[number] = longest
    ends = {number: until[number] + ((step.capture or 0.0) if step.outcome == "done" else 0.0) for number, step in known.items()}
    last: int | None = max(ends, key=lambda number: (ends[number], -number))
    seconds = max(ends.values())
    path = []
    while last is not None:
        path.append(known[last])
        last = before[last]
    return tuple(reversed(path)), seconds


def _busy(spans: Sequence[tuple[float, float]]) -> tuple[float, int]:
    """The time that the spans cover together, and how many of them overlap at most."""
    changes = sorted([(start, 1) for start, end in spans if end > start] + [(end, -1) for start, end in spans if end > start])
    busy, count, most, since = 0.0, 0, 0, 0.0
    for at, change in changes:
        if count:
            busy += at - since
        count += change
        most, since = max(most, count), at
    return busy, most
