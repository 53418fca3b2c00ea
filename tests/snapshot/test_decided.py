"""Where two stacks are said to decide what differs, any base that they are put on agrees."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.snapshot import Lowers
from imgbuild.snapshot.decided import decided
from imgbuild.snapshot.traces import opened_lowers
from imgbuild.snapshot.union import UnionView

from .overlay_form import Content
from .test_differing import _seen
from .test_union import CONTENTS, LAYERS, PATHS, consistent, stack


def _decided(one: Lowers, other: Lowers) -> bool:
    with opened_lowers(one) as mine, opened_lowers(other) as theirs:
        return decided(mine, theirs)


def _differences(one: Lowers, other: Lowers) -> set[str]:
    with UnionView(one) as mine, UnionView(other) as theirs:
        first, second = ({path: _seen(view, path, node) for path, node in view.walk()} for view in (mine, theirs))
    return {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)}


TOPS = st.dictionaries(PATHS, st.tuples(CONTENTS, CONTENTS), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(LAYERS, TOPS, TOPS, st.booleans())
def test_any_base_agrees(
    tmp_path: Path, bases: list[dict[str, Content]], both: dict[str, tuple[Content, Content]], more: dict[str, tuple[Content, Content]],
    two: bool,
) -> None:  # fmt: skip
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    base = stack(root / "base", *(consistent(layer) for layer in bases))
    layers = [both, more] if two else [both]
    sides = [[consistent({path: pair[side] for path, pair in layer.items()}) for layer in layers] for side in (0, 1)]
    one, other = (stack(root / str(number), *side) for number, side in enumerate(sides))
    if _decided(one, other):
        assert _differences((*base, *one), (*base, *other)) == _differences(one, other)
    assert _decided(one, other) == _decided(other, one)
    assert _decided(one, one)
    shutil.rmtree(root)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a/b": "1"}, {"a/b": "2"}, True),
        ({"a/b": "1"}, {"a/c": "1"}, False),
        ({"a": ("whiteout",)}, {"a": "1"}, True),
        ({"a": ("whiteout",)}, {"a": ("dir",)}, False),
        ({"a": ("whiteout",)}, {"a": ("opaque",), "a/x": "1"}, True),
        ({"a": ("opaque",), "a/x": "1"}, {"a": ("opaque",), "a/y": "1"}, True),
        ({"a": ("opaque",)}, {"a": ("dir",)}, False),
        ({"a": ("dir", 0o700)}, {"a": ("dir", 0o755)}, False),
        ({"a": "1"}, {"a": ("symlink", "b")}, True),
        ({"a": "1"}, {}, False),
    ],
)
def test_what_is_decided(tmp_path: Path, one: dict[str, Content], other: dict[str, Content], expected: bool) -> None:
    stacks = stack(tmp_path / "one", one), stack(tmp_path / "other", other)
    assert _decided(*stacks) == expected
    assert _decided(*reversed(stacks)) == expected


def test_nothing_on_top(tmp_path: Path) -> None:
    assert _decided((), ())
    assert not _decided((), stack(tmp_path, {"a": "1"}))
