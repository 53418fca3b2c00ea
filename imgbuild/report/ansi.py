"""Colors of a terminal in a line of text (ECMA-48, 8.3.117: SGR), as runs with names of classes. The sixteen colors and bold, dim,
italic, underlined; of 256 colors and of RGB the nearest of the sixteen, so that all of them can be read on any background."""

from __future__ import annotations

from imgbuild.hints import Iterator
from imgbuild.light import re

_SGR = r"\x1b\[([0-9;:]*)m"
_ESCAPE = r"\x1b(?:\[[0-?]*[ -/]*[@-~]?|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~]?)"
"""CSI, strings such as a title, and all others (ECMA-48, 5.4 and 5.6): nothing that is seen."""
_STYLES = {1: "b", 2: "f", 3: "i", 4: "u"}
_LEVELS = (0, 95, 135, 175, 215, 255)


class Style:
    """What is in force; it lasts from line to line."""

    def __init__(self) -> None:
        self.marks: frozenset[str] = frozenset()
        self.color: int | None = None

    @property
    def classes(self) -> str:
        """The names, "" where the text is plain."""
        return " ".join([*sorted(self.marks), *([f"c{self.color}"] if self.color is not None else [])])

    def apply(self, words: str) -> None:
        """One sequence, by what is between its ends."""
        numbers = [int(word) if word.isdigit() and len(word) < 6 else 0 for word in words.replace(":", ";").split(";")]
        at = 0
        while at < len(numbers):
            number = numbers[at]
            if number in (38, 48):
                at, color = _extended(numbers, at)
                if number == 38 and color is not None:
                    self.color = color
            else:
                self._plain(number)
            at += 1

    def _plain(self, number: int) -> None:
        if number == 0:
            self.marks, self.color = frozenset(), None
        elif number in _STYLES:
            self.marks |= {_STYLES[number]}
        elif number == 22:
            self.marks -= {"b", "f"}
        elif number in (23, 24):
            self.marks -= {_STYLES[number - 20]}
        elif number == 39:
            self.color = None
        elif 30 <= number <= 37:
            self.color = number - 30
        elif 90 <= number <= 97:
            self.color = number - 90 + 8


def runs(text: str, style: Style) -> Iterator[tuple[str, str]]:
    """The text in parts, each with its classes; no escape sequence is left."""
    if "\x1b" not in text:
        if text:
            yield style.classes, text
        return
    parts = re.split(_SGR, text)
    for number, part in enumerate(parts):
        if number % 2:
            style.apply(part)
        elif plain := re.sub(_ESCAPE, "", part):
            yield style.classes, plain


def _extended(numbers: list[int], at: int) -> tuple[int, int | None]:
    """Where a color of the many ends, and the nearest of the sixteen."""
    kind = numbers[at + 1] if at + 1 < len(numbers) else None
    if kind == 5 and at + 2 < len(numbers):
        return at + 2, _of_256(numbers[at + 2])
    if kind == 2 and at + 4 < len(numbers):
        red, green, blue = numbers[at + 2 : at + 5]
        return at + 4, _of_rgb(red, green, blue)
    return len(numbers), None


def _of_256(number: int) -> int:
    if number < 16:
        return number
    if number >= 232:
        gray = 8 + 10 * (number - 232)
        return _of_rgb(gray, gray, gray)
    cube = number - 16
    return _of_rgb(_LEVELS[min(cube // 36, 5)], _LEVELS[cube // 6 % 6], _LEVELS[cube % 6])


def _of_rgb(red: int, green: int, blue: int) -> int:
    most = max(red, green, blue)
    if most - min(red, green, blue) < 40:
        return 15 if most > 215 else 7 if most > 150 else 8 if most > 60 else 0
    bits = sum(1 << place for place, value in enumerate((red, green, blue)) if value > most * 0.6)
    return bits + (8 if most > 200 else 0)
