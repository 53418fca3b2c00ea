"""The live view of a build on a terminal: lines that stay scroll by in order, and below them stands what runs now.

A build that is over before the eye has found it shows lines only: rich, which draws what stands below, is imported beside the steps, once
they have run for a moment. The cursor is never hidden, so it need not be found again, however we end.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import allocate_lock

from imgbuild.cli.progress import Quiet, summary
from imgbuild.cli.streams import OutputError
from imgbuild.cli.view import Row, View
from imgbuild.hints import TYPE_CHECKING, TextIO
from imgbuild.light import threading

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from imgbuild.cli.progress import Result
    from imgbuild.cli.render import Region

_TICK = 0.125
_MOMENT = 0.25
"""Seconds after which it is worth looking at what runs."""

CODES = {"good": "32", "bad": "1;31", "told": "35", "weak": "2", "strong": "1"}
"""Of the colors of terminals, those that can be read on a light and on a dark background."""


class Live(Quiet):
    """Receives events from any thread and redraws a few times a second, where anything is another one."""

    def __init__(self, out: TextIO | None = None, *, color: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._color = color
        self._clock = clock
        self._began = clock()
        self._view = View(self._began)
        self._state = allocate_lock()
        """Of the view and the lines that are not shown yet."""
        self._drawing = allocate_lock()
        self._lines: list[Row] = []
        self._shown = self._began
        self._region: Region | None = None
        self._ended = threading.Event()
        self._owner = threading.get_ident()  # whose thread is main is what the standard module says wrongly where another one imports it
        self._ticker: threading.Thread | None = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def finish(self, result: Result, target: str = "") -> None:
        with self._state:
            self._lines += [((line, "strong"),) for line in summary(result, target)]
        self._show()

    def on_event(self, event: object) -> None:
        now = self._clock()
        with self._state:
            self._lines += self._view.take(event, now)
            if self._ticker is None and threading.get_ident() != self._owner:
                # There are threads, so what must come before the first one has come: the zygote, and a user namespace.
                self._ticker = threading.Thread(target=self._tick, name="imgbuild-view", daemon=True)
                self._ticker.start()
            due = self._ticker is None and now - self._shown >= _TICK
        if due:
            self._show()

    def _tick(self) -> None:
        try:
            while not self._ended.wait(_TICK):
                if self._region is None and self._clock() - self._began >= _MOMENT:
                    from imgbuild.cli.render import Region

                    self._region = Region(self._out, color=self._color)
                self._show()
        except OutputError:
            return  # who else writes will say so

    def _stop(self) -> None:
        self._ended.set()
        try:
            if self._ticker is not None:
                self._ticker.join()
        finally:
            self._show(last=True)

    def _show(self, last: bool = False) -> None:
        """Show what is new. The `last` time, nothing stands below any more."""
        with self._drawing:
            size = screen_size(self._out)
            with self._state:
                now = self._shown = self._clock()
                lines, self._lines = self._lines, []
                rows = self._view.rows(now, size[1] - 1) if self._region is not None and not last else []
            if self._region is not None:
                self._region.draw(lines, rows, size)
            elif lines:
                self._out.write("".join(f"{self._styled(line)}\n" for line in lines))
                self._out.flush()

    def _styled(self, row: Row) -> str:
        if not self._color:
            return "".join(text for text, _ in row)
        return "".join(f"\x1b[{CODES[style]}m{text}\x1b[0m" if style else text for text, style in row)


def screen_size(out: TextIO) -> tuple[int, int]:
    """Columns and rows of a terminal as it is now; what is usual where it does not say."""
    try:
        columns, rows = os.get_terminal_size(out.fileno())
    except (OSError, ValueError):
        columns, rows = 0, 0
    return columns or 80, rows or 24
