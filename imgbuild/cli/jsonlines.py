"""``--progress=json``: what happens as a stream of JSON on the standard output, one object a line, for programs. Version 1 of it.

Each object has ``event``, what happened, and ``time``, when, in seconds since 1970. The other fields are these; one in brackets is left out
where there is nothing to be said. Steps are known by their number (``step``), which is theirs in this stream alone. Fields and events may
be added; those that are here keep their meaning while ``version`` stays the same. Errors are also said on the standard error, in words.

==================  ==============================================  =================================================================
event               fields                                          when
==================  ==============================================  =================================================================
StreamBegun         version, imgbuild                               first of all
StepsKnown          steps                                           so many steps are looked up from now on; of a bake's targets, each
StepStarted         step, name, file, line                          a step is looked up, or performed
StepMissed          step, causes, [more]                            it was not found in the cache: why (kind, subject and what of each,
                                                                    with its file, line, old and new, as far as it has them)
StepWaiting         step, why                                       it can't go on for now
StepOutput          step, stream, data                              it wrote something, to 1 or 2; not always whole lines
StepFinished        step, outcome, seconds, [usage]                 done, cached, failed or canceled; what it cost, if a process ran
Warned              rule, message, file, line, end_line             lint found something
Notice              text                                            something to be known that is no error
TransferStarted     action, name, [digest]                          an image is pulled or pushed
TransferNotice      message                                         a notice of that
TransferFinished    action, name, digest                            it is
BlobStarted         digest, size, kind                              a part of it is moved
BlobAdvanced        digest, done                                    so many bytes of it
BlobFinished        digest, size, how                               it is there: fetched, sent, mounted, present, converted or written
BuildFinished       image, digest, names, cached, performed,        what was built; `target` is that of a bake
                    seconds, [target]
BuildFailed         kind, message, exit_code, [file, line,          why it was not: `kind` is a word for programs; `detail` is the end
                    column, detail, notes, hint]                    of what the step wrote, `hint` what to do
ChangesAwaited                                                      with --watch: a build is over, and the next one waits for changes
ChangesSeen         changes                                         they came: `path` and `what` (changed, added, removed) of each
StreamEnded         status                                          last of all: done, failed or canceled
==================  ==============================================  =================================================================
"""

from __future__ import annotations

import time
from _thread import allocate_lock

from imgbuild import __version__
from imgbuild.cli.progress import Quiet
from imgbuild.errors import ImgbuildError
from imgbuild.hints import TYPE_CHECKING, Any, TextIO
from imgbuild.light import json
from imgbuild.solve.events import Notice, StepFinished, StepMissed, StepOutput, StepsKnown, StepStarted, StepWaiting, Warned

if TYPE_CHECKING:
    from types import TracebackType

    from imgbuild.cli.progress import Result

VERSION = 1


class JsonLines(Quiet):
    """Receives events from any thread; each is a line at once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = allocate_lock()

    def __enter__(self) -> JsonLines:
        self.say("StreamBegun", version=VERSION, imgbuild=__version__)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, ImgbuildError):
            self.say("BuildFailed", **_problem(error))
        elif isinstance(error, Exception):
            self.say("BuildFailed", kind="internal", message=f"{type(error).__name__}: {error}", exit_code=70)
        self.say("StreamEnded", status="done" if error is None else "failed" if isinstance(error, Exception) else "canceled")

    def on_event(self, event: object) -> None:
        fields = _fields(event)
        if fields is not None:
            self.say(type(event).__name__, **fields)

    def finish(self, result: Result, target: str = "") -> None:
        self.say(
            "BuildFinished",
            image=result.image_id,
            digest=result.digest,
            names=[name.familiar() for name in result.names],
            cached=result.cached,
            performed=result.performed,
            seconds=result.seconds,
            target=target or None,
        )

    def say(self, event: str, **fields: object) -> None:
        """Write an event; fields that are None are left out."""
        line = json.dumps({"event": event, "time": time.time(), **{name: value for name, value in fields.items() if value is not None}})
        with self._lock:
            self._out.write(f"{line}\n")
            self._out.flush()


def _problem(error: ImgbuildError) -> dict[str, object]:
    at = error.at
    return {
        "kind": error.reference,
        "message": error.message,
        "exit_code": error.exit_code,
        "file": at.source.name if at is not None else None,
        "line": at.line if at is not None else None,
        "column": at.column or None if at is not None else None,
        "detail": error.detail or None,
        "notes": list(error.notes) or None,
        "hint": error.hint or None,
    }


def _fields(event: object) -> dict[str, Any] | None:
    """What is said of an event; None for one that the stream does not know."""
    match event:
        case StepsKnown(steps):
            return {"steps": steps}
        case StepStarted(number, name, span):
            return {"step": number, "name": name, "file": span.source.name, "line": span.line}
        case StepMissed(number, causes, more):
            from imgbuild.insight.cause import cause_fields

            return {"step": number, "causes": [cause_fields(cause) for cause in causes], "more": more or None}
        case StepOutput(number, stream, data):
            return {"step": number, "stream": stream, "data": data.decode("utf-8", "replace")}
        case StepWaiting(number, why):
            return {"step": number, "why": why}
        case StepFinished(number, outcome, seconds, usage):
            from imgbuild.values import asdict

            return {"step": number, "outcome": outcome, "seconds": seconds, "usage": asdict(usage) if usage else None}
        case Warned(rule, message, span):
            return {"rule": rule, "message": message, "file": span.source.name, "line": span.line, "end_line": span.end_line}
        case Notice(text):
            return {"text": text}
        case _:
            return _transfer_fields(event)


def _transfer_fields(event: object) -> dict[str, Any] | None:
    from imgbuild.transfer.events import BlobAdvanced, BlobFinished, BlobStarted, TransferFinished, TransferNotice, TransferStarted
    from imgbuild.values import asdict

    match event:
        case TransferNotice() | TransferStarted() | TransferFinished() | BlobStarted() | BlobAdvanced() | BlobFinished():
            return asdict(event)
        case _:
            return None
