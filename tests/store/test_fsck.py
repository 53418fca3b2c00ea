"""Each damage, planted, is found by its name, and gone after a repair."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from imgbuild.oci.config import ImageConfig, config_bytes
from imgbuild.oci.image import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest, manifest_bytes, parse_manifest
from imgbuild.oci.reference import parse_reference
from imgbuild.store.fsck import broken, check
from imgbuild.store.rows import LayerRow, StepRow
from imgbuild.store.store import Store
from imgbuild.store.trees import survey

from .made import PLATFORM, put_image, put_layer, put_snapshot, put_step

HELLO = parse_reference("hello")


@pytest.fixture
def filled(store: Store) -> Store:
    """A store with two images, a step with its layer and its snapshot, and nothing else."""
    store.tags.set(HELLO, put_image(store, {"a": b"1"}, {"b": b"2"}))
    store.tags.set(parse_reference("other"), put_image(store, {"a": b"other"}))
    _, diff_id = put_layer(store, {"c": b"step"})
    path = put_snapshot(store, "snap", diff_id, {"etc/passwd": b"root", "bin/sh": b"#!" * 100})
    os.symlink("sh", path / "bin" / "bash")
    _record_again(store, "snap")
    put_step(store, diff_id, "snap")
    assert check(store) == ()
    return store


def _record_again(store: Store, identity: str) -> None:
    row, seen = store.index.snapshot(identity), survey(store.snapshot_path(identity))
    assert row is not None
    store.index.record_snapshot(type(row)(identity, row.diff_id, seen.size, seen.inodes, seen.tree))


def _hello(store: Store) -> Descriptor:
    image = store.tags.get(HELLO)
    assert image is not None
    return image


def _layer_path(store: Store) -> Path:
    return store.blobs.path(parse_manifest(store.blobs.read(_hello(store).digest)).layers[1].digest)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _layer_changed(store: Store) -> None:
    _flip(_layer_path(store))


def _layer_truncated(store: Store) -> None:
    os.truncate(_layer_path(store), 5)


def _layer_missing(store: Store) -> None:
    _layer_path(store).unlink()


def _manifest_changed(store: Store) -> None:
    _flip(store.blobs.path(_hello(store).digest))


def _manifest_missing(store: Store) -> None:
    store.blobs.remove(_hello(store).digest)


def _config_missing(store: Store) -> None:
    store.blobs.remove(parse_manifest(store.blobs.read(_hello(store).digest)).config.digest)


def _index_lies_about_size(store: Store) -> None:
    path = store.root / "index.json"
    path.write_bytes(path.read_bytes().replace(b'"size":%d' % _hello(store).size, b'"size":7'))


def _too_few_diff_ids(store: Store) -> None:
    config = config_bytes(ImageConfig(PLATFORM))
    blob, _ = put_layer(store, {"z": b"z"})
    data = manifest_bytes(Manifest(Descriptor(OCI_CONFIG, store.blobs.put(config), len(config)), (blob,)))
    store.tags.set(HELLO, Descriptor(OCI_MANIFEST, store.blobs.put(data), len(data)))


def _names_unreadable(store: Store) -> None:
    (store.root / "index.json").write_text("{")


def _index_damaged(store: Store) -> None:
    store.index.close()
    for name in ("index.db-wal", "index.db-shm"):
        (store.root / name).unlink(missing_ok=True)
    (store.root / "index.db").write_bytes(os.urandom(100_000))


def _snapshot_missing(store: Store) -> None:
    store.discard(store.root / "snapshots" / "snap")


def _file_lost(store: Store) -> None:
    (store.snapshot_path("snap") / "bin" / "bash").unlink()


def _file_added(store: Store) -> None:
    (store.snapshot_path("snap") / "extra").touch()


def _file_changed(store: Store) -> None:
    (store.snapshot_path("snap") / "etc" / "passwd").write_bytes(b"evil")


def _mode_changed(store: Store) -> None:
    (store.snapshot_path("snap") / "bin" / "sh").chmod(0o4755)


def _owner_changed(store: Store) -> None:
    os.chown(store.snapshot_path("snap") / "bin" / "sh", 1, 1)


def _xattr_changed(store: Store) -> None:
    os.setxattr(store.snapshot_path("snap") / "bin", "trusted.overlay.opaque", b"y")


def _link_changed(store: Store) -> None:
    link = store.snapshot_path("snap") / "bin" / "bash"
    status, directory = link.lstat(), link.parent.stat()
    link.unlink()
    os.symlink("no", link)
    os.utime(link, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
    os.utime(link.parent, ns=(directory.st_atime_ns, directory.st_mtime_ns))


def _record_changed(store: Store) -> None:
    row = store.index.steps()[0]
    store.index.record_step(StepRow(row.key, b'{"step":"forged"}', row.diff_id, row.snapshot, row.empty, "{}", "b", 1.0))


def _usage_is_no_json(store: Store) -> None:
    row = store.index.steps()[0]
    store.index.record_step(StepRow(row.key, row.record, row.diff_id, row.snapshot, row.empty, "?", "b", 1.0))


def _step_s_things_gone(store: Store) -> None:
    for layer in store.index.layers_of(store.index.steps()[0].diff_id or _never()):
        store.blobs.remove(layer.blob.digest)
        store.index.forget(layers=[layer.blob.digest])
    store.index.forget(snapshots=["snap"])
    store.discard(store.root / "snapshots" / "snap")


def _layer_row_lies(store: Store) -> None:
    row = store.index.layers()[0]
    blob = Descriptor(row.blob.media_type, row.blob.digest, row.blob.size + 1)
    store.index.record_layer(LayerRow(row.diff_id, blob, row.uncompressed_size))


def _never() -> str:  # type: ignore[return]
    pytest.fail("the step has a layer")


DAMAGES: list[tuple[Callable[[Store], None], set[str]]] = [
    (_layer_changed, {"blob", "image", "layer"}),
    (_layer_truncated, {"blob", "image", "layer"}),
    (_layer_missing, {"image", "layer"}),
    (_manifest_changed, {"blob", "image"}),
    (_manifest_missing, {"image"}),
    (_config_missing, {"image"}),
    (_index_lies_about_size, {"image"}),
    (_too_few_diff_ids, {"image"}),
    (_names_unreadable, {"names"}),
    (_index_damaged, {"index"}),
    (_snapshot_missing, {"snapshot"}),
    (_file_lost, {"snapshot"}),
    (_file_added, {"snapshot"}),
    (_file_changed, {"snapshot"}),
    (_mode_changed, {"snapshot"}),
    (_owner_changed, {"snapshot"}),
    (_xattr_changed, {"snapshot"}),
    (_link_changed, {"snapshot"}),
    (_record_changed, {"step"}),
    (_usage_is_no_json, {"step"}),
    (_step_s_things_gone, {"step"}),
    (_layer_row_lies, {"layer"}),
]


@pytest.mark.parametrize(("damage", "kinds"), DAMAGES, ids=[damage.__name__.strip("_") for damage, _ in DAMAGES])
def test_damage_is_found_and_repaired(filled: Store, damage: Callable[[Store], None], kinds: set[str]) -> None:
    damage(filled)
    found = broken(check(filled))
    assert {finding.kind for finding in found} == kinds, found
    assert all(finding.repairable and finding.message and finding.what for finding in found)
    assert {finding.kind for finding in broken(check(filled))} == kinds, "checking repairs nothing"
    assert broken(check(filled, repair=True)) == found
    assert broken(check(filled)) == ()
    if "names" not in kinds:
        assert filled.tags.get(parse_reference("other")) is not None, "what was whole stays"


def test_after_a_lost_index_the_images_layers_are_known_again(filled: Store) -> None:
    before = filled.index.layers()
    _index_damaged(filled)
    check(filled, repair=True)
    assert {row.diff_id for row in filled.index.layers()} < {row.diff_id for row in before}
    assert len(filled.index.layers()) == 3
    assert os.listdir(filled.root / "snapshots") == []


def test_what_containers_stand_on_is_not_taken_from_below_them(filled: Store) -> None:
    _index_damaged(filled)
    check(filled, repair=True, containers=frozenset({"snap"}))
    assert filled.snapshot_path("snap").is_dir()
    assert check(filled, containers=frozenset({"snap"})) != ()
    assert broken(check(filled, containers=frozenset({"snap"}))) == ()


def test_unreadable_names_are_set_aside(filled: Store) -> None:
    _names_unreadable(filled)
    check(filled, repair=True)
    assert (filled.root / "index.json.damaged").read_text() == "{"
    assert json.loads((filled.root / "index.json").read_text())["manifests"] == []


def test_leftovers_are_notes(filled: Store) -> None:
    filled.blobs.put(b"nobody's")
    put_snapshot(filled, "orphan", None, {"a": b"1"})
    filled.index.forget(snapshots=["orphan"])
    (filled.root / "blobs" / "sha256" / "notes.txt").write_text("x")
    index = json.loads((filled.root / "index.json").read_text())
    index["manifests"].append({"mediaType": "foreign"})
    (filled.root / "index.json").write_text(json.dumps(index))
    found = check(filled)
    assert broken(found) == ()
    assert sorted(finding.kind for finding in found) == ["blob", "names", "snapshot", "stray"]


def test_damage_comes_before_notes(filled: Store) -> None:
    filled.blobs.put(b"nobody's")
    _layer_changed(filled)
    found = check(filled)
    assert [finding.note for finding in found] == sorted(finding.note for finding in found)
    assert found[0].kind == "blob"


def test_progress_is_told(filled: Store) -> None:
    told: list[int] = []
    check(filled, on_bytes=told.append)
    assert sum(told) == sum(filled.blobs.size(digest) for digest in filled.blobs)
