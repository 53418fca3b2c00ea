"""Layouts of graphs: no two steps in one place, all edges downward, no line through a box."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.report.lanes import Item, Place, places
from imgbuild.report.routes import Drawing, drawing, path_of


@st.composite
def graphs(draw: st.DrawFn) -> list[Item]:
    """Stages as chains, each step of which may read of what came before, and TESTs, which nothing stands on."""
    items: list[Item] = []
    for chain in range(draw(st.integers(1, 6))):
        last = draw(st.sampled_from([*(item.name for item in items), ""]))
        for position in range(draw(st.integers(1, 6))):
            name = f"{chain}.{position}"
            reads = draw(st.lists(st.sampled_from([item.name for item in items]), max_size=2)) if items else []
            items.append(Item(name, f"stage {chain}", tuple(dict.fromkeys([*([last] if last else []), *reads]))))
            if draw(st.integers(0, 4)):
                last = name
    return items


def _drawn(items: list[Item]) -> tuple[dict[str, Place], Drawing]:
    found = places(items)
    edges = [(need, item.name) for item in items for need in item.needs]
    return found, drawing(found, edges, heads=[items[0].name])


@settings(deadline=None)
@given(graphs())
def test_each_has_a_place_below_what_it_needs(items: list[Item]) -> None:
    found, drawn = _drawn(items)
    assert len(set(found.values())) == len(items)
    assert all(found[need].row < found[item.name].row for item in items for need in item.needs)
    boxes = list(drawn.boxes.values())
    assert all(box.x >= 0 and box.y >= 0 and box.x + box.width <= drawn.width and box.y + box.height <= drawn.height for box in boxes)


@settings(deadline=None)
@given(graphs())
def test_no_line_goes_through_a_box(items: list[Item]) -> None:
    _, drawn = _drawn(items)
    assert len(drawn.lines) == sum(len(item.needs) for item in items)
    for line in drawn.lines:
        start, end = drawn.boxes[line.start], drawn.boxes[line.end]
        (first_x, first_y), (last_x, last_y) = line.points[0], line.points[-1]
        assert first_y == start.y + start.height
        assert last_y == end.y
        assert start.x < first_x < start.x + start.width
        assert end.x < last_x < end.x + end.width
        for (x1, y1), (x2, y2) in zip(line.points, line.points[1:], strict=False):
            assert x1 == x2 or y1 == y2
            assert all(0 <= x <= drawn.width for x in (x1, x2))
            for box in drawn.boxes.values():
                inside_x = max(min(x1, x2), box.x) < min(max(x1, x2), box.x + box.width) or (x1 == x2 and box.x < x1 < box.x + box.width)
                inside_y = max(min(y1, y2), box.y) < min(max(y1, y2), box.y + box.height) or (y1 == y2 and box.y < y1 < box.y + box.height)
                assert not (inside_x and inside_y), (line, box)


def test_a_chain_is_one_lane_and_straight() -> None:
    items = [Item(str(number), "a", (str(number - 1),) if number else ()) for number in range(30)]
    found, drawn = _drawn(items)
    assert {place.lane for place in found.values()} == {0}
    assert [place.row for place in found.values()] == list(range(30))
    assert all(len(line.points) == 2 for line in drawn.lines)


def test_stages_side_by_side_have_lanes_and_one_after_another_share() -> None:
    items = [Item("a1", "a"), Item("b1", "b"), Item("c1", "c", ("a1",)), Item("c2", "c", ("c1", "b1"))]
    found = places(items)
    assert found == {"a1": Place(0, 0), "b1": Place(0, 1), "c1": Place(1, 0), "c2": Place(2, 0)}


def test_nothing_is_nothing() -> None:
    assert places([]) == {}
    drawn = drawing({}, [])
    assert (drawn.boxes, drawn.lines) == ({}, ())


def test_corners_are_round() -> None:
    assert path_of([(0, 0), (0, 10), (20, 10)]) == "M0.0 0.0L0.0 5.0Q0.0 10.0 5.0 10.0L20.0 10.0"
    assert path_of([(1, 2), (1, 4)]) == "M1.0 2.0L1.0 4.0"
