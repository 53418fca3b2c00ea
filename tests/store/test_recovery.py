"""After a reboot: what was not known to be on disk is doubted, what was is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imgbuild.oci.digest import digest_of
from imgbuild.oci.reference import parse_reference
from imgbuild.store.fsck import check
from imgbuild.store.store import Store

from .made import put_image, put_layer, put_snapshot, put_step

HELLO = parse_reference("hello")


def _reboot(root: Path) -> None:
    (root / "boot").write_text("00000000-0000-0000-0000-000000000000\n")


def test_what_a_power_cut_tore_is_not_believed(root: Path) -> None:
    with Store.open(root) as store:
        image = put_image(store, {"a": b"named"})
        store.tags.set(HELLO, image)
        whole_blob, whole = put_layer(store, {"a": b"whole"})
        torn_blob, torn = put_layer(store, {"a": b"torn"})
        for identity, diff_id in (("whole", whole), ("torn", torn)):
            put_snapshot(store, identity, diff_id, {"a": b"1"})
        kept, lost = put_step(store, whole, "whole"), put_step(store, torn, "torn")
        empty = put_step(store, None, text="empty")
    os.truncate(store.blobs.path(torn_blob.digest), 0)
    _reboot(root)
    with Store.open(root) as store:
        assert store.tags.get(HELLO) == image
        assert store.blobs.has(whole_blob.digest)
        assert not store.blobs.is_unsynced(whole_blob.digest)
        assert not store.blobs.has(torn_blob.digest)
        assert store.index.step(kept.key) == kept
        assert store.index.step(empty.key) == empty
        assert store.index.step(lost.key) is None
        assert store.index.layers_of(torn) == ()
        assert store.index.snapshots() == ()
        assert os.listdir(root / "snapshots") == []
        assert check(store) == ()


def _container(root: Path, name: str, record: object) -> Path:
    path = root / "containers" / name / "container.json"
    path.parent.mkdir()
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    return path


def test_what_containers_stand_on_stays(root: Path) -> None:
    with Store.open(root) as store:
        blob, layer = put_layer(store, {"a": b"1"})
        for identity in ("used", "torn", "unused"):
            put_snapshot(store, identity, layer, {"a": b"1", "d/b": b"2"})
    _container(root, "one", {"snapshots": ["used", "torn", "gone"], "more": [1]})
    _container(root, "two", {"snapshots": []})
    os.truncate(root / "snapshots/torn/fs/d/b", 0)
    _reboot(root)
    with Store.open(root) as store:
        assert sorted(os.listdir(root / "snapshots")) == ["torn", "used"]
        # One that a power cut tore stays for its container, and is no image's any more.
        assert [row.id for row in store.index.snapshots()] == ["used"]
        assert store.blobs.has(blob.digest)


@pytest.mark.parametrize(
    "record", ["", '{"snapshots": ["us', "[]", "{}", '{"snapshots": 1}', '{"snapshots": "used"}', '{"snapshots": [[]]}', "[" * 100_000]
)
def test_with_a_damaged_container_any_snapshot_may_be_in_use(root: Path, record: str) -> None:
    with Store.open(root) as store:
        _, layer = put_layer(store, {"a": b"1"})
        put_snapshot(store, "used", layer, {"a": b"1"})
    _container(root, "one", record)
    _reboot(root)
    with Store.open(root) as store:
        assert os.listdir(root / "snapshots") == ["used"]
        assert store.index.snapshots() == ()


def test_it_is_done_once(root: Path) -> None:
    with Store.open(root) as store:
        digest = store.blobs.put(b"x")
    _reboot(root)
    Store.open(root).close()
    path = store.blobs.path(digest)
    os.chmod(path, 0o644)
    path.write_bytes(b"changed since")
    with Store.open(root) as store:
        assert store.blobs.has(digest)


def test_blobs_known_to_be_on_disk_are_not_read_again(root: Path) -> None:
    with Store.open(root) as store:
        digest = store.blobs.put(b"x")
        store.flush()
    assert oct(store.blobs.path(digest).stat().st_mode & 0o777) == "0o444"
    os.chmod(store.blobs.path(digest), 0o400)
    store.blobs.path(digest).write_bytes(b"y")
    _reboot(root)
    with Store.open(root) as store:
        assert store.blobs.has(digest_of(b"x"))


def test_a_damaged_index_does_not_stop_it(root: Path) -> None:
    with Store.open(root) as store:
        store.tags.set(HELLO, put_image(store, {"a": b"1"}))
    (root / "index.db").write_bytes(b"damaged" * 1000)
    _reboot(root)
    with Store.open(root) as store:
        assert store.tags.get(HELLO) is not None
        assert {finding.kind for finding in check(store)} == {"index"}


def test_sources_are_fetched_again(root: Path) -> None:
    with Store.open(root) as store:
        (store.root / "sources" / "x" / "tree").mkdir(parents=True)
    with Store.open(root) as store:
        assert os.listdir(store.root / "sources") == ["x"]
    _reboot(root)
    with Store.open(root) as store:
        assert os.listdir(store.root / "sources") == []
