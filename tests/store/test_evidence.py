"""What is kept to explain misses comes and goes with the steps, and nothing depends on it."""

from __future__ import annotations

import os

from imgbuild.oci.digest import digest_of
from imgbuild.store.fsck import check
from imgbuild.store.garbage import Policy, collect
from imgbuild.store.rows import StepRow
from imgbuild.store.store import Store

from .made import put_step


class Texts:
    """What a step read: one file."""

    def __init__(self, name: str) -> None:
        below = f"{name}\0file 644\0\0\0{digest_of(name.encode())}\0"
        body = digest_of(below.encode()).removeprefix("sha256:")
        root = digest_of(f"{body}\0".encode()).removeprefix("sha256:")
        self.roots = [root]
        self.texts = {root: f"\0directory\0\0\0{body}\0", body: below}

    def sizes(self, digest: str) -> list[int]:
        return [len(digest)]


def _step(store: Store, texts: Texts) -> StepRow:
    record = b'{"inputs":{"0":"sha256:%b"}}' % texts.roots[0].encode()
    row = StepRow(digest_of(record), record, None, "", True, "{}", "build", store.clock())
    store.index.record_step(row)
    store.evidence.keep([texts])
    return row


def test_steps_that_are_taken_out_leave_a_word_and_no_tree(store: Store) -> None:
    kept, gone = Texts("kept"), Texts("gone")
    stays, goes = _step(store, kept), _step(store, gone)
    with store.index.connections.writing() as connection:
        connection.execute("UPDATE steps SET used=? WHERE key=?", (store.clock() - 40 * 86400, goes.key))
    collect(store, Policy(unused_since=store.clock() - 14 * 86400))
    assert store.evidence.tombstone(stays.key) is None
    stone = store.evidence.tombstone(goes.key)
    assert stone is not None
    assert stone.policy == "prune: not used for 14 days, or its layer was gone"
    assert store.evidence.node(kept.roots[0][:32]) is not None
    assert store.evidence.node(gone.roots[0][:32]) is None
    collect(store, Policy(keep_cache=False))
    stone = store.evidence.tombstone(stays.key)
    assert stone is not None
    assert stone.policy == "prune --all"
    assert store.evidence.node(kept.roots[0][:32]) is None


def test_a_store_without_misses_has_no_file(store: Store) -> None:
    collect(store, Policy())
    assert check(store) == ()
    assert not store.evidence.path.exists()


def test_damage_is_found_and_repaired_and_in_nobodys_way(store: Store) -> None:
    put_step(store, None, text="any")
    _step(store, Texts("file"))
    store.evidence.close()
    for suffix in ("-wal", "-shm"):
        if os.path.exists(f"{store.evidence.path}{suffix}"):
            os.unlink(f"{store.evidence.path}{suffix}")
    store.evidence.path.write_bytes(os.urandom(50_000))
    assert [finding.kind for finding in check(store)] == ["evidence"]
    assert collect(store, Policy(keep_cache=False)).steps == 2
    assert [finding.kind for finding in check(store, repair=True)] == ["evidence"]
    assert check(store) == ()
    assert not store.evidence.path.exists()
