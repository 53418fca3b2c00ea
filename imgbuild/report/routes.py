"""Lines between steps that stand in rows and lanes: through the gaps between them, never through another one.

What runs along a gap has a track of its own there, as far as it runs; all lines from one step share theirs.
"""

from __future__ import annotations

from imgbuild.hints import Iterable, Iterator, Mapping, Sequence
from imgbuild.report.lanes import Place, height, width
from imgbuild.report.squarify import Rectangle
from imgbuild.values import dataclass

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Measures:
    """Sizes of what is drawn: a box, the least gaps, a `track`, and the room that is left above rows in which something has a head."""

    box_width: float = 210
    box_height: float = 40
    gap: float = 14
    gutter: float = 22
    track: float = 7
    head: float = 18


@dataclass(frozen=True, slots=True)
class Line:
    """The way from the bottom of one box to the top of another: at right angles, from point to point."""

    start: str
    end: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes by name, lines, and the size of it all."""

    boxes: Mapping[str, Rectangle]
    lines: tuple[Line, ...]
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class _Way:
    """An edge by the gaps that it uses: `out` and `into` are rows above which it runs, `gutter` the lane left of which; None: it goes
    straight down. Where `gutter` is None and there is an `out`, one gap is enough."""

    start: str
    end: str
    out: int | None = None
    gutter: int | None = None
    into: int | None = None


class _Tracks:
    """Tracks of a gap, each used by one owner at each of its parts."""

    def __init__(self) -> None:
        self._used: list[list[tuple[float, float, str]]] = []

    def take(self, start: float, end: float, owner: str) -> int:
        low, high = min(start, end), max(start, end)
        for number, spans in enumerate(self._used):
            if all(owner == other or high < first or last < low for first, last, other in spans):
                spans.append((low, high, owner))
                return number
        self._used.append([(low, high, owner)])
        return len(self._used) - 1

    def __len__(self) -> int:
        return len(self._used)


def drawing(
    found: Mapping[str, Place], edges: Sequence[tuple[str, str]], heads: Iterable[str] = (), measures: Measures | None = None
) -> Drawing:
    """The boxes, and a line for each edge, which goes down. `heads` are those above which room is left."""
    measure = measures or Measures()
    ways = [_way(found, start, end) for start, end in edges]
    rows: dict[int, _Tracks] = {row: _Tracks() for row in range(height(found.values()) + 1)}
    gutters: dict[int, _Tracks] = {lane: _Tracks() for lane in range(width(found.values()) + 1)}
    taken = [_take(way, found, rows, gutters) for way in ways]
    headed = {found[name].row for name in heads}
    tops, bottom = _tops(rows, headed, measure)
    lefts, right = _lefts(gutters, measure)
    boxes = {name: Rectangle(lefts[place.lane], tops[place.row], measure.box_width, measure.box_height) for name, place in found.items()}
    plan = _Plan(measure, boxes, tops, lefts, headed)
    return Drawing(boxes, tuple(plan.line(way, numbers) for way, numbers in zip(ways, taken, strict=True)), right, bottom)


def _way(found: Mapping[str, Place], start: str, end: str) -> _Way:
    one, other = found[start], found[end]
    if one.lane == other.lane:
        between = {place.row for place in found.values() if place.lane == one.lane and one.row < place.row < other.row}
        if not between:
            return _Way(start, end)
    if other.row == one.row + 1:
        return _Way(start, end, other.row)
    # Beside the lane that it comes from or goes to, on the side where the other one is.
    gutter = other.lane + 1 if one.lane > other.lane else other.lane
    return _Way(start, end, one.row + 1, gutter, other.row)


def _take(way: _Way, found: Mapping[str, Place], rows: Mapping[int, _Tracks], gutters: Mapping[int, _Tracks]) -> tuple[int, int, int]:
    """The numbers of the tracks that a way takes. Lanes are counted by twos, so that a gutter has a place between them."""
    if way.out is None:
        return 0, 0, 0
    start, end = 2.0 * found[way.start].lane, 2.0 * found[way.end].lane
    if way.gutter is None or way.into is None:
        return rows[way.out].take(start, end, way.start), 0, 0
    middle = 2.0 * way.gutter - 1
    out = rows[way.out].take(start, middle, way.start)
    down = gutters[way.gutter].take(way.out, way.into, way.start)
    return out, down, rows[way.into].take(middle, end, way.start)


def _tops(rows: Mapping[int, _Tracks], headed: set[int], measure: Measures) -> tuple[list[float], float]:
    tops, y = [], 0.0
    for row in range(len(rows) - 1):
        least = 4.0 if row == 0 else measure.gap
        y += least + measure.track * len(rows[row]) + (measure.head if row in headed else 0.0)
        tops.append(y)
        y += measure.box_height
    return tops, y + 10


def _lefts(gutters: Mapping[int, _Tracks], measure: Measures) -> tuple[list[float], float]:
    lefts, x = [], 0.0
    for lane in range(len(gutters) - 1):
        x += (measure.gutter if lane else 10.0) + measure.track * len(gutters[lane])
        lefts.append(x)
        x += measure.box_width
    last = gutters[len(gutters) - 1]
    return lefts, x + 10 + measure.track * len(last)


class _Plan:
    """Where gaps and boxes are, to draw lines between them."""

    def __init__(
        self, measure: Measures, boxes: Mapping[str, Rectangle], tops: Sequence[float], lefts: Sequence[float], headed: set[int]
    ) -> None:
        self._measure = measure
        self._boxes = boxes
        self._tops = tops
        self._lefts = lefts
        self._headed = headed

    def line(self, way: _Way, tracks: tuple[int, int, int]) -> Line:
        start, end = self._boxes[way.start], self._boxes[way.end]
        top, bottom = end.y, start.y + start.height
        if way.out is None:
            x = start.x + start.width / 2
            return Line(way.start, way.end, ((x, bottom), (x, top)))
        # Beside the middle, where those go that are straight.
        leaves, comes = start.x + start.width * 0.62, end.x + end.width * (0.38 if start.x < end.x else 0.62)
        out = self._gap(way.out, tracks[0])
        if way.gutter is None or way.into is None:
            return Line(way.start, way.end, tuple(_without_repeats(((leaves, bottom), (leaves, out), (comes, out), (comes, top)))))
        down, into = self._gutter(way.gutter, tracks[1]), self._gap(way.into, tracks[2])
        points = ((leaves, bottom), (leaves, out), (down, out), (down, into), (comes, into), (comes, top))
        return Line(way.start, way.end, tuple(_without_repeats(points)))

    def _gap(self, row: int, track: int) -> float:
        head = self._measure.head if row in self._headed else 0.0
        return self._tops[row] - head - self._measure.gap / 2 - self._measure.track * track

    def _gutter(self, lane: int, track: int) -> float:
        if lane < len(self._lefts):
            return self._lefts[lane] - (self._measure.gutter / 2 if lane else 5.0) - self._measure.track * track
        return self._lefts[-1] + self._measure.box_width + 5.0 + self._measure.track * (track + 1)


def _without_repeats(points: Iterable[Point]) -> Iterator[Point]:
    last: Point | None = None
    for point in points:
        if point != last:
            yield point
        last = point


def path_of(points: Sequence[Point], radius: float = 5.0) -> str:
    """The line as a path of SVG, with round corners."""
    words = [f"M{points[0][0]:.1f} {points[0][1]:.1f}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        one, other = _toward(corner, before, radius), _toward(corner, after, radius)
        words.append(f"L{one[0]:.1f} {one[1]:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {other[0]:.1f} {other[1]:.1f}")
    words.append(f"L{points[-1][0]:.1f} {points[-1][1]:.1f}")
    return "".join(words)


def _toward(point: Point, other: Point, most: float) -> Point:
    """A point on the way to another one, no farther than half of it."""
    (x, y), (to_x, to_y) = point, other
    length = abs(to_x - x) + abs(to_y - y)
    part = min(most, length / 2) / length if length else 0.0
    return x + (to_x - x) * part, y + (to_y - y) * part
