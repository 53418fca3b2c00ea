"""One pass, two digests, the same bytes each time; and reading back what others compressed, or damaged."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import random
import resource
import shutil
import subprocess
import sys
import threading

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.errors import LayerError
from imgbuild.layer.compress import Compressed, Write, compress, decompressing, parameters, recompress
from imgbuild.layer.compression import Compression
from imgbuild.layer.decompress import kind_of
from imgbuild.layer.stages import Ahead
from tests.layer.trees import in_child

ALL = [Compression("zstd"), Compression("zstd", 1), Compression("gzip"), Compression("gzip", 0), Compression("none")]
CONTENT = random.Random(1).randbytes(300_000) + b"layers " * 500_000


def squeeze(content: bytes, compression: Compression, step: int = 1 << 20) -> tuple[bytes, Compressed]:
    out = io.BytesIO()

    def produce(write: Write) -> None:
        for at in range(0, len(content), step):
            write(content[at : at + step])

    made = compress(produce, out.write, compression)
    return out.getvalue(), made


def expand(data: bytes, step: int = 1 << 20) -> bytes:
    stream = decompressing(io.BytesIO(data))
    return b"".join(iter(lambda: stream.read(step), b""))


@pytest.mark.parametrize("compression", ALL, ids=str)
@pytest.mark.parametrize("size", [0, 1, 2 << 20, (2 << 20) + 1, len(CONTENT)])
def test_there_and_back(compression: Compression, size: int) -> None:
    content = CONTENT[:size]
    data, made = squeeze(content, compression)
    assert made.diff_id == "sha256:" + hashlib.sha256(content).hexdigest()
    assert made.digest == "sha256:" + hashlib.sha256(data).hexdigest()
    assert (made.size, made.uncompressed_size) == (len(data), size)
    assert expand(data) == content
    assert expand(data, 1000) == content


@pytest.mark.parametrize("compression", ALL, ids=str)
def test_how_it_is_written_is_not_seen(compression: Compression) -> None:
    assert squeeze(CONTENT, compression, 7001) == squeeze(CONTENT, compression, len(CONTENT)) == squeeze(CONTENT, compression)


def test_how_many_processors_there_are_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for processors in (1, 2, 64):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, count=processors: set(range(count)))
        found.add(squeeze(CONTENT * 5, Compression()))
    assert len(found) == 1


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(ALL), st.binary(max_size=2000), st.integers(1, 500))
def test_any_content(compression: Compression, content: bytes, step: int) -> None:
    assert expand(squeeze(content, compression, step)[0], step) == content


@pytest.mark.parametrize("compression", [Compression("zstd"), Compression("gzip")], ids=str)
def test_the_tools_of_the_field_read_it(compression: Compression) -> None:
    tool = shutil.which(compression.kind)
    if tool is None:
        pytest.skip(f"no {compression.kind} here")
    data, _ = squeeze(CONTENT, compression)
    assert subprocess.run([tool, "-dc"], input=data, capture_output=True, check=True).stdout == CONTENT


def test_the_gzip_header_says_nothing_of_this_machine() -> None:
    assert squeeze(b"x", Compression("gzip"))[0][:10] == bytes.fromhex("1f8b08000000000000ff")


@pytest.mark.parametrize("squash", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_members_in_a_row_are_one_stream(squash: object) -> None:
    data = squash(CONTENT[:1_500_000])  # type: ignore[operator]
    assert expand(data + data) == CONTENT[:1_500_000] * 2


def test_padding_after_gzip() -> None:
    assert expand(gzip.compress(b"x") + bytes(1024)) == b"x"


def test_skippable_frames() -> None:
    skippable = b"\x5a\x2a\x4d\x18" + (70_000).to_bytes(4, "little") + bytes(70_000)
    frame = zstandard.compress(b"abc" * 1000)
    assert expand(skippable + frame + skippable + frame + skippable) == b"abc" * 2000
    assert expand(skippable) == b""


@pytest.mark.parametrize("level", [1, 19])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 65791, 65792, 300_000])
def test_frames_of_all_forms(level: int, size: int) -> None:
    content = CONTENT[-size:] if size else b""
    for checksum in (True, False):
        for with_size in (True, False):
            squash = zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=with_size)
            data = squash.compress(content)
            assert expand(data) == content
            for cut in {5, len(data) // 2, len(data) - 1} - {len(data)}:
                with pytest.raises(LayerError):
                    expand(data[:cut])


@pytest.mark.parametrize("compression", ALL[:-1], ids=str)
def test_cut_data(compression: Compression) -> None:
    data, _ = squeeze(CONTENT, compression)
    for cut in (7, 11, 100, len(data) // 2, len(data) - 9, len(data) - 1):
        with pytest.raises(LayerError):
            expand(data[:cut])


@pytest.mark.parametrize("compression", ALL[:-1], ids=str)
def test_damaged_data(compression: Compression) -> None:
    data, _ = squeeze(CONTENT, compression)
    for at in (12, 5000, len(data) // 2, len(data) - 3):
        broken = bytearray(data)
        broken[at] ^= 0x55
        with pytest.raises(LayerError):
            assert expand(bytes(broken)) == CONTENT, "damage went by"
            raise LayerError("unharmed")
    with pytest.raises(LayerError):
        expand(data + b"garbage at the end")


@pytest.mark.parametrize("squash", [bz2.compress, lzma.compress])
def test_cut_data_of_archives(squash: object) -> None:
    data = squash(CONTENT[:400_000])  # type: ignore[operator]
    for cut in (20, len(data) // 2, len(data) - 1):
        with pytest.raises(LayerError):
            expand(data[:cut])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"BZh", b"\xfd7zXZ\0", b""]), st.binary(max_size=300))
def test_noise_is_never_more_than_a_layer_error(magic: bytes, noise: bytes) -> None:
    with contextlib.suppress(LayerError):
        expand(magic + noise)


def test_kinds() -> None:
    squashed = [squash(b"") for squash in (gzip.compress, bz2.compress, lzma.compress, zstandard.compress)]
    assert [kind_of(data[:6]) for data in (*squashed, b"etc/")] == ["gzip", "bzip2", "xz", "zstd", "none"]


def test_an_error_of_the_producer_comes_through() -> None:
    def produce(write: Write) -> None:
        write(bytes(5 << 20))
        raise LayerError("no more")

    before = threading.active_count()
    with pytest.raises(LayerError, match="no more"):
        compress(produce, lambda data: None, Compression())
    assert threading.active_count() == before


def test_an_error_of_the_writer_comes_through() -> None:
    def write(data: bytes) -> None:
        raise OSError(28, "full")

    def produce(feed: Write) -> None:
        for _ in range(50):
            feed(random.randbytes(1 << 20))

    before = threading.active_count()
    with pytest.raises(OSError, match="full"):
        compress(produce, write, Compression())
    assert threading.active_count() == before


def test_recompress() -> None:
    out = io.BytesIO()
    made = recompress(decompressing(io.BytesIO(gzip.compress(CONTENT))), out.write, Compression("zstd"))
    assert (out.getvalue(), made) == squeeze(CONTENT, Compression("zstd"))


@pytest.mark.parametrize(("kind", "level"), [("zstd", 0), ("zstd", 23), ("gzip", 9), ("none", 1), ("lz4", None)])
def test_parameters_that_are_none(kind: str, level: int | None) -> None:
    with pytest.raises(LayerError):
        Compression(kind, level)  # type: ignore[arg-type]


def test_parameters_say_what_the_bytes_depend_on() -> None:
    assert parameters(Compression("zstd")).startswith("zstd:2 libzstd 1.")
    assert parameters(Compression("gzip")).startswith("gzip:2 isal ")
    assert str(Compression("none")) == parameters(Compression("none")) == "none"


def test_reading_ahead() -> None:
    with Ahead(io.BytesIO(CONTENT)) as stream:
        assert b"".join(iter(lambda: stream.read(99_999), b"")) == CONTENT
        assert stream.read(1) == b""
    with Ahead(decompressing(io.BytesIO(gzip.compress(CONTENT)[:-10]))) as stream:
        with pytest.raises(LayerError):
            while stream.read(1 << 20):
                pass
    with Ahead(io.BytesIO(CONTENT * 10)) as stream:
        assert stream.read(10) == CONTENT[:10]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("imgbuild")]


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("compression", [Compression("zstd"), Compression("gzip"), Compression("none")], ids=str)
def test_memory_does_not_grow_with_the_content(compression: Compression) -> None:
    block = random.Random(2).randbytes(1 << 20)

    def work() -> None:
        squeeze(b"load the libraries", compression)
        before = _peak()

        def produce(write: Write) -> None:
            for _ in range(300):
                write(block)

        compress(produce, lambda data: None, compression)
        assert _peak() - before < 40 << 20

    in_child(work)


@pytest.mark.parametrize("squash", [zstandard.compress, gzip.compress], ids=["zstd", "gzip"])
def test_a_bomb_is_a_stream(squash: object) -> None:
    bomb = squash(bytes(400 << 20))  # type: ignore[operator]

    def work() -> None:
        before = _peak()
        stream = decompressing(io.BytesIO(bomb))
        assert sum(map(len, iter(lambda: stream.read(1 << 20), b""))) == 400 << 20
        assert _peak() - before < 64 << 20

    in_child(work)


def test_the_library_comes_without_what_its_package_brings_in() -> None:
    program = """
import sys
from imgbuild.layer.compress import compress, parameters
from imgbuild.layer.compression import Compression
made = []
compress(lambda write: write(b"abc"), made.append, Compression("zstd"))
assert not {"platform", "typing", "zstandard"} & set(sys.modules), sorted(sys.modules)
import zstandard
assert zstandard.ZstdDecompressor().decompress(b"".join(made)) == b"abc"
assert parameters(Compression("zstd")).endswith(".".join(map(str, zstandard.ZSTD_VERSION)))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
