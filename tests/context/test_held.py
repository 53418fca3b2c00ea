"""Contents that were read for a digest wait for their copy, and never take more memory than they may."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.context.digest import TreeDigests
from imgbuild.context.held import ROOM, SMALL, Area, Held, Laid, parted, space
from imgbuild.context.local import LocalContext
from imgbuild.errors import ContextError
from imgbuild.linux.node import Node

from .test_local import NET_RAW


def node(size: int) -> Node:
    return Node(0o100644, 0, 0, size, 0, 0, 1, 0, 0, 0)


def laid(names: str, directory: str = "/d") -> Laid:
    """Files that hold their names, as often as these stand in the alphabet."""
    contents = [name.encode() * (ord(name) - ord("a")) for name in names]
    data = b"".join(bytes(ROOM) + content + bytes(space(len(content)) - ROOM - len(content)) for content in contents)
    files = [(name, node(len(content))) for name, content in zip(names, contents, strict=True)]
    return Laid(directory, files, memoryview(bytearray(data)))


NAMES = "abcdefghij"


def keep(held: Held, run: Laid) -> None:
    """As a part of an area that holds more."""
    area = Area(len(run.data) + 2 * ROOM, lambda size: memoryview(bytes(ROOM) + bytes(run.data) + bytes(ROOM)), held.memory)
    held.keep(run.directory, run.files, area, ROOM, ROOM + len(run.data))


@given(st.lists(st.integers(0, 10)), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10), st.booleans())))
def test_what_is_taken_is_what_was_kept(cuts: list[int], steps: list[tuple[int, int, bool]]) -> None:
    held = Held(1 << 20)
    places = sorted({0, 10, *cuts})
    for start, end in pairwise(places):
        run = laid(NAMES[start:end])
        assert held.memory.claim(len(run.data))
        keep(held, run)
    left = set(NAMES)
    for start, count, single in steps:
        wanted = laid(NAMES[start : start + count])
        name = NAMES[start]
        if single:
            found = held.take_one("/d", name)
            assert found == (name.encode() * start if name in left else None)
            left.discard(name)
            continue
        run_found = held.take("/d", wanted.files)
        if run_found is not None:
            taken = "".join(known for known, _ in run_found.files)
            assert taken and wanted.files[: len(taken)] == run_found.files and set(taken) <= left
            assert run_found.data == laid(taken).data
            left -= set(taken)
    assert held.memory.left == (1 << 20) - sum(space(NAMES.index(name)) for name in left)


def test_other_files_of_the_same_names_are_not_taken() -> None:
    held = Held()
    keep(held, laid("ab"))
    assert held.take("/d", [("a", node(7))]) is None and held.take("/e", laid("ab").files) is None
    assert held.has("/d") and not held.has("/e")


def test_never_more_than_there_is_room_for() -> None:
    held = Held(5000)
    held.expect(2)
    assert not held.memory.claim(3001) and held.memory.claim(3000) and not held.memory.claim(1)
    held.memory.release(3000)
    held.expect(10)
    assert held.memory.left == 0


@given(st.dictionaries(st.integers(0, 9), st.just(b"capable")))
def test_what_has_a_capability_is_apart(capable: dict[int, bytes]) -> None:
    whole = laid(NAMES)
    parts = list(parted(whole.files, capable))
    assert b"".join(whole.data[start:end] for _, _, start, end, _ in parts) == whole.data
    assert [file for first, last, *_ in parts for file in whole.files[first:last]] == whole.files
    assert all(whole.data[start:end] == laid(NAMES[first:last]).data for first, last, start, end, _ in parts)
    assert {first: capability for first, _, _, _, capability in parts if capability} == capable
    assert all(last == first + 1 for first, last, _, _, capability in parts if capability)


def test_where_there_is_no_memory_nothing_is_held() -> None:
    def none(size: int) -> memoryview:
        raise MemoryError

    held = Held()
    for directory in ("/d", "/e"):
        held.keep(directory, laid("ab").files, Area(4 * ROOM, none, held.memory), 0, 4 * ROOM)
    assert held.take("/d", laid("ab").files) is None and held.take_one("/e", "a") is None


def test_small_files_of_a_context_are_held_until_they_are_taken(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"content")
    (tmp_path / "large").write_bytes(bytes(SMALL + 1))
    with LocalContext(tmp_path) as context:
        TreeDigests(context, context.digests).contents("/")
        (tmp_path / "small").unlink()
        found = context.lstat("/small")
        assert found is not None
        assert context.load("/small", found) == (b"content", b"")
        assert context._held.take_one("/", "large") is None


@pytest.mark.parametrize("digested", [True, False])
def test_a_directory_as_it_lies_in_a_layer(tmp_path: Path, digested: bool) -> None:
    for number in range(700):
        (tmp_path / f"{number:03}").write_bytes(b"%d" % number * number)
    os.setxattr(tmp_path / "300", "security.capability", NET_RAW)
    with LocalContext(tmp_path) as context:
        if digested:
            TreeDigests(context, context.digests).contents("/")
        files = list(context.entries("/"))
        parts = list(context.laid("/", files))
    assert [name for part in parts for name, _ in part.files] == [f"{number:03}" for number in range(700)]
    assert [part.files[0][0] for part in parts if part.capability] == ["300"]
    wanted = b"".join(bytes(ROOM) + content + bytes(-len(content) % ROOM) for n in range(700) for content in [b"%d" % n * n])
    assert b"".join(part.data for part in parts) == wanted


def test_a_file_of_a_directory_that_changes_is_said(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"one")
    with LocalContext(tmp_path) as context:
        files = list(context.entries("/"))
        (tmp_path / "b").write_bytes(b"other")
        with pytest.raises(ContextError, match="'b' changed while it was read"):
            list(context.laid("/", files))
        (tmp_path / "b").unlink()
        with pytest.raises(ContextError, match="'b' changed while it was read"):
            list(context.laid("/", files))
