"""What the collector takes, and what it leaves; what is counted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from imgbuild.errors import ConflictError
from imgbuild.oci import image as oci
from imgbuild.oci.image import OCI_INDEX, OCI_LAYER_ZSTD, OCI_MANIFEST, Descriptor, index_bytes, parse_manifest
from imgbuild.oci.reference import parse_reference
from imgbuild.store.fsck import broken, check
from imgbuild.store.garbage import Policy, collect, plan
from imgbuild.store.index import Index
from imgbuild.store.rows import LayerRow
from imgbuild.store.store import Store
from imgbuild.store.trees import physical
from imgbuild.store.usage import usage

from .made import put_image, put_layer, put_snapshot, put_step, start_child

EVERYTHING = Policy(keep_cache=False, drop_untagged=True)

HOLD = """
import sys
from pathlib import Path
from imgbuild.store.store import Store
with Store.open(Path(sys.argv[1])) as store, store.lease():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_an_empty_store_has_no_garbage(store: Store) -> None:
    assert collect(store, EVERYTHING).blobs == 0


def test_a_named_image_stays_and_the_rest_goes(store: Store) -> None:
    kept, gone, unnamed = (put_image(store, {"a": name}) for name in (b"kept", b"gone", b"unnamed"))
    store.tags.set(parse_reference("kept"), kept)
    store.tags.add_untagged(unnamed)
    diff_id = store.index.diff_id_of(parse_manifest(store.blobs.read(kept.digest)).layers[0].digest)
    path = put_snapshot(store, "of-kept", diff_id, {"a": b"kept"})
    put_snapshot(store, "of-nothing", None, {"a": b"x" * 100_000})
    size = sum(store.blobs.size(digest) for digest in store.blobs)
    freed = collect(store, Policy())
    assert (freed.blobs, freed.snapshots, freed.images, freed.steps) == (3, 1, 0, 0)
    assert freed.bytes >= 100_000
    assert not store.blobs.has(gone.digest)
    freed = collect(store, Policy(drop_untagged=True))
    assert (freed.blobs, freed.images) == (3, 1)
    assert store.tags.list() == ((parse_reference("kept"), kept),)
    assert path.is_dir()
    assert len(list(store.blobs)) == 3
    assert sum(store.blobs.size(digest) for digest in store.blobs) < size
    assert len(store.index.layers()) == 1
    assert broken(check(store)) == ()


def test_the_cache_stays_until_it_is_to_go(store: Store) -> None:
    blob, diff_id = put_layer(store, {"a": b"cached"})
    other = Descriptor(OCI_LAYER_ZSTD, store.blobs.put(b"the same in zstd"), 16)
    store.index.record_layer(LayerRow(diff_id, other, 10))
    put_snapshot(store, "step", diff_id, {"a": b"cached"})
    row = put_step(store, diff_id, "step")
    put_step(store, None, text="an empty one")
    (store.root / "cache" / "apt").mkdir()
    (store.root / "failed" / "f").mkdir()
    freed = collect(store, Policy(drop_untagged=True))
    assert (freed.blobs, freed.snapshots, freed.steps, freed.directories) == (0, 0, 0, 0)
    assert store.index.step(row.key) == row
    freed = collect(store, EVERYTHING)
    assert (freed.blobs, freed.snapshots, freed.steps, freed.directories) == (2, 1, 2, 2)
    assert store.index.steps() == ()
    assert list(store.blobs) == []
    assert not store.blobs.has(blob.digest)


def test_old_steps_go(root: Path) -> None:
    now = 1_000_000.0
    with Store.open(root, clock=lambda: now) as store:
        old = put_step(store, put_layer(store, {"a": b"old"})[1])
        used = put_step(store, put_layer(store, {"a": b"used"})[1])
        for name, time in (("old", now - 10_000_000), ("new", now + 50_000)):
            (root / "failed" / name).mkdir()
            os.utime(root / "failed" / name, (time, time))
        now += 100_000
        assert store.index.step(used.key) == used
    with Store.open(root, clock=lambda: now) as store:
        freed = collect(store, Policy(unused_since=now - 50_000))
        assert (freed.steps, freed.blobs, freed.directories) == (1, 1, 1)
        assert store.index.step(old.key) is None
        assert store.index.step(used.key) == used
        assert os.listdir(root / "failed") == ["new"]


def test_a_step_with_nothing_left_goes(store: Store) -> None:
    row = put_step(store, put_layer(store, {"a": b"1"})[1], "gone")
    for digest in store.blobs:
        store.blobs.remove(digest)
    assert collect(store, Policy()).steps == 1
    assert store.index.step(row.key) is None


def test_what_containers_stand_on_stays(store: Store) -> None:
    put_snapshot(store, "lower", None, {"a": b"1"})
    assert collect(store, Policy(frozenset({"lower"}), keep_cache=False)).snapshots == 0
    waited: list[bool] = []

    def standing() -> frozenset[str]:
        assert waited, "it is asked when the store is held"
        return frozenset({"lower"})

    child = start_child(HOLD, store.root)
    assert child.stdout is not None
    child.stdout.readline()

    def on_wait() -> None:
        waited.append(True)
        child.communicate()

    assert collect(store, Policy(standing, keep_cache=False), on_wait=on_wait).snapshots == 0
    assert store.snapshot_path("lower").is_dir()
    assert store.index.snapshot("lower") is not None
    assert collect(store, EVERYTHING).snapshots == 1


