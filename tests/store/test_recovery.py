"""After a reboot: what was not known to be on disk is doubted, what was is believed."""

from __future__ import annotations

import os
from pathlib import Path

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
