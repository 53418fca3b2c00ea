"""Layers in a store become lowers: once, verified, and with nothing left behind where they are not what they should be."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import imgbuild.rootfs.unpacking as module
from imgbuild.errors import CorruptError, LayerError
from imgbuild.layer.compression import Compression
from imgbuild.layer.tar import TarEntry
from imgbuild.layer.unpack import unpack
from imgbuild.light import threading
from imgbuild.oci.digest import DiffID
from imgbuild.oci.image import Layer
from imgbuild.rootfs.lowers import find_lower
from imgbuild.rootfs.materialize import materialize
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.union import UnionView
from imgbuild.store.locks import Interrupted
from imgbuild.store.rows import SnapshotRow
from imgbuild.store.store import Store
from tests.rootfs.images import directory, file, layer_of, put_layer, tar_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened, opened.lease():
        yield opened


def names(lowers: Lowers) -> list[str]:
    with UnionView(lowers) as view:
        return [path for path, _ in view.walk()][1:]


def left_behind(store: Store) -> list[str]:
    return sorted(os.listdir(store.root / "snapshots")) + sorted(os.listdir(store.root / "tmp"))


@pytest.mark.parametrize("kind", ["zstd", "gzip", "none"])
def test_layers_become_lowers_once(store: Store, kind: str) -> None:
    layers = [
        put_layer(store, tar_of(directory("d"), file("d/a", b"a"), file("gone")), Compression(kind)),  # type: ignore[arg-type]
        put_layer(store, tar_of(directory("d"), file("d/b", b"b"), file(".wh.gone")), Compression(kind)),  # type: ignore[arg-type]
    ]
    lowers = materialize(store, layers)
    assert names(lowers) == ["/d", "/d/a", "/d/b"]
    assert materialize(store, layers) == lowers
    assert materialize(store, layers[::-1]) == lowers[::-1]
    assert len(os.listdir(store.root / "snapshots")) == 2
    (row,) = store.index.snapshots_for(layers[0].diff_id)
    assert (row.size, row.inodes) == (1, 4)
    assert store.index.diff_id_of(layers[0].blob.digest) == layers[0].diff_id


def test_what_others_stand_on_is_not_made_again(store: Store) -> None:
    """Not even where the layer has another snapshot, in a form that can't be mounted here, as a copy makes them."""
    layer = put_layer(store, tar_of(directory("d"), file("d/a", b"a")))
    (lower,) = materialize(store, [layer])
    for name in ("layer.tar", "index.erofs"):
        path = store.snapshot_directory("0") / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    store.index.record_snapshot(SnapshotRow("0", layer.diff_id, 0, 2))
    before = lower.directory.stat()
    assert materialize(store, [layer]) == (lower,)
    assert os.path.samestat(lower.directory.stat(), before)


def test_nothing_at_all(store: Store) -> None:
    assert materialize(store, []) == ()
    layer = put_layer(store, b"")
    assert names(materialize(store, [layer, layer])) == []


def test_a_layer_that_asks_below_is_kept_for_its_chain(store: Store) -> None:
    usr_merged = put_layer(store, tar_of(directory("usr"), directory("usr/bin"), (TarEntry(b"bin", "symlink", link=b"usr/bin"), b"")))
    split = put_layer(store, tar_of(directory("bin", 0o700)))
    asking = put_layer(store, tar_of(file("bin/tool")))
    first = materialize(store, [usr_merged, asking])
    second = materialize(store, [split, asking])
    assert "/usr/bin/tool" in names(first)
    assert names(second) == ["/bin", "/bin/tool"]
    assert find_lower(store, asking.diff_id) is None
    assert materialize(store, [usr_merged, asking]) == first
    assert materialize(store, [split, asking]) == second
    assert "/bin/tool" in names(materialize(store, [asking]))


