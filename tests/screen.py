"""A terminal as tests look at it: what is on its screen, and what has scrolled off it. It does not wrap anew when it is resized."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pyte


class Screen(pyte.HistoryScreen):  # type: ignore[misc]  # pyte has no types
    """pyte's, but that lines which no longer fit are kept above, as terminals do."""

    def __init__(self, columns: int, rows: int) -> None:
        super().__init__(columns, rows, history=100_000, ratio=0.5)
        self._stream = pyte.ByteStream(self)

    def show(self, data: bytes) -> None:
        self._stream.feed(data.replace(b"\n", b"\r\n").replace(b"\r\r\n", b"\r\n"))

    def resize(self, lines: int | None = None, columns: int | None = None) -> None:
        lines, columns = lines or self.lines, columns or self.columns
        while self.cursor.y >= lines:
            self.history.top.append(self.buffer[0])
            for row in range(1, self.lines):
                self.buffer[row - 1] = self.buffer[row]
            self.buffer.pop(self.lines - 1, None)
            self.cursor.y -= 1
        for row in [row for row in self.buffer if row >= lines]:
            del self.buffer[row]
        for row in self.buffer.values():
            for column in [column for column in row if column >= columns]:
                del row[column]
        self.lines, self.columns = lines, columns
        self.margins = None
        self.cursor.x = min(self.cursor.x, columns - 1)
        self.dirty.update(range(lines))

    @property
    def rows(self) -> list[str]:
        """What is on the screen, without what is empty at its end."""
        rows = [_text(self.buffer[row]) for row in range(self.lines)]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def above(self) -> list[str]:
        """What has scrolled off."""
        return [_text(line) for line in self.history.top]

    @property
    def everything(self) -> list[str]:
        return list(chain(self.above, self.rows))


def _text(line: Any) -> str:
    return "".join(line[column].data for column in range(max(line, default=-1) + 1)).rstrip()
