"""What is kept to explain misses comes and goes with the steps, and nothing depends on it."""

from __future__ import annotations

import os
import struct

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.errors import CorruptError
from imgbuild.oci.digest import digest_of
from imgbuild.store.fsck import check
from imgbuild.store.garbage import Policy, collect
from imgbuild.store.nodes import node_of, pack, unpack
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


PARTS = st.tuples(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=6), st.binary(max_size=20))


@given(PARTS, st.integers(0, 9), st.binary(max_size=99))
def test_what_is_read_is_a_node_or_said_to_be_damaged(parts: tuple[bytes, ...], width: int, rest: bytes) -> None:
    _read(struct.pack("<IIIIB", *map(len, parts), width) + b"".join(parts) + rest)


@given(st.data(), st.sampled_from(["file 644", "directory", "symlink"]))
def test_a_damaged_node_is_no_node(data: st.DataObject, kind: str) -> None:
    body = "elsewhere" if kind == "symlink" else digest_of(b"x")
    whole = pack(node_of(f"one\0{kind}\0\0\0{body}\0two\0file 755\0\0\0{digest_of(b'y')}\0", [1, 2]))
    assert len(unpack(whole).entries()) == 2
    at = data.draw(st.integers(0, len(whole) - 1))
    _read(whole[:at] + data.draw(st.binary(max_size=2)) + whole[at + data.draw(st.integers(0, 2)) :])


def _read(packed: bytes) -> None:
    try:
        node = unpack(packed)
    except CorruptError:
        return
    assert len(node.entries()) == len(node)
    assert len(node.words()) == len(node)
    assert all(len(digest) == 32 for digest in node.below())


def test_no_build_waits_for_the_disk_to_have_it(store: Store) -> None:
    _step(store, Texts("name"))
    with store.evidence.connections.writing() as evidence, store.index.connections.writing() as index:
        waits = [connection.execute("PRAGMA synchronous").fetchone()[0] for connection in (evidence, index)]
    assert waits == [0, 1]
