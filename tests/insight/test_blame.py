"""What a COPY took a path from, by the record of its key; and which traces of a directory tell something."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.insight.blame import copied_from, decisive
from imgbuild.linux.node import Node
from imgbuild.snapshot.traces import Trace


def _record(destination: str, *inputs: str, **fields: Any) -> dict[str, Any]:
    return {"op": "CopyOp", "fields": {"destination": destination, **fields}, "inputs": dict.fromkeys(inputs, "sha256:0")}


@pytest.mark.parametrize(
    ("record", "text", "path", "source"),
    [
        (_record("/app", "0"), "COPY . /app", "/app/a/b", "a/b"),
        (_record("/app", "0"), "COPY . /app", "/application", ""),
        (_record("/app", "0 src"), "COPY src /app", "/app", "src"),
        (_record("/app", "0 src"), "COPY src /app", "/app/x", "src/x"),
        (_record("/", "0 src"), "COPY src /", "/x", "src/x"),
        (_record("/app/", "0 a/x x", "1 b/y y"), "COPY a/x b/y /app/", "/app/y", "b/y"),
        (_record("/app/", "0 a/x x", "1 b/x x"), "COPY a/x b/x /app/", "/app/x", "b/x"),
        (_record("/file", "0 x x"), "COPY x /file", "/file", "x"),
        (_record("/dir", "0 x x"), "COPY x /dir", "/dir/x", "x"),
        (_record("/d/", "0 a b/c d c d"), "COPY 'a b/c d' /d/", "/d/c d", "a b/c d"),
        (_record("/d", "0 a", "1 b"), "COPY a b /d", "/d/x", ""),
        (_record("/d", "0 a/b b", parents=True), "COPY --parents a/b /d", "/d/a/b", "a/b"),
        (_record("/d", "0 /out"), "COPY --from=made /out /d", "/d/x", "/out/x of --from=made"),
        (_record("/d/", documents=[{"name": "EOF"}]), "COPY <<EOF /d/", "/d/EOF", "the heredoc EOF"),
        (_record("/d/", "0 a.tar a.tar", unpack=True), "ADD a.tar /d/", "/d/inside", ""),
        (_record("/d/"), "ADD https://x.example/f /d/", "/d/f", "https://x.example/f"),
        (_record("/d/"), "ADD https://x.example/f https://x.example/g /d/", "/d/f", ""),
        ({"op": "RunOp", "fields": {}, "inputs": {}}, "RUN true", "/d/f", ""),
        ({}, "COPY . /", "/d/f", ""),
    ],
)
def test_sources(record: dict[str, Any], text: str, path: str, source: str) -> None:
    assert copied_from(record, text, path) == source


MODES = st.sampled_from([0o40755, 0o40700, 0o100644])
NODES = st.builds(lambda mode, uid: Node(mode, uid, 0, 0, 0, 0, 1, 0, 0, 0), MODES, st.integers(0, 1))


@given(st.lists(st.one_of(NODES, st.none()), max_size=8))
def test_a_directory_is_told_of_where_it_became_what_it_is(nodes: list[Node | None]) -> None:
    found = [Trace(len(nodes) - number, "deleted" if node is None else "wrote", "/x", node) for number, node in enumerate(nodes)]
    kept = list(decisive(found))
    assert kept == [
        trace
        for trace, below in zip(found, [*found[1:], None], strict=False)
        if not (trace.node and below and below.node and trace.node.mode >> 12 == 4 and trace.node[:3] == below.node[:3])
    ]
    assert bool(kept) == bool(found)
