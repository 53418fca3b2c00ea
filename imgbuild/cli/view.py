"""What a terminal shows of a build, as values: `View` takes events, and says which lines stay and what stands below them for now.

What stays is in the order in which it happened, and whole; what stands below is no higher than it may be: steps that run, in the order of
their numbers, with their time and the last line that they wrote; what is transferred; and a line of totals. Nothing here knows a terminal.
"""

from __future__ import annotations

from imgbuild.cli.progress import calm, human_size, outcome_text, warning_text
from imgbuild.hints import Iterable
from imgbuild.solve.events import Notice, StepFinished, StepMissed, StepOutput, StepsKnown, StepStarted, StepWaiting, Warned

Segment = tuple[str, str]
"""A text, and what it is shown as: "good" is what ended well, "bad" what did not, "told" what should be known, "weak" what can be
overlooked, "strong" what leads the eye, "" all else."""
Row = tuple[Segment, ...]

_OUTCOMES = {"done": "good", "failed": "bad", "canceled": "told"}
_USUAL = ("first", "parent", "no-cache")
"""Causes that nobody asks for while looking on."""
_INDENT = 13
_KEPT = 4 << 10
"""Bytes of a line that is shown only in part."""


class _Running:
    """A step that has started: its last line of output, what it waits for, and the beginning of a line that it has not ended."""

    def __init__(self, name: str, since: float) -> None:
        self.name = name
        self.since = since
        self.last = ""
        self.waiting = ""
        self.rest = b""


class View:
    """Not for several threads at once. `since` is when it all began, on the clock that `take` and `rows` are told the time of."""

    def __init__(self, since: float) -> None:
        self._since = since
        self._names: dict[int, str] = {}
        self._running: dict[int, _Running] = {}
        self._blobs: dict[str, tuple[int, int]] = {}
        self._known = 0
        self._ended: dict[str, int] = {}
        """How many steps have ended, by how they did."""

    @property
    def busy(self) -> bool:
        """Whether anything goes on that is worth being looked at."""
        return bool(self._running or self._blobs)

    def take(self, event: object, now: float) -> list[Row]:
        """Note what happened: the lines of it that stay."""
        match event:
            case StepsKnown(steps):
                self._known += steps
            case StepStarted(number, name):
                self._names[number] = calm(name)
                self._running[number] = _Running(self._names[number], now)
            case StepMissed(number, causes, more):
                from imgbuild.cli.causes import causes_text

                if any(cause.kind not in _USUAL for cause in causes):
                    return [((f"{'MISS':>12} #{number} {self._names.get(number, '')}: {causes_text(causes, more)}", "weak"),)]
            case StepOutput(number, _, data):
                if number in self._running:
                    _write(self._running[number], data)
            case StepWaiting(number, why):
                if number in self._running:
                    self._running[number].waiting = calm(why)
            case StepFinished(number, outcome, seconds):
                return [self._finished(number, outcome, seconds)]
            case Notice(text):
                return [((f"notice: {calm(text)}", "told"),)]
            case Warned():
                return [((warning_text(event), "told"),)]
            case _:
                return self._transfer(event)
        return []

    def rows(self, now: float, height: int) -> list[Row]:
        """What stands below for now, in `height` rows at most; none where nothing goes on."""
        if not self.busy or height < 1:
            return []
        totals = self._totals(now)
        room = height - 1
        steps = [self._step(number, step, now) for number, step in sorted(self._running.items())]
        blobs = [self._blob(digest, *moved) for digest, moved in self._blobs.items()]
        whole = [row for step in steps for row in step] + blobs
        if len(whole) > room:
            # What they wrote last goes first, then blobs become one, then those with the highest numbers are only counted.
            whole = [step[0] for step in steps] + (blobs if len(steps) + len(blobs) <= room else self._all_blobs())
        if len(whole) > room:
            left = len(whole) - max(room - 1, 0)
            whole = whole[: max(room - 1, 0)] + ([((f"{'':>{_INDENT}}and {left} more", "weak"),)] if room else [])
        return [*whole, totals]

    def _finished(self, number: int, outcome: str, seconds: float) -> Row:
        self._running.pop(number, None)
        self._ended[outcome] = self._ended.get(outcome, 0) + 1
        return (f"{outcome_text(outcome, seconds):>12}", _OUTCOMES.get(outcome, "weak")), (f" #{number} {self._names.get(number, '')}", "")

    def _step(self, number: int, step: _Running, now: float) -> list[Row]:
        rows: list[Row] = [((f"{elapsed(now - step.since):>12}", "strong"), (f" #{number} {step.name}", ""))]
        last = f"waiting: {step.waiting}" if step.waiting else step.last
        return [*rows, ((f"{'':>{_INDENT}}{last}", "weak"),)] if last else rows

    def _transfer(self, event: object) -> list[Row]:
        from imgbuild.transfer.events import BlobAdvanced, BlobFinished, BlobStarted, TransferFinished, TransferNotice, TransferStarted

        match event:
            case TransferNotice(text):
                return [((f"notice: {calm(text)}", "told"),)]
            case TransferStarted(action, name):
                return [((f"{action} {calm(name)}", ""),)]
            case TransferFinished(action, name):
                return [((f"{action} {calm(name)} done", "good"),)]
            case BlobStarted(digest, size):
                self._blobs[digest] = (0, size)
            case BlobAdvanced(digest, done) if digest in self._blobs:
                self._blobs[digest] = (done, self._blobs[digest][1])
            case BlobFinished(digest):
                self._blobs.pop(digest, None)
        return []

    def _blob(self, digest: str, done: int, size: int) -> Row:
        return ((f"{'':>{_INDENT}}{digest[7:19]} {human_size(done)} of {human_size(size)}", ""),)

    def _all_blobs(self) -> list[Row]:
        if not self._blobs:
            return []
        done, size = (sum(moved[at] for moved in self._blobs.values()) for at in (0, 1))
        return [((f"{'':>{_INDENT}}{len(self._blobs)} blobs, {human_size(done)} of {human_size(size)}", ""),)]

    def _totals(self, now: float) -> Row:
        ended = sum(self._ended.values())
        waiting = [step.waiting for step in self._running.values() if step.waiting]
        parts = [f"{ended}/{max(self._known, ended)} steps"] if self._known else []
        parts += [f"{self._ended[outcome]} {outcome}" for outcome in ("cached", "failed", "canceled") if outcome in self._ended]
        parts += [f"{len(self._running) - len(waiting)} running"] if len(self._running) > len(waiting) else []
        parts += [f"{len(waiting)} waiting ({waiting[0]})"] if waiting else []
        return ((f"{elapsed(now - self._since):>12}", "strong"), (f" {', '.join(parts)}", ""))


def elapsed(seconds: float) -> str:
    """A time that goes on, in whole seconds, so that what shows it is still in between."""
    whole = max(0, int(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{rest:02}s" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _write(step: _Running, data: bytes) -> None:
    """Of what a step writes, keep the last line that says something, whole or not."""
    *lines, rest = data.split(b"\n")
    if lines:
        lines[0] = step.rest + lines[0]
        step.rest = rest
    else:
        step.rest += rest
    step.rest = step.rest[-_KEPT :]
    for line in _last([*lines, step.rest]):
        text = calm(line[-_KEPT :].decode("utf-8", "surrogateescape")).strip()
        if text:
            step.last, step.waiting = text, ""
            return


def _last(lines: Iterable[bytes]) -> list[bytes]:
    """The last few that are not empty, the very last first."""
    return [line for line in lines if line.strip()][-3:][::-1]
