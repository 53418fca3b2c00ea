"""Nodes that wait for the database."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.light import pathlib
from imgbuild.store.fresh import Fresh
from imgbuild.store.store import Store

from .test_evidence import Texts

NODES = st.dictionaries(st.binary(min_size=16, max_size=16), st.binary(max_size=300), max_size=8)


def _fresh(directory: Path) -> Fresh:
    return Fresh(pathlib.Path(directory / "evidence.log"))


@given(NODES, st.data())
def test_a_torn_file_has_whole_nodes_or_none(
    tmp_path_factory: pytest.TempPathFactory, nodes: dict[bytes, bytes], data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("fresh")
    _fresh(directory).add(nodes.items())
    path = directory / "evidence.log"
    whole = path.read_bytes() if path.exists() else b""
    left = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:left] + data.draw(st.binary(max_size=40)))
    again = _fresh(directory)
    found = [digest for digest in nodes if again.get(digest) is not None]
    assert found == list(nodes)[: len(found)]
    assert all(again.get(digest) == nodes[digest] for digest in found)
    if left == len(whole):
        assert found == list(nodes)


def test_what_is_there_is_not_added_again(tmp_path: Path) -> None:
    fresh, other = _fresh(tmp_path), _fresh(tmp_path)
    fresh.add([(b"a" * 16, b"one")])
    other.add([(b"a" * 16, b"one"), (b"b" * 16, b"two")])
    assert fresh.get(b"b" * 16) == b"two"
    assert fresh.size() == 2 * 24 + 6


def test_taken_once_and_kept_where_that_fails(tmp_path: Path) -> None:
    fresh = _fresh(tmp_path)
    fresh.add([(b"a" * 16, b"one")])

    def fail(nodes: Iterable[tuple[bytes, bytes]]) -> None:
        raise OSError

    with pytest.raises(OSError):
        fresh.take(fail)
    taken: list[tuple[bytes, bytes]] = []
    fresh.take(taken.extend)
    fresh.take(taken.extend)
    assert taken == [(b"a" * 16, b"one")]
    assert fresh.get(b"a" * 16) is None


def test_many_go_on_into_the_database(store: Store) -> None:
    every = [Texts(f"{number:0200}") for number in range(2000)]
    for texts in every:
        store.evidence.keep([texts])
    assert store.evidence.path.exists()
    assert 0 < os.stat(store.root / "evidence.log").st_size < 1 << 19
    assert all(store.evidence.node(texts.roots[0][:32]) is not None for texts in every)
    store.evidence.sweep(texts.roots[0] for texts in every[:3])
    assert [store.evidence.node(texts.roots[0][:32]) is not None for texts in every[:5]] == [True, True, True, False, False]
    assert os.stat(store.root / "evidence.log").st_size == 0
