"""Renders an error for a person: the message, the lines it is about with a caret, further detail, and what to do."""

from __future__ import annotations

import errno
import os
from typing import TextIO

from imgbuild.errors import ImgbuildError, Span

_MOST_LINES = 8
_MOST_COLUMNS = 160


def render(error: ImgbuildError, out: TextIO) -> None:
    """Write `error` to `out`."""
    place = f"{error.at}: " if error.at else ""
    lines = [f"imgbuild: error: {place}{error.message}"]
    if error.at is not None:
        lines += excerpt(error.at)
        lines += _inclusions(error.at)
    if error.detail:
        lines += [f"  | {line}" for line in error.detail.rstrip("\n").split("\n")]
    lines += [f"  note: {note}" for note in error.notes]
    if error.hint:
        lines.append(f"  hint: {error.hint}")
    out.write("".join(f"{printable(line)}\n" for line in lines))
    out.flush()


def render_unexpected(error: Exception, out: TextIO) -> None:
    """Write an error that nobody foresaw, in one line that can be reported."""
    if isinstance(error, OSError) and error.errno is not None:
        name = f": {os.fsdecode(error.filename)}" if error.filename else ""
        hint = "\n  hint: free some space, or try: imgbuild prune" if error.errno == errno.ENOSPC else ""
        out.write(printable(f"imgbuild: error: {os.strerror(error.errno)}{name}") + hint + "\n")
        return
    text = " ".join(str(error).split())
    out.write(printable(f"imgbuild: internal error: {type(error).__name__}: {text}"))
    out.write("\n  hint: this is a defect of imgbuild; the same command with --debug shows where\n")


def excerpt(at: Span) -> list[str]:
    """The lines that a place is about, numbered, with a caret below what is meant of one."""
    source = at.source.lines
    shown = list(range(at.line, min(at.end_line, at.line + _MOST_LINES - 1, len(source)) + 1))
    if not shown or at.line < 1:
        return []
    width = len(str(shown[-1]))
    lines = []
    for number in shown:
        marked = number == at.line and at.column > 0
        # Of a very long line, the part that is meant.
        start = max(0, at.column - 1 - _MOST_COLUMNS // 2) if marked and len(source[number - 1]) > _MOST_COLUMNS else 0
        text = source[number - 1][start : start + _MOST_COLUMNS]
        more = "..." if len(source[number - 1]) > start + _MOST_COLUMNS else ""
        lines.append(f"  {number:>{width}} | {'...' if start else ''}{text}{more}")
        if marked:
            column = at.column - start
            # Tabs stay tabs, so that the caret stands below what it means.
            before = ("   " if start else "") + "".join("\t" if character == "\t" else " " for character in text[: column - 1])
            length = max(1, min((at.end_column or at.column + 1) - start, len(text) + 1) - column) if at.end_line == at.line else 1
            lines.append(f"  {' ' * width} | {before}{'^' * length}")
    if at.end_line > shown[-1]:
        lines.append(f"  {' ' * width} | ...")
    return lines


def _inclusions(at: Span) -> list[str]:
    """Who included the file, and who that."""
    lines = []
    while at.source.included is not None:
        at = at.source.included
        lines.append(f"  included by {at}")
    return lines


def printable(line: str) -> str:
    """The line without control characters and lone surrogates: what is shown may come from a hostile file."""
    kept = "".join(c if c == "\t" or c.isprintable() else f"\\x{_code(c):02x}" for c in line)
    return kept.encode("utf-8", "backslashreplace").decode()


def _code(character: str) -> int:
    """What a character is shown as: the byte, where it stands for one that is no text (as in names of files)."""
    return ord(character) - 0xDC00 if "\udc80" <= character <= "\udcff" else ord(character)