def test_a_hard_link_into_a_lower_layer(store: Store) -> None:
    layers = [put_layer(store, tar_of(file("a", b"a"))), put_layer(store, tar_of((TarEntry(b"b", "hardlink", link=b"a"), b"")))]
    with UnionView(materialize(store, layers)) as view:
        first, second = view.lstat("/a"), view.lstat("/b")
        assert first is not None
        assert second is not None
        assert (first.dev, first.ino) == (second.dev, second.ino)


def test_an_unusual_root_shines_through_layers_that_do_not_name_it(store: Store) -> None:
    plain, closed = put_layer(store, tar_of(file("a"))), put_layer(store, tar_of(directory(".", 0o555)))
    named = put_layer(store, tar_of(directory(".", 0o755), file("b")))
    materialize(store, [plain])
    for layers, mode in (([closed, plain], 0o555), ([closed, plain, plain], 0o555), ([closed, named], 0o755), ([plain], 0o755)):
        with UnionView(materialize(store, layers)) as view:
            root = view.lstat("/")
            assert root is not None
            assert root.mode & 0o7777 == mode


def test_the_wrong_diff_id(store: Store) -> None:
    right = put_layer(store, tar_of(file("a")))
    wrong = Layer(right.blob, DiffID("sha256:" + "0" * 64))
    with pytest.raises(CorruptError, match="not what its image says"):
        materialize(store, [wrong])
    assert left_behind(store) == []


@pytest.mark.parametrize("kind", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("damage", ["flip", "cut", "append"])
def test_a_damaged_blob(store: Store, kind: str, damage: str) -> None:
    threads = threading.active_count()
    content = random.Random(3).randbytes(3 << 20)
    layer = put_layer(store, tar_of(file("a", content)), Compression(kind))  # type: ignore[arg-type]
    path = store.blobs.path(layer.blob.digest)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes({"flip": bytes(data), "cut": bytes(data[: len(data) // 2]), "append": bytes(data) + b"\0"}[damage])
    with pytest.raises(CorruptError):
        materialize(store, [layer])
    assert left_behind(store) == []
    assert threading.active_count() == threads


def test_a_missing_blob(store: Store) -> None:
    layer = layer_of(store.blobs.put(b"x"), 1, b"x")
    store.blobs.remove(layer.blob.digest)
    with pytest.raises(CorruptError, match="missing"):
        materialize(store, [layer])


def test_a_malformed_layer_is_not_called_damaged(store: Store) -> None:
    good = put_layer(store, tar_of(file("a")))
    bad = put_layer(store, tar_of(file("../a")))
    with pytest.raises(LayerError, match="leads out"):
        materialize(store, [good, bad])
    assert left_behind(store) == [good.diff_id.partition(":")[2]]


def test_a_directory_without_its_record_is_made_again(store: Store) -> None:
    layer = put_layer(store, tar_of(file("a", b"right")))
    (lower,) = materialize(store, [layer])
    assert isinstance(lower, DirectoryLower)
    store.index.forget(snapshots=[layer.diff_id.partition(":")[2]])
    (lower.path / "a").write_bytes(b"wrong")
    materialize(store, [layer])
    assert (lower.path / "a").read_bytes() == b"right"


def test_several_at_once_unpack_each_layer_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[Path] = []
    original = unpack

    def counted(stream: object, path: Path, **options: object) -> object:
        unpacked.append(path)
        return original(stream, path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "unpack", counted)
    layers = [put_layer(store, tar_of(file(f"f{number}", bytes(100_000)))) for number in range(6)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: materialize(store, layers if number % 2 else layers[::-1]), range(8)))
    assert len(unpacked) == len(layers)
    assert len({frozenset(lowers) for lowers in results}) == 1


def test_cancelled(store: Store) -> None:
    layer = put_layer(store, tar_of(file("a")))
    with pytest.raises(Interrupted):
        materialize(store, [layer], cancelled=lambda: True)
    assert left_behind(store) == []
