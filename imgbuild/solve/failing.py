"""The error of a step that failed: its cause, where in the Buildfile it stands, the end of its output, and what is kept of it."""

from __future__ import annotations

from imgbuild.errors import Span, StepFailed
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.snapshotter import Active
from imgbuild.solve.causes import Cause, find_cause
from imgbuild.solve.evidence import full_disk, gather
from imgbuild.solve.failed import Ruin, keep_failed
from imgbuild.solve.log import StepLog
from imgbuild.solve.rooms import Rooms
from imgbuild.solve.run import Ended, RunJob
from imgbuild.values import replace

_SHORTEST_WORD = 2
_NO_ROOM: tuple[str, ...] = ("its state is not kept, as there is no room",)


def failure(rooms: Rooms, job: RunJob, active: Active, ended: Ended, log: StepLog, *, foreign: bool) -> StepFailed:
    """The error of a RUN that did not end with 0. Its snapshot is taken over, if it is kept; nothing is asked of one that we stopped."""
    if job.stopped():
        return StepFailed("the step was stopped", at=job.step.span)
    tail, full = log.tail(), full_disk(active.upper)
    with rooms.view((*job.lowers, DirectoryLower(active.upper))) as view:
        seen = gather(
            view, job.op, ended.status, tail,
            expired=ended.expired, full=full, mounts=ended.mounts, resolv_conf=rooms.host.resolv_conf,
            machine="" if foreign else rooms.features.machine,
        )  # fmt: skip
    cause = find_cause(seen)
    kept, notes = "", _NO_ROOM
    if not full:
        ruin = Ruin(job.step, job.op, job.lowers, job.stage_lowers, job.inputs, active, ended.status, cause, log)
        kept, notes = keep_failed(rooms, ruin)
    error = StepFailed(cause.message, hint=cause.hint, detail=tail or None, notes=(*cause.notes, *notes))
    error.at, error.kept, error.usage = place_of(job.step.span, cause), kept, ended.status.usage
    return error


def place_of(span: Span, cause: Cause) -> Span:
    """The instruction's lines, with the word in them that the cause is about, where it stands there once."""
    if len(cause.word) < _SHORTEST_WORD:
        return span
    last = min(span.end_line, len(span.source.lines))
    found = [
        (number, at)
        for number in range(span.line, last + 1)
        for at in _places(span.source.lines[number - 1], cause.word)
    ]
    if len(found) != 1:
        return span
    ((line, at),) = found
    return replace(span, line=line, end_line=line, column=at + 1, end_column=at + 1 + len(cause.word))


def _places(text: str, word: str) -> list[int]:
    """Where a word stands in a line by itself."""
    places, at = [], text.find(word)
    while at >= 0:
        before, after = text[at - 1 : at] if at else "", text[at + len(word) : at + len(word) + 1]
        if not any(beside and (beside.isalnum() or beside in "-_./") for beside in (before, after.replace(".", ""))):
            places.append(at)
        at = text.find(word, at + 1)
    return places
