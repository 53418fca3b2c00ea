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

NODES = st.dictionaries(st.binary(min_size=16, max_size=16), st.binary(min_size=1, max_size=300), max_size=8)


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


def test_what_is_torn_is_written_over(tmp_path: Path) -> None:
    _fresh(tmp_path).add([(b"a" * 16, b"one"), (b"b" * 16, b"two")])
    os.truncate(tmp_path / "evidence.log", 2 * 24 + 5)
    fresh = _fresh(tmp_path)
    fresh.add([(b"c" * 16, b"three")])
    assert [fresh.get(name * 16) for name in (b"a", b"b", b"c")] == [b"one", None, b"three"]


def test_a_full_disk_tears_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = _fresh(tmp_path)
    fresh.add([(b"a" * 16, b"one")])
    with monkeypatch.context() as patch:
        write = os.pwrite
        patch.setattr(os, "pwrite", lambda descriptor, data, at: write(descriptor, data[:9], at))
        fresh.add([(b"b" * 16, b"two")])
    assert fresh.size() == 24 + 3
    assert fresh.get(b"a" * 16) == b"one"


@pytest.mark.parametrize("kind", ["fifo", "link", "directory", "loop"])
def test_what_is_no_file_is_left_alone(store: Store, tmp_path: Path, kind: str) -> None:
    path, other = store.root / "evidence.log", tmp_path / "other"
    other.write_bytes(b"own")
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case _:
            path.symlink_to(other if kind == "link" else path)
    texts = Texts("x")
    store.evidence.keep([texts])
    assert store.evidence.node(texts.roots[0][:32]) is None
    store.evidence.sweep(())
    assert other.read_bytes() == b"own"


def test_a_huge_file_is_not_read_as_a_whole(tmp_path: Path) -> None:
    fresh = _fresh(tmp_path)
    fresh.add([(b"a" * 16, b"one")])
    os.truncate(tmp_path / "evidence.log", 1 << 40)
    assert _fresh(tmp_path).get(b"a" * 16) == b"one"
    _fresh(tmp_path).add([(b"b" * 16, b"two")])
    assert fresh.size() == 2 * (24 + 3)


def test_nodes_wait_until_the_database_has_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Texts("first")
    store.evidence.keep([first])
    monkeypatch.setattr("imgbuild.store.evidence._LITTLE", 0)
    monkeypatch.setattr("imgbuild.store.evidence._has", _fail)
    with pytest.raises(OSError):
        store.evidence.keep([Texts("second")])
    assert store.evidence.node(first.roots[0][:32]) is not None


def _fail(connection: object, digest: bytes) -> bool:
    raise OSError("in the middle of a transaction")


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
