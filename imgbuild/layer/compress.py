"""One pass over a layer's bytes, with both digests; and reading what is compressed, whatever it is. The door of zstandard and isal.

Compression is a pipeline of threads: produce and hash (diffID) -> compress -> hash (digest) and write. All of it releases the
GIL; what is under way is bounded, so that memory stays at some frames of 2 MiB. A layer of one frame starts no thread.

The bytes are a function of the content, the parameters and the library's version (`parameters` says all of them).
zstd is a row of frames, each of 2 MiB of content and independent of the others, so that they may be made by as many threads as there
are; zstd's own threads are not used: their output was seen to vary with their number. gzip is one member by one thread, its header
without time, name or system. (ISA-L's bytes are the same on all x86-64 with SSE 4.2, and may be others elsewhere.)
"""

from __future__ import annotations

import os
import sys
import zlib
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import PathFinder

from imgbuild.errors import LayerError
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Protocol, Sequence
from imgbuild.layer.compression import Compression
from imgbuild.layer.decompress import INPUT, Frames, Members, Peeked, bzip2_member, kind_of, xz_member
from imgbuild.layer.tar import CHUNK, Stream
from imgbuild.light import threading
from imgbuild.oci.digest import DiffID, Digest, Sha256
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from imgbuild.layer.stages import Stage

FRAME = 2 << 20
"""How much content is compressed at once. The bytes depend on it."""

Write = Callable[[bytes | memoryview], object]
_WORKERS = 4
_ZSTD_WINDOW = 1 << 27
"""The largest window of a frame: what `zstd -d` accepts without being told."""
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def parameters(compression: Compression) -> str:
    """All that the compressed bytes depend on, to be recorded with the blob. Loads the library."""
    if compression.kind == "zstd":
        return f"{compression} libzstd {'.'.join(map(str, _zstandard().ZSTD_VERSION))}"
    if compression.kind == "gzip":
        import isal

        return f"{compression} isal {isal.__version__}"
    return str(compression)


@dataclass(frozen=True, slots=True)
class Compressed:
    """What went through: the identity and size of the content, the digest and size of what was written."""

    diff_id: DiffID
    digest: Digest
    size: int
    uncompressed_size: int


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes | memoryview: ...

    def flush(self) -> bytes: ...


def compress(
    produce: Callable[[Write], object], write: Write, compression: Compression, look: Callable[[bytes], object] | None = None
) -> Compressed:
    """Run `produce(write_uncompressed)` here, and `write` the compressed bytes, from another thread where there is more than one frame.
    `look` is shown all of the content, in large pieces in their order.

    What either of them raises is raised; then what was written is incomplete.
    """
    pipeline = _Pipeline(write, compression, look)
    try:
        produce(pipeline.feed)
        return pipeline.finish()
    finally:
        pipeline.close()


class _Pipeline:
    """Collects frames, hashes them, and hands them on: the only one directly, several through threads."""

    def __init__(self, write: Write, compression: Compression, look: Callable[[bytes], object] | None) -> None:
        self._look = look
        self._content = Sha256()
        self._stored = Sha256()
        self._write = write
        self._compressor, self._workers = _compressor(compression)
        self._parts: list[bytes | memoryview] = []
        self._held = 0
        self._pool: ThreadPoolExecutor | None = None
        self._storing: Stage[tuple[Future[bytes | memoryview], bytes | memoryview]] | None = None
        self._frames: list[memoryview] = []
        self.uncompressed = 0
        self.size = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Take more of the content. It is copied once, into its frame."""
        rest = memoryview(data)
        while self._held + len(rest) > FRAME:
            room = FRAME - self._held
            self._hand_on(self._joined((*self._parts, rest[:room])))
            self._parts.clear()
            self._held, rest = 0, rest[room:]
        if rest:
            self._parts.append(rest if len(rest) < len(data) else data)
            self._held += len(rest)

    def finish(self) -> Compressed:
        """What has gone through, once all of it is written."""
        last = b"".join(self._parts)
        if self._storing is None:
            self._hash(last)
            self._store(self._compressor.compress(last))
        else:
            self._hand_on(last)
            self._storing.finish()
        self._store(self._compressor.flush())
        return Compressed(
            diff_id=DiffID("sha256:" + self._content.hexdigest()),
            digest=Digest("sha256:" + self._stored.hexdigest()),
            size=self.size,
            uncompressed_size=self.uncompressed,
        )

    def close(self) -> None:
        """End the threads, whatever has become of the rest."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._storing is not None:
            self._storing.abandon()

    def _joined(self, parts: Sequence[bytes | memoryview]) -> bytes | memoryview:
        """A whole frame. Its memory is used again, where nobody else may keep it: to get as much anew for each costs more than to copy."""
        if self._look is not None:
            return b"".join(parts)
        frame = self._frames.pop() if self._frames else memoryview(bytearray(FRAME))
        at = 0
        for part in parts:
            frame[at : at + len(part)] = part
            at += len(part)
        return frame

    def _hand_on(self, frame: bytes | memoryview) -> None:
        if self._pool is None or self._storing is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._workers, "imgbuild-compress")
            from imgbuild.layer.stages import Stage

            self._storing = Stage("imgbuild-store", self._finished, self._workers + 1)
        self._hash(frame)
        self._storing.put((self._pool.submit(self._compressor.compress, frame), frame))

    def _finished(self, made: tuple[Future[bytes | memoryview], bytes | memoryview]) -> None:
        self._store(made[0].result())
        if isinstance(made[1], memoryview):
            self._frames.append(made[1])

    def _hash(self, data: bytes | memoryview) -> None:
        if self._look is not None:
            self._look(bytes(data))
        self._content.update(data)
        self.uncompressed += len(data)

    def _store(self, data: bytes | memoryview) -> None:
        if data:
            self._stored.update(data)
            self.size += len(data)
            self._write(data)


