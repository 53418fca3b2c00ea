"""What stands at the lower end of a terminal and is drawn over and over; rich's only room.

All that is new is one write: up to where the last drawing began, the lines that stay, the rows that stand below them. Rows are cut to the
terminal's width by what their characters are wide, and can't wrap even where the terminal thinks otherwise of one.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.style import Style
from rich.text import Text

from imgbuild.cli.live import CODES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgbuild.cli.view import Row

_NAMES = {"1": "bold", "2": "dim", "31": "red", "32": "green", "35": "magenta"}
_STYLES = {style: Style.parse(" ".join(_NAMES[code] for code in codes.split(";"))) for style, codes in CODES.items()}

_UP, _ERASE_LINE, _ERASE_BELOW = "\x1b[%dA", "\x1b[K", "\x1b[J"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"


class Region:
    """The rows at the lower end. Not for several threads at once."""

    def __init__(self, out: TextIO, *, color: bool) -> None:
        self._out = out
        self._console = Console(
            file=io.StringIO(), force_terminal=True, color_system="standard" if color else None, highlight=False, markup=False, emoji=False
        )
        self._drawn: list[str] = []
        self._size = (0, 0)

    def draw(self, lines: Sequence[Row], rows: Sequence[Row], size: tuple[int, int]) -> None:
        """Let `lines` stay above, and show `rows`, of which there are fewer than the terminal has, in the place of those before."""
        columns, height = size
        shown = [self._rendered(row, columns - 1) for row in rows]
        if not lines and shown == self._drawn and size == self._size:
            return
        up = min(len(self._drawn), max(height - 1, 0))
        parts = ["\r", _UP % up if up else ""]
        parts += [f"{self._rendered(line, None)}{_ERASE_LINE}\n" for line in lines]
        if shown:
            parts += [_NO_WRAP, *(f"{row}{_ERASE_LINE}\n" for row in shown), _WRAP]
        self._out.write("".join((*parts, _ERASE_BELOW)))
        self._out.flush()
        self._drawn, self._size = shown, size

    def _rendered(self, row: Row, columns: int | None) -> str:
        """A row with its colors; no wider than that, if it is said."""
        text = Text.assemble(*((part, _STYLES.get(style, "")) for part, style in row))
        if columns is not None:
            text.truncate(max(columns, 1), overflow="ellipsis")
        with self._console.capture() as captured:
            self._console.print(text, end="", soft_wrap=True)
        return captured.get()