def test_rows_of_lost_snapshots_go(store: Store) -> None:
    _, diff_id = put_layer(store, {"a": b"1"})
    put_step(store, diff_id, "lost")
    put_snapshot(store, "lost", diff_id, {"a": b"1"})
    store.discard(store.root / "snapshots" / "lost")
    collect(store, Policy())
    assert store.index.snapshots() == ()


def test_images_for_several_platforms_and_damaged_ones(store: Store) -> None:
    image = put_image(store, {"a": b"1"})
    data = index_bytes(oci.Index((image, Descriptor(OCI_MANIFEST, image.digest, image.size))))
    both = Descriptor(OCI_INDEX, store.blobs.put(data), len(data))
    store.tags.set(parse_reference("both"), both)
    damaged = put_image(store, {"a": b"2"})
    store.tags.set(parse_reference("damaged"), damaged)
    store.blobs.path(damaged.digest).write_bytes(b"{}")
    collect(store, EVERYTHING)
    assert store.blobs.has(image.digest)
    assert store.blobs.has(damaged.digest)
    assert [name for name, _ in store.tags.list()] == [parse_reference("both"), parse_reference("damaged")]


def test_nothing_is_taken_from_who_holds_a_lease(store: Store) -> None:
    put_image(store, {"a": b"being made"})
    child = start_child(HOLD, store.root)
    assert child.stdout is not None
    child.stdout.readline()
    waits: list[None] = []
    with pytest.raises(ConflictError, match="still in use"):
        collect(store, EVERYTHING, timeout=0, on_wait=lambda: waits.append(None))
    assert len(waits) == 1
    assert len(list(store.blobs)) == 3
    child.communicate()
    assert collect(store, EVERYTHING).blobs == 3


@pytest.mark.parametrize("moment", ["forget", "remove_untagged", "remove", "discard"])
def test_a_crash_in_the_middle_leaves_a_whole_store(store: Store, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.tags.set(parse_reference("kept"), put_image(store, {"a": b"kept"}))
    store.tags.add_untagged(put_image(store, {"a": b"unnamed"}))
    _, diff_id = put_layer(store, {"a": b"step"})
    put_snapshot(store, "step", diff_id, {"a": b"step"})
    put_step(store, diff_id, "step")

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    owner = {"forget": Index, "remove_untagged": type(store.tags), "remove": type(store.blobs), "discard": Store}[moment]
    monkeypatch.setattr(owner, moment, crash)
    with pytest.raises(KeyboardInterrupt):
        collect(store, EVERYTHING)
    monkeypatch.undo()
    assert broken(check(store)) == ()
    collect(store, EVERYTHING)
    assert len(list(store.blobs)) == 3
    assert check(store) == ()


def test_usage_counts_what_there_is(store: Store) -> None:
    image = put_image(store, {"a": os.urandom(50_000)})
    store.tags.set(parse_reference("kept"), image)
    store.tags.set(parse_reference("twice"), image)
    put_image(store, {"a": os.urandom(70_000)})
    path = put_snapshot(store, "linked", None, {"a": b"x" * 40_000})
    os.link(path / "a", path / "b")
    (store.root / "containers" / "c").mkdir()
    (store.root / "cache" / "apt").mkdir()
    (store.root / "cache" / "apt" / "archive").write_bytes(b"x" * 30_000)
    (store.root / "trash" / "t").write_bytes(b"x" * 20_000)
    found = usage(store)
    assert found.images == 1
    assert (found.blobs.count, found.snapshots.count, found.containers.count, found.cache.count) == (6, 1, 1, 1)
    assert 120_000 <= found.blobs.bytes < 160_000
    assert 70_000 <= found.blobs.reclaimable < 100_000
    assert 40_000 <= found.snapshots.bytes < 80_000, "a file with two links counts once"
    assert found.snapshots.reclaimable == found.snapshots.bytes
    assert found.containers.reclaimable == 0
    assert found.leftovers.bytes >= 20_000
    assert found.index > 0
    assert found.total > found.reclaimable
    assert usage(store, frozenset({"linked"})).snapshots.reclaimable == 0
    assert collect(store, EVERYTHING).bytes == pytest.approx(found.reclaimable, rel=0.05)


def test_physical_counts_links_once_over_trees(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "file").write_bytes(b"x" * 10_000)
    os.link(tmp_path / "one" / "file", tmp_path / "two" / "file")
    seen: set[tuple[int, int]] = set()
    first, second = physical(tmp_path / "one", seen), physical(tmp_path / "two", seen)
    assert first - second >= 10_000
    assert physical(tmp_path / "absent", seen) == 0


def test_a_plan_changes_nothing(store: Store) -> None:
    put_image(store, {"a": b"1"})
    put_step(store, None)
    going = plan(store, EVERYTHING)
    assert len(going.blobs) == 3
    assert len(going.steps) == 1
    assert json.loads((store.root / "oci-layout").read_text())
    assert len(list(store.blobs)) == 3
    assert len(store.index.steps()) == 1