def _compressor(compression: Compression) -> tuple[_Compressor, int]:
    """The compressor, and how many threads may use it. One thread takes the frames in their order."""
    if compression.kind == "zstd":
        return _Zstd(compression.effective_level), min(_WORKERS, len(os.sched_getaffinity(0)))
    return (_Gzip(compression.effective_level) if compression.kind == "gzip" else _Plain()), 1


_EXTENSION = "zstandard.backend_c"
_LOADING = threading.Lock()


def _zstandard() -> Any:
    """The library, without the package around its extension where that can be: it looks at the platform and brings in typing, which takes
    ten times as long as to load the extension, and longer than a small layer."""
    with _LOADING:
        if _EXTENSION not in sys.modules and "zstandard" not in sys.modules:
            package = PathFinder.find_spec("zstandard")
            places = package.submodule_search_locations if package is not None else None
            spec = PathFinder.find_spec(_EXTENSION, places) if places else None
            if spec is not None and spec.loader is not None:
                module = module_from_spec(spec)
                spec.loader.exec_module(module)
                sys.modules[_EXTENSION] = module
    if _EXTENSION in sys.modules:
        return sys.modules[_EXTENSION]
    import zstandard

    return zstandard


class _Zstd:
    """Each piece of content is a frame of its own, with its size and a checksum."""

    def __init__(self, level: int) -> None:
        self._library = _zstandard()
        self._level = level

    def compress(self, data: bytes | memoryview) -> bytes:
        # One of its own for each frame: a compressor is not for several threads.
        compressed: bytes = self._library.ZstdCompressor(level=self._level, write_checksum=True).compress(data)
        return compressed

    def flush(self) -> bytes:
        return b""


class _Plain:
    def compress(self, data: bytes | memoryview) -> bytes | memoryview:
        return data

    def flush(self) -> bytes:
        return b""


class _Gzip:
    """RFC 1952 with nothing optional in the header: no time, no name, operating system unknown."""

    def __init__(self, level: int) -> None:
        from isal import isal_zlib

        self._deflate = isal_zlib.compressobj(level, isal_zlib.DEFLATED, -15)
        self._checksum = 0
        self._size = 0
        self._head = _GZIP_HEADER

    def compress(self, data: bytes | memoryview) -> bytes:
        self._checksum = zlib.crc32(data, self._checksum)
        self._size += len(data)
        head, self._head = self._head, b""
        return head + self._deflate.compress(data)

    def flush(self) -> bytes:
        trailer = self._checksum.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return self._head + self._deflate.flush() + trailer


def recompress(stream: Stream, write: Write, compression: Compression) -> Compressed:
    """`compress` what a stream holds, as it is."""

    def produce(feed: Write) -> None:
        while data := stream.read(CHUNK):
            feed(data)

    return compress(produce, write, compression)


def decompressing(stream: Stream) -> Stream:
    """A stream of the content of another, decompressed as its first bytes ask for: gzip, zstd, bzip2, xz, or as it is.

    Reading raises LayerError where the data is damaged or cut. `kind_of` tells what it would be.
    """
    source = Peeked(stream)
    kind = kind_of(source.head)
    if kind == "gzip":
        return Members(source, "gzip", _gzip_member)
    if kind == "zstd":
        return _ZstdReader(source)
    if kind == "bzip2":
        return Members(source, "bzip2", bzip2_member)
    return Members(source, "xz", xz_member) if kind == "xz" else source


def _gzip_member() -> Any:
    from isal import igzip_lib

    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


class _ZstdReader:
    """Frames one after another. The library stops without a word where the input does, so the frames' ends are followed beside it."""

    def __init__(self, source: Stream) -> None:
        zstandard = _zstandard()
        self._frames = Frames(source)
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._reader = decompressor.stream_reader(self._frames, read_size=INPUT, read_across_frames=True)
        self._error = zstandard.ZstdError

    def read(self, size: int, /) -> bytes:
        try:
            data: bytes = self._reader.read(min(size, CHUNK))
        except self._error as error:
            raise LayerError("damaged zstd data", detail=str(error)) from error
        if not data and not self._frames.complete:
            raise LayerError("the zstd data ends too early")
        return data
