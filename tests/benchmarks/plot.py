"""The ratios as a picture: a bar for each row, on a logarithmic scale where 1 is the fastest peer. Pure; the SVG is written by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.results import Result

WIDTH, LEFT, RIGHT, ROW, TOP = 900, 300, 70, 26, 64
# Blue and orange can be told apart by everybody; what is wanted is a line, and the verdict is in the words, too.
_GOOD, _BAD, _INK, _FAINT, _GROUND = "#0072b2", "#d55e00", "#1a1a1a", "#c8c8c8", "#ffffff"
_TICKS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


def picture(results: Sequence[Result], caption: str) -> str:
    """The rows that have a ratio, as an SVG with a title and a description for who can't see it."""
    shown = [result for result in results if result.ratio() is not None]
    height = TOP + ROW * len(shown) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t d" '
        'font-family="system-ui, sans-serif" font-size="13">',
        "<title id=\"t\">Time of imgbuild to that of its fastest peer</title>",
        f'<desc id="d">{escape("; ".join(f"{result.name}: {result.ratio():.2f}" for result in shown))}</desc>',
        f'<rect width="{WIDTH}" height="{height}" fill="{_GROUND}"/>',
        f'<text x="16" y="24" font-size="16" fill="{_INK}">Time to that of the fastest peer: shorter is better, 1 is the peer</text>',
        f'<text x="16" y="42" fill="#555555">{escape(caption)}</text>',
    ]
    for tick in _TICKS:
        x = _x(tick)
        colour = _INK if tick == 1.0 else _FAINT
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 30}" stroke="{colour}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 14}" text-anchor="middle" fill="{_INK}">{tick:g}</text>')
    for number, result in enumerate(shown):
        parts += _bar(result, TOP + ROW * number)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(result: Result, y: int) -> list[str]:
    ratio = result.ratio() or 1.0
    colour = _BAD if result.verdict() == "not reached" else _GOOD
    start, end = _x(_TICKS[0]), _x(ratio)
    parts = [
        f'<text x="{LEFT - 12}" y="{y + 16}" text-anchor="end" fill="{_INK}">{escape(result.name)}</text>',
        f'<rect x="{start:.1f}" y="{y + 4}" width="{max(end - start, 1):.1f}" height="{ROW - 10}" fill="{colour}"/>',
        f'<text x="{end + 6:.1f}" y="{y + 16}" fill="{_INK}">{ratio:.2f}{"" if colour == _GOOD else " (not reached)"}</text>',
    ]
    if result.target is not None:
        x = _x(result.target)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y + 1}" y2="{y + ROW - 3}" stroke="{_INK}" stroke-width="2"/>')
    return parts


def _x(ratio: float) -> float:
    low, high = math.log(_TICKS[0]), math.log(_TICKS[-1])
    share = (math.log(min(max(ratio, _TICKS[0]), _TICKS[-1])) - low) / (high - low)
    return LEFT + share * (WIDTH - LEFT - RIGHT)
