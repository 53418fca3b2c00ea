"""An upperdir becomes a layer; its snapshot and the layer unpacked again show the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgbuild.errors import LayerError
from imgbuild.layer.compress import parameters
from imgbuild.layer.compression import Compression
from imgbuild.rootfs.capture import Captured, capture, settle
from imgbuild.rootfs.lowers import find_lower
from imgbuild.rootfs.materialize import materialize
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.union import UnionView
from imgbuild.store.store import Store
from tests.layer.trees import EPOCH, edit, seen_in
from tests.rootfs.images import directory, file, put_layer, tar_of

ZSTD = Compression()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened, opened.lease():
        yield opened


@pytest.fixture
def base(store: Store) -> Lowers:
    return materialize(store, [put_layer(store, tar_of(directory("./"), directory("etc"), file("etc/conf", b"conf"), file("gone")))])


def committed(store: Store, parents: Lowers, tmp_path: Path, name: str, commands: list[tuple[str, bytes | None]]) -> DirectoryLower:
    """A snapshot of writing files, or removing them where the content is None."""

    def work(root: str) -> None:
        for path, content in commands:
            if content is None:
                os.unlink(root + path)
            else:
                os.makedirs(os.path.dirname(root + path), exist_ok=True)
                Path(root + path).write_bytes(content)

    upper, _ = edit([lower.path for lower in parents if isinstance(lower, DirectoryLower)], tmp_path / name, work)
    settle(upper, parents, EPOCH)
    path = store.snapshot_path(name)
    path.parent.mkdir()
    upper.rename(path)
    return DirectoryLower(path)


EDITS = [("/etc/conf", b"changed"), ("/new/file", b"new"), ("/gone", None)]


@pytest.mark.parametrize("compression", [ZSTD, Compression("gzip"), Compression("none")], ids=str)
def test_the_snapshot_and_the_layer_are_one(store: Store, base: Lowers, tmp_path: Path, compression: Compression) -> None:
    lower = committed(store, base, tmp_path, "step", EDITS)
    captured = capture(store, lower, base, EPOCH, compression)
    assert captured.exact
    assert find_lower(store, captured.layer.diff_id) == lower
    assert store.blobs.size(captured.layer.blob.digest) == captured.layer.blob.size
    row = store.index.layer(captured.layer.diff_id)
    assert row is not None
    assert (row.blob, row.uncompressed_size, row.compression) == (captured.layer.blob, captured.uncompressed_size, parameters(compression))
    with UnionView((*base, lower)) as view:
        ours = seen_in(view)
    store.index.forget(snapshots=["step"])
    with UnionView((*base, *materialize(store, [captured.layer]))) as view:
        assert seen_in(view) == ours
    assert "/gone" not in ours
    assert {seen.mtime_ns for path, seen in ours.items() if path.startswith(("/new", "/etc/"))} == {EPOCH * 10**9}


def test_two_stores_give_one_digest(tmp_path: Path) -> None:
    found: list[Captured] = []
    for name in ("one", "two"):
        with Store.open(tmp_path / name) as store, store.lease():
            parents = materialize(store, [put_layer(store, tar_of(directory("etc"), file("gone")))])
            found.append(capture(store, committed(store, parents, tmp_path / f"{name}-scratch", "step", EDITS), parents, EPOCH, ZSTD))
    assert found[0] == found[1]


def test_again_is_the_same(store: Store, base: Lowers, tmp_path: Path) -> None:
    lower = committed(store, base, tmp_path, "step", EDITS)
    assert capture(store, lower, base, EPOCH, ZSTD) == capture(store, lower, base, EPOCH, ZSTD)


def test_nothing_changed(store: Store, base: Lowers, tmp_path: Path) -> None:
    captured = capture(store, committed(store, base, tmp_path, "step", []), base, EPOCH, ZSTD)
    assert captured.empty
    assert captured.uncompressed_size == 1024


def test_a_directory_with_more_than_its_layer_is_not_found_by_diff_id(store: Store, base: Lowers, tmp_path: Path) -> None:
    def work(root: str) -> None:
        os.close(os.open(f"{root}/etc/conf", os.O_RDWR))
        Path(root, "new").write_bytes(b"")

    upper, _ = edit([lower.path for lower in base if isinstance(lower, DirectoryLower)], tmp_path / "scratch", work)
    settle(upper, base, EPOCH)
    path = store.snapshot_path("step")
    path.parent.mkdir()
    upper.rename(path)
    captured = capture(store, DirectoryLower(path), base, EPOCH, ZSTD)
    assert not captured.exact
    assert find_lower(store, captured.layer.diff_id) is None
    assert store.index.snapshot("step") is not None


def test_a_layer_on_another_parent(store: Store, base: Lowers, tmp_path: Path) -> None:
    captured = capture(store, committed(store, base, tmp_path, "step", EDITS), base, EPOCH, ZSTD)
    other = put_layer(store, tar_of(directory("new"), file("new/old"), directory("etc"), file("etc/other")))
    with UnionView(materialize(store, [other, captured.layer])) as view:
        assert [path for path, _ in view.walk()][1:] == ["/etc", "/etc/conf", "/etc/other", "/new", "/new/file", "/new/old"]


def test_what_layers_cannot_say_leaves_no_blob(store: Store, base: Lowers, tmp_path: Path) -> None:
    lower = committed(store, base, tmp_path, "step", [("/.wh.x", b"")])
    blobs = set(store.blobs)
    with pytest.raises(LayerError):
        capture(store, lower, base, EPOCH, ZSTD)
    assert set(store.blobs) == blobs
    assert os.listdir(store.root / "tmp") == []
