"""Rows of the stat cache: what is packed comes out again, and what differs is not taken for the same."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.context.rows import Rows, Statuses, status_of
from imgbuild.linux.node import Node

_U64, _I64 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)
_nodes = st.builds(
    Node,
    mode=st.just(0o100644),
    uid=st.just(0),
    gid=st.just(0),
    size=_U64,
    mtime_ns=_I64,
    rdev=st.just(0),
    nlink=st.just(1),
    dev=_U64,
    ino=_U64,
    ctime_ns=_I64,
)
_names = st.binary(min_size=1, max_size=6).filter(lambda name: b"\0" not in name and b"/" not in name).map(os.fsdecode)
_files = st.dictionaries(_names, st.tuples(_nodes, st.binary(min_size=32, max_size=32)), min_size=1, max_size=8)


def rows_of(files: dict[str, tuple[Node, bytes]]) -> Rows:
    return Rows.of([(name, status_of(node), digest) for name, (node, digest) in files.items()])


@given(_files)
def test_what_is_packed_comes_out_again(files: dict[str, tuple[Node, bytes]]) -> None:
    rows = Rows.unpack(*rows_of(files).pack())
    assert rows is not None
    assert rows.each() == {name: (status_of(node), digest) for name, (node, digest) in files.items()}
    assert rows.texts() == [f"sha256:{digest.hex()}" for _, digest in files.values()]
    assert rows.names == "\0".join(files)
    nodes = [node for node, _ in files.values()]
    assert rows.statuses == Statuses().of_all(nodes, len(nodes)) == b"".join(map(status_of, nodes))


@given(_nodes, st.sampled_from(["dev", "ino", "size", "mtime_ns", "ctime_ns"]))
def test_every_field_that_counts_is_seen(node: Node, field: str) -> None:
    other = node._replace(**{field: getattr(node, field) ^ 1})
    assert status_of(node) != status_of(other)
    assert status_of(node) == status_of(node._replace(mode=0o100755, uid=5, gid=5, nlink=2))


@given(_files, st.data())
def test_what_was_not_packed_here_is_none(files: dict[str, tuple[Node, bytes]], data: st.DataObject) -> None:
    names, numbers = rows_of(files).pack()
    assert Rows.unpack(names, numbers[: data.draw(st.integers(0, len(numbers) - 1))]) is None
    assert Rows.unpack(names + b"\0x", numbers) is None
    # the form before this one: as long, less what tells the form
    assert Rows.unpack(names, numbers[1:]) is None
