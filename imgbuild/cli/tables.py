"""Tables and times as text."""

from __future__ import annotations

import time

from imgbuild.hints import Sequence
from imgbuild.oci.times import parse_time

_LEFT_OUT = "..."
_UNITS = (("year", 365 * 86400), ("month", 30 * 86400), ("week", 7 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, three spaces apart."""
    cells = [list(heads), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    return "\n".join("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def plain(text: str) -> str:
    """The text as one line of what can be printed."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def shortened(text: str, most: int = 60) -> str:
    """The text as one line of `most` characters at the most: what is left out at its end is "..."."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - len(_LEFT_OUT)]}{_LEFT_OUT}"


def shortened_path(text: str, most: int = 60) -> str:
    """As `shortened`, of what is told by its end."""
    return text if len(text) <= most else f"{_LEFT_OUT}{text[len(_LEFT_OUT) - most :]}"


def age(created: str) -> str:
    """How long ago an RFC 3339 time was, in words."""
    seconds = parse_time(created)
    if seconds is None:
        return "unknown"
    return f"{duration(max(0, int(time.time()) - seconds))} ago"


def duration(seconds: int) -> str:
    """A time span in its largest unit."""
    for name, size in _UNITS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''}"
    return f"{seconds} second{'s' if seconds != 1 else ''}"
