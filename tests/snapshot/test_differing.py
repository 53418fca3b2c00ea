"""What is left out of a comparison is the same on both sides, and is not looked at."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.linux.node import Node
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.differing import differing
from imgbuild.snapshot.union import UnionView

from .overlay_form import Content, describe
from .test_union import LAYERS, consistent, stack


def _order(path: str) -> list[bytes]:
    return [os.fsencode(name) for name in path.split("/") if name]


def _seen(view: UnionView, path: str, node: Node) -> tuple[Any, ...]:
    def content() -> bytes:
        with os.fdopen(view.open(path), "rb") as file:
            return file.read()

    mode, mtime, extra = describe(node, partial(view.readlink, path), content)
    return mode, mtime if not stat.S_ISDIR(mode) else 0, extra


def _paths(view: UnionView, other: UnionView) -> list[str]:
    return [path for path, _ in differing(view, other)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(LAYERS, st.lists(st.integers(0, 4), max_size=6), st.lists(st.integers(0, 4), max_size=6))
def test_what_is_left_out_is_the_same(tmp_path: Path, layers: list[dict[str, Content]], one: list[int], other: list[int]) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    made = stack(root, *(consistent(layer) for layer in layers))
    first: Lowers = tuple(made[number] for number in dict.fromkeys(one) if number < len(made))
    second: Lowers = tuple(made[number] for number in dict.fromkeys(other) if number < len(made))
    with UnionView(first) as mine, UnionView(second) as theirs:
        whole = [{path: _seen(view, path, node) for path, node in view.walk()} for view in (mine, theirs)]
        sides = _paths(mine, theirs), _paths(theirs, mine)
    for paths, tree in zip(sides, whole, strict=True):
        assert paths == sorted(set(paths), key=_order)
        assert set(paths) <= set(tree)
    equal = {path for path in whole[0].keys() & whole[1].keys() if whole[0][path] == whole[1][path]}
    for tree, paths in zip(whole, sides, strict=True):
        assert set(tree) - set(paths) <= equal
    assert whole[0].keys() - set(sides[0]) == whole[1].keys() - set(sides[1])
    shutil.rmtree(root)


def test_a_shared_base_is_not_listed(tmp_path: Path) -> None:
    base, one, other = stack(tmp_path, {"a/b/c": "1", "d/e": "2", "f": "3"}, {"d/e": "4"}, {"d/new": "5"})
    with UnionView((base, one)) as mine, UnionView((base, other)) as theirs:
        assert _paths(mine, theirs) == ["/", "/d", "/d/e"]
        assert _paths(theirs, mine) == ["/", "/d", "/d/e", "/d/new"]
    with UnionView((base, one)) as mine, UnionView((base, one)) as theirs:
        assert _paths(mine, theirs) == ["/"]


@pytest.mark.parametrize("hidden", [("whiteout",), ("opaque",)])
def test_what_one_side_hides_is_asked_of_the_base(tmp_path: Path, hidden: Content) -> None:
    base, one, other = stack(tmp_path, {"a/b/c": "1", "d": "2"}, {"a": hidden}, {"d": "3"})
    with UnionView((base, one)) as mine, UnionView((base, other)) as theirs:
        assert _paths(theirs, mine) == ["/", "/a", "/a/b", "/a/b/c", "/d"]
        assert "/a/b" not in _paths(mine, theirs)


def test_nothing_and_something(tmp_path: Path) -> None:
    (base,) = stack(tmp_path, {"a/b": "1"})
    assert isinstance(base, DirectoryLower)
    with UnionView(()) as nothing, UnionView((base,)) as something:
        assert _paths(something, nothing) == ["/", "/a", "/a/b"]
        assert _paths(nothing, something) == ["/"]
        assert [path for path, _ in differing(something, nothing, "/a")] == ["/a", "/a/b"]
        assert list(differing(nothing, something, "/a")) == []
