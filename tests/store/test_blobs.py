"""Durability and concurrency of blobs; the rest is in the conformance suite."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from imgbuild.linux import writing
from imgbuild.oci.digest import digest_of
from imgbuild.store.blobs import Blobs
from imgbuild.store.store import Store


def test_a_blob_is_not_synced_when_it_is_written_but_when_it_is_flushed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = _note_syncs(monkeypatch)
    digests = [store.blobs.put(b"blob %d" % number) for number in range(20)]
    assert synced == []
    assert all(store.blobs.is_unsynced(digest) for digest in digests)
    store.flush()
    assert set(map(store.blobs.path, digests)) <= set(synced)
    assert store.root / "blobs/sha256" == synced[-1], "the directory comes after the files"
    assert not any(store.blobs.is_unsynced(digest) for digest in digests)
    synced.clear()
    store.flush()
    store.blobs.make_durable(digests)
    assert synced == []


def test_what_is_long_is_on_its_way_to_the_disk_from_its_commit_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr(writing, "begin_writeback", lambda descriptor: begun.append(os.fstat(descriptor).st_size))
    synced = _note_syncs(monkeypatch)
    for size in (100, 1 << 20):
        store.blobs.put(os.urandom(size))
    assert begun == [1 << 20] and synced == []


def test_another_process_s_blobs_are_synced_by_who_needs_them(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(root) as other:
        digest = other.blobs.put(b"made elsewhere")
    synced = _note_syncs(monkeypatch)
    store.flush()
    assert synced == []
    store.blobs.make_durable([digest])
    assert store.blobs.path(digest) in synced


def test_one_blob_written_by_many_threads(store: Store) -> None:
    data = os.urandom(3 << 20)
    threads = [threading.Thread(target=store.blobs.put, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(store.blobs) == [digest_of(data)]
    store.blobs.verify(digest_of(data))
    assert os.listdir(store.scratch.temporary) == []


def test_strays_are_no_blobs(store: Store) -> None:
    (store.root / "blobs" / "README").write_text("hello")
    (store.root / "blobs" / "sha256" / "notes").write_text("hello")
    assert list(store.blobs) == []
    assert [path.name for path in store.blobs.strays()] == ["README", "notes"]


def test_flush_passes_over_what_was_collected(store: Store) -> None:
    digest = store.blobs.put(b"gone")
    store.blobs.remove(digest)
    store.flush()


def _note_syncs(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    synced: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return synced


def test_blobs_may_be_used_alone(tmp_path: Path) -> None:
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    blobs = Blobs(tmp_path / "blobs", tmp_path)
    assert blobs.read(blobs.put(b"x")) == b"x"
