"""Headers of ready-made parts are the headers that the writer makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.layer.erofs import Attributes, FileRecord, file
from imgbuild.layer.tar import TarEntry, TarWriter
from imgbuild.layer.template import FileTemplate

NUMBERS = st.one_of(st.integers(0, 100), st.integers(0, 1 << 34))
SIZES = st.one_of(st.integers(0, 2000), st.integers(0, 2**36))
BLOCKS = st.integers(0, 2**32 - 1)
NAMES = st.binary(min_size=1, max_size=110).filter(lambda name: b"\0" not in name)


def written(entry: TarEntry) -> bytes:
    found = bytearray()
    TarWriter(found.extend).add(entry)
    return bytes(found)


@given(NAMES, st.integers(0, 0o7777), NUMBERS, NUMBERS, NUMBERS, st.integers(-5, 1 << 34))
def test_a_template_says_what_the_writer_says_or_nothing(name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int) -> None:
    like = TarEntry(b"", "file", mode, uid, gid, 0, mtime)
    header = FileTemplate(like).header(name, size)
    whole = written(TarEntry(name, "file", mode, uid, gid, size, mtime))
    if header is None:
        assert len(name) > 100 or len(whole) > 512
    else:
        assert header == whole


@given(st.integers(0, 0o7777), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**33), SIZES, BLOCKS)
def test_a_record_for_many_files_is_that_of_one(mode: int, uid: int, gid: int, mtime: int, size: int, block: int) -> None:
    attributes = Attributes(mode, uid, gid, mtime, 5)
    assert FileRecord(attributes).of(size, block) == file(attributes, size, 1, block)
