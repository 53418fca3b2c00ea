"""Lowers that are found again by a note: only where all is as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import imgbuild.rootfs.noted as module
from imgbuild.errors import StoreError
from imgbuild.light import pathlib
from imgbuild.linux.features import Features, probe
from imgbuild.oci.image import Layer
from imgbuild.rootfs.materialize import materialize
from imgbuild.rootfs.noted import note_lowers, noted_lowers
from imgbuild.store.fsck import check
from imgbuild.store.store import Store
from tests.rootfs.images import directory, file, put_layer, tar_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(pathlib.Path(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture(params=["", "erofs"])
def features(request: pytest.FixtureRequest) -> Features:
    return probe(frozenset(request.param.split()))


@pytest.fixture
def layers(store: Store) -> list[Layer]:
    return [put_layer(store, tar_of(directory("d"), file(f"d/{name}", name.encode()))) for name in "abc"]


def test_what_was_found_is_found_again_without_the_index(store: Store, layers: list[Layer], features: Features) -> None:
    assert noted_lowers(store, layers, features) is None
    lowers = materialize(store, layers, features=features)
    note_lowers(store, layers, features, lowers)
    with Store.open(store.root) as other, other.lease():
        assert noted_lowers(other, layers, features) == lowers
        assert noted_lowers(other, layers[:2], features) is None
        assert noted_lowers(other, layers[::-1], features) is None
        assert other._index is None
    note_lowers(store, [], features, ())
    assert noted_lowers(store, [], features) == ()


def test_a_deep_image_has_its_merged_lower(store: Store, features: Features) -> None:
    many = [put_layer(store, tar_of(file(f"f{number}", b"x"))) for number in range(14)]
    lowers = materialize(store, many, features=features)
    note_lowers(store, many, features, lowers)
    assert noted_lowers(store, many, features) == lowers


def _lose_a_snapshot(store: Store) -> None:
    shutil.rmtree(min((store.root / "snapshots").iterdir()))


def _lose_the_index(store: Store) -> None:
    store.index.start_anew(store.discard)
    assert store.index.snapshots() == ()


def _lose_the_index_by_hand(store: Store) -> None:
    """Another file may be the same to stat(2)."""
    validity = module._validity(store)
    store.index.connections.close()
    for name in ("index.db", "index.db-wal", "index.db-shm"):
        (store.root / name).unlink(missing_ok=True)
    with Store.open(store.root) as other:
        assert other.index.snapshots() == ()
    for name in os.listdir(store.root / "replays"):
        path = store.root / "replays" / name
        path.write_text(path.read_text().replace(validity, module._validity(store)))


def _have_it_repaired(store: Store) -> None:
    """What a container stands on stays where it is, damaged as it may be."""
    identities = frozenset(os.listdir(store.root / "snapshots"))
    for identity in identities:
        for name in ("fs/d", "layer.tar"):
            path = store.root / "snapshots" / identity / name
            if path.exists():
                store.discard(path)
                path.write_bytes(b"")
    assert check(store, containers=identities, repair=True)
    assert frozenset(os.listdir(store.root / "snapshots")) == identities


def _be_a_fifo(store: Store) -> None:
    for note in _notes(store):
        note.unlink()
        os.mkfifo(note)


def _tear(store: Store) -> None:
    for note in _notes(store):
        note.write_bytes(note.read_bytes()[:-1])


def _shorten(store: Store) -> None:
    for note in _notes(store):
        *lines, _, end = note.read_text().split("\n")
        note.write_text("\n".join((*lines, end)))


def _lead_elsewhere(store: Store) -> None:
    for note in _notes(store):
        *lines, _, end = note.read_text().split("\n")
        note.write_text("\n".join((*lines, "../snapshots", end)))


def _damage_a_name(store: Store) -> None:
    for note in _notes(store):
        *lines, name, end = note.read_text().split("\n")
        note.write_text("\n".join((*lines, f"{name[:3]}\0{name[4:]}", end)))


def _garble(store: Store) -> None:
    for note in _notes(store):
        note.write_bytes(b"\xff\0")


def _notes(store: Store) -> list[pathlib.Path]:
    notes = [store.root / "replays" / name for name in os.listdir(store.root / "replays")]
    assert notes
    return notes


@pytest.mark.parametrize(
    "happens",
    [
        _lose_a_snapshot, _lose_the_index, _lose_the_index_by_hand, _have_it_repaired, _be_a_fifo, _tear, _shorten, _lead_elsewhere,
        _damage_a_name, _garble,
    ],
)  # fmt: skip
def test_what_has_changed_is_not_found(store: Store, layers: list[Layer], features: Features, happens: Callable[[Store], None]) -> None:
    note_lowers(store, layers, features, materialize(store, layers, features=features))
    happens(store)
    assert noted_lowers(store, layers, features) is None


def test_of_before_a_reboot_nothing_is_found(
    store: Store, layers: list[Layer], features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_lowers(store, layers, features, materialize(store, layers, features=features))
    monkeypatch.setattr(module, "boot_id", lambda: "another\n")
    assert noted_lowers(store, layers, features) is None


def test_a_form_that_cant_be_mounted_is_not_found(store: Store, layers: list[Layer]) -> None:
    features = probe(frozenset())
    if not features.erofs:
        pytest.skip("needs file-backed EROFS")
    note_lowers(store, layers, features, materialize(store, layers, features=features))
    without = probe(frozenset({"erofs"}))
    assert noted_lowers(store, layers, without) is None
    lowers = materialize(store, layers, features=without)
    note_lowers(store, layers, without, lowers)
    assert noted_lowers(store, layers, without) == lowers


def test_where_no_note_can_be_written_nothing_fails(
    store: Store, layers: list[Layer], features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StoreError("no space")

    monkeypatch.setattr("imgbuild.store.temporary.replace_file", fail)
    note_lowers(store, layers, features, materialize(store, layers, features=features))
    assert os.listdir(store.root / "replays") == []
