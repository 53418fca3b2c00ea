"""The live view of a build on a terminal; rich's only room.

Finished steps scroll by as lines and stay; below them, what runs now: its time and its last line of output.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live as RichLive
from rich.text import Text

from imgbuild.cli.progress import Quiet, human_size, outcome_text, readable, summary, warning_text
from imgbuild.hints import TracebackType
from imgbuild.light import threading
from imgbuild.solve.events import Notice, StepFinished, StepMissed, StepOutput, StepStarted, StepWaiting, Warned
from imgbuild.transfer.events import BlobAdvanced, BlobFinished, BlobStarted, TransferFinished, TransferNotice, TransferStarted

if TYPE_CHECKING:
    from imgbuild.cli.progress import Result

_STYLES = {"done": "green", "cached": "cyan", "failed": "bold red", "canceled": "yellow"}
_USUAL = ("first", "parent", "no-cache")
"""Causes that nobody asks for while looking on."""
_KEPT_LINES = 12
_WIDEST = 1 << 12
_TICK = 0.125


class Live(Quiet):
    """Receives events from any thread and redraws a few times a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._drawn = 0.0
        self._ended = threading.Event()
        self._ticker: threading.Thread | None = None
        self._running: dict[int, tuple[str, float]] = {}
        self._output: dict[int, list[str]] = {}
        self._blobs: dict[str, tuple[int, int]] = {}
        self._console = Console(stderr=True, highlight=False)
        # rich's own thread would be there before the zygote is forked, and before a user namespace is entered.
        self._live = RichLive(get_renderable=self._view, console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Live:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def finish(self, result: Result, target: str = "") -> None:
        self._stop()
        for line in summary(result, target):
            self._console.print(Text(line, style="bold"))

    def on_event(self, event: object) -> None:
        with self._lock:
            line = self._take(event)
            due = time.monotonic() - self._drawn >= _TICK
            if isinstance(event, StepStarted) and self._ticker is None and threading.current_thread() is not threading.main_thread():
                # There are threads, so what must come before the first one has come.
                self._ticker = threading.Thread(target=self._tick, name="imgbuild-view", daemon=True)
                self._ticker.start()
        if line is not None:
            self._console.print(line)
        elif due:
            self._live.refresh()

    def _tick(self) -> None:
        while not self._ended.wait(_TICK):
            self._live.refresh()

    def _stop(self) -> None:
        self._ended.set()
        if self._ticker is not None:
            self._ticker.join()
        self._live.stop()

    def _take(self, event: object) -> Text | None:
        """Note the event; what of it stays on the screen, if anything."""
        match event:
            case StepStarted(number, name):
                self._running[number] = (name, time.monotonic())
            case StepMissed(number, causes, more):
                from imgbuild.cli.causes import causes_text

                if any(cause.kind not in _USUAL for cause in causes):
                    return Text(f"{'MISS':>12} {self._running[number][0]}: {causes_text(causes, more)}", style="dim")
            case StepOutput(number, _, data):
                kept = self._output.setdefault(number, [])
                last = [part for part in data.split(b"\n") if part.strip()][-_KEPT_LINES:]
                kept += [readable(part)[:_WIDEST] for part in last]
                del kept[:-_KEPT_LINES]
            case StepWaiting(number, why):
                self._output[number] = [f"waiting: {readable(why.encode())}"[:_WIDEST]]
            case StepFinished(number, outcome, seconds):
                name, _ = self._running.pop(number, ("", 0.0))
                self._output.pop(number, None)
                return Text.assemble((f"{outcome_text(outcome, seconds):>12} ", _STYLES.get(outcome, "")), name)
            case Notice(text) | TransferNotice(text):
                return Text(f"notice: {text}", style="yellow")
            case Warned():
                return Text(warning_text(event), style="yellow")
            case TransferStarted(action, name):
                return Text(f"{action} {name}")
            case BlobStarted(digest, size):
                self._blobs[digest] = (0, size)
            case BlobAdvanced(digest, done):
                self._blobs[digest] = (done, self._blobs.get(digest, (0, 0))[1])
            case BlobFinished(digest):
                self._blobs.pop(digest, None)
            case TransferFinished(action, name):
                return Text(f"{action} {name} done", style="green")
        return None

    def _view(self) -> Group:
        with self._lock:
            now = self._drawn = time.monotonic()
            lines: list[Text] = []
            for number, (name, started) in sorted(self._running.items()):
                lines.append(Text.assemble((f"{now - started:>11.1f}s ", "bold"), name, overflow="ellipsis", no_wrap=True))
                last = self._output.get(number, [])[-1:]
                lines += [Text(f"{'':>13}{text}", style="dim", overflow="ellipsis", no_wrap=True) for text in last]
            for digest, (done, size) in self._blobs.items():
                lines.append(Text(f"{'':>13}{digest[7:19]} {human_size(done)} of {human_size(size)}"))
            return Group(*lines)
