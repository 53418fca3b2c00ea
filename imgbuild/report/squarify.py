"""Areas in a rectangle, each as large as its size and as near to a square as can be (Bruls, Huizing, van Wijk: "Squarified Treemaps")."""

from __future__ import annotations

from imgbuild.hints import NamedTuple, Sequence


class Rectangle(NamedTuple):
    x: float
    y: float
    width: float
    height: float


def squarify(sizes: Sequence[float], place: Rectangle) -> list[Rectangle]:
    """A rectangle for each size; sizes are positive and the largest comes first. All of `place` is taken."""
    total = float(sum(sizes))
    if total <= 0 or place.width <= 0 or place.height <= 0:
        return [Rectangle(place.x, place.y, 0.0, 0.0) for _ in sizes]
    scale = place.width * place.height / total
    areas = [size * scale for size in sizes]
    found: list[Rectangle] = []
    x, y, width, height = place
    at = 0
    while at < len(areas):
        side = min(width, height)
        end, taken = at + 1, areas[at]
        while end < len(areas) and _worst(areas[at], areas[end], taken + areas[end], side) <= _worst(
            areas[at], areas[end - 1], taken, side
        ):
            taken += areas[end]
            end += 1
        thick = min(taken / side, max(width, height)) if side > 0 else 0.0  # what is left may be less, by rounding
        along = 0.0
        for area in areas[at:end]:
            long = side * area / taken if taken > 0 else 0.0
            found.append(Rectangle(x, y + along, thick, long) if width >= height else Rectangle(x + along, y, long, thick))
            along += long
        if width >= height:
            x, width = x + thick, max(0.0, width - thick)
        else:
            y, height = y + thick, max(0.0, height - thick)
        at = end
    return found


def _worst(largest: float, smallest: float, taken: float, side: float) -> float:
    """How far from a square the worst of a row is."""
    if smallest <= 0 or side <= 0:
        return float("inf")
    return max(side * side * largest / (taken * taken), taken * taken / (side * side * smallest))
