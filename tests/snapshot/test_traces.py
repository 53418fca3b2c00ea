"""What lowers say of a path agrees with what their union shows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings

from imgbuild.snapshot import Lowers
from imgbuild.snapshot.traces import Trace, opened_lowers, traces
from imgbuild.snapshot.union import UnionView

from .overlay_form import Content
from .test_union import LAYERS, PATHS, consistent, stack


def _found(lowers: Lowers, path: str) -> list[Trace]:
    with opened_lowers(lowers) as readers:
        return list(traces(readers, path))


def _told(found: list[Trace]) -> list[tuple[int, str, str]]:
    return [(each.lower, each.said, each.at) for each in found]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(LAYERS, PATHS)
def test_the_first_word_is_what_is_seen(tmp_path: Path, layers: list[dict[str, Content]], name: str) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    lowers = stack(root, *(consistent(layer) for layer in layers))
    found = _found(lowers, f"/{name}")
    with UnionView(lowers) as view:
        node = view.lstat(f"/{name}")
        owner = view.made_of(f"/{name}")
    if node is None:
        assert not found or found[0].said == "deleted"
    else:
        assert found[0].said == "wrote"
        assert found[0].node is not None
        assert (found[0].node.mode, found[0].node.size) == (node.mode, node.size)
        assert lowers[found[0].lower] == owner[0]
    assert [each.lower for each in found] == sorted((each.lower for each in found), reverse=True)
    shutil.rmtree(root)


def test_who_wrote_deleted_and_replaced(tmp_path: Path) -> None:
    lowers = stack(
        tmp_path,
        {"d/x": "1"}, {"d/x": "2"}, {"d/x": ("whiteout",)}, {"d/x": "3"}, {"d": ("whiteout",)}, {"d": "file"},
        {"d": ("opaque",), "d/x": "4"},
    )  # fmt: skip
    assert _told(_found(lowers, "/d/x")) == [
        (6, "wrote", "/d/x"),
        (6, "deleted", "/d"),
        (5, "deleted", "/d"),
        (4, "deleted", "/d"),
        (3, "wrote", "/d/x"),
        (2, "deleted", "/d/x"),
        (1, "wrote", "/d/x"),
        (0, "wrote", "/d/x"),
    ]
    assert _told(_found(lowers[:3], "/d")) == [(2, "wrote", "/d"), (1, "wrote", "/d"), (0, "wrote", "/d")]
    assert _told(_found(lowers, "/e")) == []
    assert [each.lower for each in _found(lowers[:2], "/")] == [1, 0]
