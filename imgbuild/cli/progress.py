"""Shows what happens: plain lines for logs, a calm live view for terminals, JSON lines for programs, or nothing.

Plain: every step has a number (``#3``); each line of output stands behind its step's number, so that steps side by side
can be told apart and found again. Nothing of this goes to stdout but JSON lines and results.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock

from imgbuild.cli.streams import say
from imgbuild.errors import StepFailed
from imgbuild.hints import TYPE_CHECKING, Protocol, TextIO
from imgbuild.light.collections import deque
from imgbuild.patterns import pattern
from imgbuild.solve.events import Notice, StepFinished, StepMissed, StepOutput, StepStarted, StepWaiting, Warned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType


class Familiar(Protocol):
    """A name as users write it."""

    def familiar(self) -> str: ...


class Result(Protocol):
    """What was built, as much of it as is shown."""

    @property
    def image_id(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def names(self) -> Sequence[Familiar]: ...
    @property
    def cached(self) -> int: ...
    @property
    def performed(self) -> int: ...
    @property
    def seconds(self) -> float: ...


LONGEST_LINE = 1 << 18
"""A line of output that is longer is shown in parts: nobody waits for its end, and it need not fit into memory."""


_LAST_LINES = 20
"""As many as an error says."""


class Renderer(Protocol):
    """Receives events from any thread; a context manager around all of them."""

    def __enter__(self) -> Renderer: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def on_event(self, event: object) -> None: ...

    def finish(self, result: Result, target: str = "") -> None: ...


def make_renderer(mode: str, environ: Mapping[str, str]) -> Renderer:
    """The renderer for ``--progress``; "auto" is a live view on a terminal that can show one, and plain elsewhere, as "tty" is where there
    is none."""
    if mode in ("auto", "tty"):
        able = sys.stderr.isatty() and environ.get("TERM", "") not in ("", "dumb")
        wanted = mode == "tty" or not (environ.get("NO_COLOR") or "CI" in environ)
        mode = "tty" if able and wanted else "plain"
    if mode == "quiet":
        return Quiet()
    if mode == "none":
        return Silent()
    if mode == "rawjson":
        from imgbuild.cli.rawjson import RawJson

        return RawJson(sys.stderr)
    if mode == "json":
        from imgbuild.cli.jsonlines import JsonLines

        return JsonLines(sys.stdout)
    if mode == "tty":
        from imgbuild.cli.live import Live

        return Live(color=not environ.get("NO_COLOR"))
    return Plain(sys.stderr)


class Quiet:
    """Says only what was built."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def on_event(self, event: object) -> None:
        pass

    def finish(self, result: Result, target: str = "") -> None:
        say(result.image_id)


class Silent(Quiet):
    """Says nothing."""

    def finish(self, result: Result, target: str = "") -> None:
        pass


