"""Many plain files are indexed at once: with the same result as one by one, whatever is odd among them and however the stream is cut."""

from __future__ import annotations

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imgbuild.errors import ImgbuildError
from imgbuild.layer.index import NotIndexable, TarIndex
from imgbuild.layer.runs import index_stream
from imgbuild.layer.tar import BLOCK, TarEntry
from tests.layer.test_unpack import member, tar_of

ONE_BY_ONE = 100
"""Bytes that are never a whole header: nothing can be taken but through a value of its own."""

names = st.sampled_from(("a", "b", "c", "long" * 20, "n\udcff", "..", ".", "", "x.wh.y", ".wh.a", ".wh..wh..opq", "..a", "d0"))
parents = st.sampled_from(("", "d0/", "d1/", "d0/d2/", "./d0/", "d0//", "/d0/", "link/", "none/", "d0/../d1/", "d0/a/"))
contents = st.sampled_from((b"", b"x", b"y" * 511, b"z" * 512, b"w" * 513, bytes(3000)))
times = st.sampled_from((5, 6, 0, 1_700_000_000, (1 << 33) - 1, 1 << 33, -1))
alike = st.fixed_dictionaries({"mode": st.sampled_from((0o644, 0o755)), "uid": st.sampled_from((0, 1000)), "mtime": st.just(5) | times})
DIRECTORIES = [member(name, "dir") for name in ("d0", "d1", "d0/d2")] + [member("link", "symlink", link="d1")]


@st.composite
def files(draw: st.DrawFn) -> tuple[TarEntry, bytes]:
    name = draw(parents) + draw(names)
    if draw(st.integers(0, 9)) == 0:
        return member(name, "hardlink", link=draw(parents) + draw(names))
    return member(name, content=draw(contents), **draw(alike))


class Cut:
    """A tar in pieces of at most so many bytes."""

    def __init__(self, tar: bytes, most: int) -> None:
        self._tar = io.BytesIO(tar)
        self._most = most

    def read(self, size: int, /) -> bytes:
        return self._tar.read(min(size, self._most))


def seen(tar: bytes, most: int) -> tuple[object, ...]:
    """What is indexed, or what is said against it."""
    index = TarIndex()
    try:
        index_stream(Cut(tar, most), index)
        return index.image(len(tar) // BLOCK * BLOCK), index.size, index.entries
    except NotIndexable as error:
        return "unpack", str(error)
    except ImgbuildError as error:
        return type(error), error.message


@settings(deadline=None, max_examples=500)
@given(st.lists(files(), max_size=30), st.integers(BLOCK, 20_000))
def test_files_at_once_are_as_files_one_by_one(found: list[tuple[TarEntry, bytes]], most: int) -> None:
    tar = tar_of(*DIRECTORIES, *found)
    wanted = seen(tar, ONE_BY_ONE)
    assert seen(tar, len(tar)) == wanted
    assert seen(tar, most) == wanted


plain_names = st.sampled_from(("a", "b", "c", "e", "f"))
plain = st.lists(st.tuples(st.sampled_from(("d0/", "d1/", "d0/d2/")), plain_names, contents), min_size=3, max_size=20)
damages = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2 * BLOCK - 1), st.integers(0, 255)), min_size=1, max_size=3)


@settings(deadline=None, max_examples=500)
@given(plain, damages)
@example([("d0/", "a", b"x"), ("d0/", "b", b"x"), ("d0/", "c", b"x")], [(12, BLOCK - 1, 1)])
def test_damage_among_them_is_met_as_when_read_one_by_one(found: list[tuple[str, str, bytes]], damage: list[tuple[int, int, int]]) -> None:
    """Damage anywhere, and damage whose header has the right sum."""
    tar = bytearray(tar_of(*DIRECTORIES, *(member(parent + name, content=content) for parent, name, content in found)))
    for block, at, value in damage:
        if block * BLOCK + at < len(tar):
            tar[block * BLOCK + at] = value
    assert seen(bytes(tar), len(tar)) == seen(bytes(tar), ONE_BY_ONE)
    for block, at, _ in damage:
        start = (block + at // BLOCK) * BLOCK
        if tar[start + 257 : start + 262] == b"ustar":
            tar[start + 148 : start + 156] = b" " * 8
            tar[start + 148 : start + 156] = b"%06o\0 " % sum(tar[start : start + BLOCK])
    assert seen(bytes(tar), len(tar)) == seen(bytes(tar), ONE_BY_ONE)


SIZES = (b"0000000000 1", b"000000000012", b"00000000008 ", b"+0000000001\0", b"1_000000000\0", b"\x80" + bytes(10) + b"\1")


@pytest.mark.parametrize("size", SIZES)
def test_sizes_that_are_said_in_other_ways(size: bytes) -> None:
    tar = bytearray(tar_of(*DIRECTORIES, *(member(f"d0/f{number}", content=b"x" * 20) for number in range(3))))
    start = len(DIRECTORIES) * BLOCK + 2 * BLOCK
    tar[start + 124 : start + 136] = size
    tar[start + 148 : start + 156] = b" " * 8
    tar[start + 148 : start + 156] = b"%06o\0 " % sum(tar[start : start + BLOCK])
    assert seen(bytes(tar), len(tar)) == seen(bytes(tar), ONE_BY_ONE)


@pytest.mark.parametrize("time", [b"0000000000 1", b"000000000012", b"00000000008 ", b"+0000000001\0", bytes(12), b"\xff" * 11 + b"\xfe"])
def test_times_that_are_said_in_other_ways(time: bytes) -> None:
    tar = bytearray(tar_of(*DIRECTORIES, *(member(f"d0/f{number}", content=b"x" * 20) for number in range(3))))
    start = len(DIRECTORIES) * BLOCK + 2 * BLOCK
    tar[start + 136 : start + 148] = time
    tar[start + 148 : start + 156] = b" " * 8
    tar[start + 148 : start + 156] = b"%06o\0 " % sum(tar[start : start + BLOCK])
    assert seen(bytes(tar), len(tar)) == seen(bytes(tar), ONE_BY_ONE)


@pytest.mark.parametrize("form", [b"%06o12", b"%06o\0\0", b"%06o  ", b" %06o\0", b"%07o\0", b"%8o"])
def test_sums_that_are_said_in_other_ways(form: bytes) -> None:
    tar = bytearray(tar_of(*DIRECTORIES, *(member(f"d0/f{number}") for number in range(3))))
    field = slice((len(DIRECTORIES) + 1) * BLOCK + 148, (len(DIRECTORIES) + 1) * BLOCK + 156)
    tar[field] = form % int(tar[field].rstrip(b"\0 "), 8)
    assert seen(bytes(tar), len(tar)) == seen(bytes(tar), ONE_BY_ONE)


def test_most_files_of_a_tar_need_no_value_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tar_of(*DIRECTORIES, *(member(f"d{number // 50 % 2}/f{number}", content=b"x" * number, mtime=number) for number in range(300)))
    added: list[TarEntry] = []
    add = TarIndex.add
    monkeypatch.setattr(TarIndex, "add", lambda index, entry, offset: added.append(entry) or add(index, entry, offset))
    index = TarIndex()
    index_stream(io.BytesIO(tar), index)
    assert (index.entries, index.size) == (304, sum(range(300)))
    assert len(added) == len(DIRECTORIES) + 1
