"""Areas and trees of files: everything has its room, large trees become small ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.report.files import Files, largest, tree_of
from imgbuild.report.squarify import Rectangle, squarify


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=60), st.integers(1, 2000), st.integers(1, 2000))
def test_areas_are_as_large_as_sizes_and_fill_the_place(sizes: list[int], width: int, height: int) -> None:
    sizes.sort(reverse=True)
    found = squarify(sizes, Rectangle(3, 4, width, height))
    scale = width * height / sum(sizes)
    for size, place in zip(sizes, found, strict=True):
        assert place.width * place.height == pytest.approx(size * scale, rel=1e-6, abs=1e-6)
        assert 3 - 1e-6 <= place.x <= place.x + place.width <= 3 + width + 1e-6
        assert 4 - 1e-6 <= place.y <= place.y + place.height <= 4 + height + 1e-6
    assert sum(place.width * place.height for place in found) == pytest.approx(width * height)


@settings(deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=12))
def test_areas_do_not_overlap(sizes: list[int]) -> None:
    found = squarify(sorted(sizes, reverse=True), Rectangle(0, 0, 160, 90))
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            down = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert across < 1e-6 or down < 1e-6


def test_equal_areas_are_nearly_square() -> None:
    found = squarify([1] * 12, Rectangle(0, 0, 400, 300))
    assert all(max(place.width / place.height, place.height / place.width) < 2 for place in found)


def test_no_room_and_no_size() -> None:
    assert squarify([], Rectangle(0, 0, 10, 10)) == []
    assert squarify([5, 1], Rectangle(0, 0, 0, 10)) == [Rectangle(0, 0, 0, 0)] * 2
    assert squarify([0], Rectangle(1, 2, 3, 4)) == [Rectangle(1, 2, 0, 0)]


def test_the_last_word_on_a_path_counts() -> None:
    entries = [("a", 5), ("a/b", 2), ("./c//d", 3), ("c/d", 4), ("e", None), ("", None)]
    tree = tree_of(entries, 100)
    assert (tree.size, tree.count) == (6, 2)
    assert [(child.name, child.size, child.directory) for child in tree.children] == [("c", 4, True), ("a", 2, True), ("", 0, False)]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 400))
def test_a_large_tree_is_bounded_and_sums_stay(most: int) -> None:
    entries = [(f"usr/d{number % 37}/e{number % 11}/f{number}", number % 97) for number in range(3000)]
    tree = tree_of(entries, most)
    assert tree.nodes <= most + most // 2 + 2  # with those that stand for others
    _adds_up(tree)
    assert (tree.size, tree.count) == (sum(size for _, size in entries), 3000)


def _adds_up(files: Files) -> None:
    if files.children:
        assert files.size == sum(child.size for child in files.children)
        assert files.count == sum(child.count for child in files.children)
        for child in files.children:
            _adds_up(child)


def test_a_hundred_thousand_files_are_a_few_hundred_nodes() -> None:
    tree = tree_of(((f"d{number // 1000}/f{number}", 10) for number in range(100_000)), 500)
    assert tree.count == 100_000
    assert tree.nodes < 600


def test_what_has_no_size_takes_no_room() -> None:
    links = [(f"bin/tool{number}", 0) for number in range(400)]
    tree = tree_of([*links, ("bin/busybox", 9), ("etc/passwd", 1)], 10)
    assert [(path, size) for path, size in largest(tree, 9)] == [("/bin/busybox", 9), ("/etc/passwd", 1)]
    assert tree.count == 402


def test_depth_is_bounded() -> None:
    deep = "/".join("d" * 5000) + "/file"
    tree = tree_of([(deep, 7)], 1000)
    assert tree.size == 7
    assert largest(tree, 3)[0][1] == 7


def test_directories_that_hold_one_are_one() -> None:
    tree = tree_of([("usr/share/doc/a", 1), ("usr/share/doc/b", 2)], 100)
    (child,) = tree.children
    assert child.name == "usr/share/doc"
    assert largest(tree, 1) == [("/usr/share/doc/b", 2)]