class Plain(Quiet):
    """Lines that can be searched."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lock = allocate_lock()
        self._partial: dict[int, bytes] = {}
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        """What the step wrote last that wrote something last."""
        self._wrote = 0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, StepFailed) and error.detail:
            said = [readable(line.encode("utf-8", "surrogateescape")) for line in error.detail.split("\n")]
            if list(self._last)[-len(said) :] == said:
                error.detail = None  # it stands just above

    def on_event(self, event: object) -> None:
        with self._lock:
            if lines := self._lines(event):
                self._out.write("\n".join(lines) + "\n")
            self._out.flush()

    def finish(self, result: Result, target: str = "") -> None:
        self._out.write("\n".join(summary(result, target)) + "\n")

    def _lines(self, event: object) -> list[str]:
        match event:
            case StepStarted(number, name):
                return [f"#{number} {calm(name)}"]
            case StepMissed(number, causes, more):
                from imgbuild.cli.causes import causes_text

                return [f"#{number} MISS: {causes_text(causes, more)}"]
            case StepOutput(number, _, data):
                *lines, rest = (self._partial.pop(number, b"") + data).split(b"\n")
                if len(rest) > LONGEST_LINE:
                    rest = _not_overwritten(rest)
                if len(rest) > LONGEST_LINE:
                    lines, rest = [*lines, rest], b""
                self._partial[number] = rest
                return self._output(number, lines)
            case StepWaiting(number, why):
                return [f"#{number} waiting: {calm(why)}"]
            case StepFinished(number, outcome, seconds):
                rest = self._partial.pop(number, b"")
                return [*self._output(number, [rest] if rest else []), f"#{number} {outcome_text(outcome, seconds)}"]
            case Notice(text):
                return [f"notice: {calm(text)}"]
            case Warned():
                return [warning_text(event)]
            case _:
                return _transfer_lines(event)

    def _output(self, number: int, lines: Sequence[bytes]) -> list[str]:
        shown = [readable(line) for line in lines]
        if shown and number != self._wrote:
            self._wrote = number
            self._last.clear()
        self._last.extend(shown)
        return [f"#{number} | {line}" for line in shown]


def _transfer_lines(event: object) -> list[str]:
    from imgbuild.transfer.events import BlobFinished, TransferFinished, TransferNotice, TransferStarted

    match event:
        case TransferNotice(text):
            return [f"notice: {calm(text)}"]
        case TransferStarted(action, name):
            return [f"{action} {name}"]
        case BlobFinished(digest, size, how) if how != "present":
            return [f"  {how} {digest[:19]} {human_size(size)}"]
        case TransferFinished(action, name, digest):
            return [f"{action} {name} done: {digest}"]
        case _:
            return []


def summary(result: Result, target: str = "") -> list[str]:
    """What was built, for a person; `target` is its name in a build file."""
    names = ", ".join(name.familiar() for name in result.names) or "no name"
    steps = f"{result.cached} cached, {result.performed} performed"
    return [f"{target and f'{target}: '}built {names} in {result.seconds:.2f} s ({steps})", f"digest {result.digest}"]


def warning_text(warned: Warned) -> str:
    """What lint says, in one line that begins with its place."""
    text = f"warning: {warned.span.lines} {warned.rule}: {warned.message}"
    return "".join(character if character.isprintable() else "?" for character in text)


def outcome_text(outcome: str, seconds: float) -> str:
    """How a step ended: CACHED, or with its time."""
    return "CACHED" if outcome == "cached" else f"{outcome.upper()} {seconds:.1f}s"


def human_size(size: float) -> str:
    """A size for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


_WIDEST = 1 << 10
"""Characters of a text that may be shown only in part."""
_COLORS = pattern(r"\x1b\[[0-9;:]*m")
_ESCAPES = pattern(
    r"(\x1b\[[0-9;:]*m)"  # the first group: colors
    r"|\x1b(?:\[[0-?]*[ -/]*[@-~]?|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)"  # CSI; OSC and other strings; all others
)
"""ECMA-48, 5.4 and 5.6; a string may also end with BEL."""


def readable(line: bytes) -> str:
    """A line of output without what would move the cursor: what a carriage return would overwrite is left out. Of escape sequences
    colors stay: others would clear the screen, or hide what follows."""
    text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
    if "\x1b" in text:
        text = _ESCAPES.sub(lambda found: found[0] if found[1] else "", text)
    if text.isprintable() or text.replace("\t", "").replace("\x1b", "").isprintable():
        return text  # as nearly all are, and a loop over characters takes as long as a hundred of these
    return "".join(character for character in text if character == "\t" or character.isprintable() or character == "\x1b")


def calm(text: str) -> str:
    """A text without anything that moves, colors or hides: what is measured is what is shown."""
    shown = readable(text.replace("\n", " ").encode("utf-8", "surrogateescape"))[:_WIDEST]
    return _COLORS.sub("", shown).replace("\t", " ").replace("\x1b", "")


def _not_overwritten(line: bytes) -> bytes:
    """The beginning of a line without what a carriage return in it already overwrites."""
    return line[line.rstrip(b"\r").rfind(b"\r") + 1 :]
