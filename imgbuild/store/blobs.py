"""Content by digest, as files ``blobs/<algorithm>/<hex>`` (image-spec: image-layout.md "Blobs").

A blob appears by the rename of a complete temporary file, so that it is whole for every reader and after kill -9. It is not
yet on disk then: `make_durable` brings it there, many at once, before something that must survive a power cut refers to it.
Whether it was is told by its mode, for all processes: a blob that can be written may not be on disk, one that is read-only is.
"""

from __future__ import annotations

import os
import stat

from imgbuild.errors import CorruptError
from imgbuild.hints import TYPE_CHECKING, BinaryIO, Callable, Iterable, Iterator, Sequence, TracebackType
from imgbuild.light import threading
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import Digest, Sha256, digest_of
from imgbuild.patterns import ASCII, pattern
from imgbuild.store.failures import REPAIR, explained, missing_blob
from imgbuild.store.temporary import locked_file, sync_all

if TYPE_CHECKING:
    from imgbuild.oci.digest import Hash
    from imgbuild.store.following import Followed

_FEW = 1 << 14
"""Bytes that are sooner hashed than written."""

_LONG = 1 << 20
"""Bytes that are on their way to the disk from their commit on: who makes them durable has less to wait for."""
_CHUNK = 1 << 20
_HEX = pattern(r"[0-9a-f]{64,128}", ASCII)
READ_LIMIT = 4 << 20


class Blobs:
    """All blobs of one store. Safe to use from many threads and processes."""

    def __init__(self, root: Path, temporary: Path) -> None:
        self._root = root
        self._temporary = temporary
        self._pending: set[Digest] = set()
        self._mutex = threading.Lock()

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        algorithm, _, encoded = digest.partition(":")
        return self._root / algorithm / encoded

    def has(self, digest: Digest, size: int | None = None) -> bool:
        """Whether the blob is there, and of this size where one is given. Its bytes are not read."""
        try:
            found = os.stat(self.path(digest), follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and (size is None or found.st_size == size)

    def size(self, digest: Digest) -> int:
        """The size of the blob in bytes; CorruptError where it is missing."""
        try:
            return os.stat(self.path(digest), follow_symlinks=False).st_size
        except FileNotFoundError:
            raise missing_blob(digest) from None

    def open(self, digest: Digest) -> BinaryIO:
        """The blob's bytes as they are, unverified; CorruptError where it is missing."""
        path = self.path(digest)
        with explained(path):
            try:
                return open(path, "rb", buffering=0)
            except FileNotFoundError:
                raise missing_blob(digest) from None

    def verified(self, digest: Digest) -> VerifyingReader:
        """The blob's bytes; the read that meets the end raises CorruptError unless they had this digest."""
        return VerifyingReader(self.open(digest), digest)

    def read(self, digest: Digest, limit: int = READ_LIMIT) -> bytes:
        """The whole blob, verified; CorruptError where it differs, is missing, or is longer than `limit`."""
        with self.open(digest) as stream, explained(self.path(digest)):
            data = stream.read(limit + 1)
            while len(data) <= limit and (more := stream.read(limit + 1 - len(data))):
                data += more
        if len(data) > limit:
            raise CorruptError(f"the blob {digest} is longer than the {limit} bytes that are read at once")
        algorithm = digest.partition(":")[0]
        if (digest_of(data) if algorithm == "sha256" else f"{algorithm}:{_hasher(digest, data).hexdigest()}") != digest:
            raise _differs(digest)
        return data

    def verify(self, digest: Digest, on_bytes: Callable[[int], None] | None = None) -> None:
        """Read the whole blob and compare; CorruptError. `on_bytes` is told the size of every piece read."""
        with self.verified(digest) as stream:
            buffer = memoryview(bytearray(_CHUNK))
            while count := stream.readinto(buffer):
                if on_bytes is not None:
                    on_bytes(count)

    def put(self, data: bytes) -> Digest:
        """Keep `data`."""
        if len(data) <= _FEW and self.has(digest := digest_of(data), len(data)):
            return digest
        with self.writer() as writer:
            writer.write(data)
            return writer.commit()

    def writer(self, *, hashing: bool = True, algorithm: str = "sha256") -> BlobWriter:
        """A blob in the making. With `hashing` False the caller hashes, and ends with `commit_as`."""
        return BlobWriter(self, self._temporary, algorithm if hashing else None)

    def remove(self, digest: Digest) -> None:
        """Remove the blob if it is there. Only for who holds the store alone."""
        with explained(self.path(digest)), suppress(FileNotFoundError):
            os.unlink(self.path(digest))

    def __iter__(self) -> Iterator[Digest]:
        """Every blob's digest, sorted."""
        with explained(self._root):
            for algorithm in sorted(os.listdir(self._root)):
                directory = self._root / algorithm
                names = os.listdir(directory) if directory.is_dir() else []
                yield from (Digest(f"{algorithm}:{name}") for name in sorted(names) if _HEX.fullmatch(name))

    def strays(self) -> tuple[Path, ...]:
        """What stands among the blobs and is none."""
        with explained(self._root):
            every = [path for directory in self._root.iterdir() for path in (directory.iterdir() if directory.is_dir() else [directory])]
        return tuple(sorted(path for path in every if path.parent == self._root or not _HEX.fullmatch(path.name)))

    def flush(self) -> None:
        """Bring to disk all that this process committed and that is not there yet."""
        with self._mutex:
            pending = tuple(self._pending)
        self.make_durable(pending)

    def make_durable(
        self, digests: Iterable[Digest], *, beside: Sequence[Path] = (), meanwhile: Callable[[], object] | None = None
    ) -> None:
        """Bring these blobs to disk, unless they are known to be there, and other files with them. Missing ones are passed over. Where
        that is waited for, `meanwhile` is called.

        All are on their way before the first is waited for: one after the other, each would wait for the disk anew. Not one syncfs: the
        same file system holds the snapshots, whose gigabytes need not survive a power cut and would all be written with it.
        """
        wanted = tuple(digests)
        paths = [self.path(digest) for digest in wanted if self.is_unsynced(digest)]
        if paths or beside:
            sync_all([*paths, *beside, *dict.fromkeys(path.parent for path in paths)], meanwhile)
        for path in paths:
            with explained(path), suppress(FileNotFoundError):
                os.chmod(path, 0o444)
        with self._mutex:
            self._pending.difference_update(wanted)

    def is_unsynced(self, digest: Digest) -> bool:
        """Whether the blob is there and perhaps not on disk."""
        try:
            return bool(os.stat(self.path(digest), follow_symlinks=False).st_mode & stat.S_IWUSR)
        except OSError:
            return False

    def publish(self, temporary: Path, digest: Digest, size: int) -> None:
        """Give a complete temporary file its place; a blob of that size that is there already stays. For BlobWriter."""
        path = self.path(digest)
        if self.has(digest, size):
            os.unlink(temporary)
            return
        with self._mutex:
            self._pending.add(digest)
        try:
            os.rename(temporary, path)
        except FileNotFoundError:
            path.parent.mkdir(exist_ok=True)
            os.rename(temporary, path)


class BlobWriter:
    """A blob in the making: write, then `commit` or `commit_as`. Leaving it uncommitted discards it.

    The temporary file `path` is under a flock for as long as its writer lives; a sweep removes those that are not. Who hashes
    by himself may also write to `path` by himself.
    """

    def __init__(self, blobs: Blobs, temporary: Path, algorithm: str | None) -> None:
        self._blobs = blobs
        self._algorithm = algorithm
        self._hasher = _hasher(Digest(f"{algorithm}:")) if algorithm else None
        self._followed: Followed | None = None
        self.size = 0
        self.path, self._descriptor = locked_file(temporary, "blob")

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Discard what was not committed. Idempotent."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.unlink(self.path)
            self._release()
        if self._followed is not None:
            self._followed.discard()

    def follow(self) -> Followed:
        """What is written from now on, for others to read at the same time: they come to its end once it is committed, and are
        interrupted when it is discarded."""
        from imgbuild.store.following import Followed

        self._followed = followed = Followed(self.path, self.size)
        return followed

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append `data`, all of it."""
        rest = memoryview(data).cast("B")
        total = len(rest)
        if self._hasher is not None:
            self._hasher.update(rest)
        with explained(self.path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self.size += total
        if self._followed is not None:
            self._followed.grow(self.size)
        return total

    @property
    def digest(self) -> Digest:
        """The digest of what was written so far."""
        if self._hasher is None:
            raise ValueError("this writer does not hash")
        return Digest(f"{self._algorithm}:{self._hasher.hexdigest()}")

    def commit(self, expected: Digest | None = None, size: int | None = None) -> Digest:
        """Publish the blob; CorruptError, and nothing published, where it is not the expected one."""
        if size is not None and size != self.size:
            raise CorruptError(f"a blob has {self.size} bytes where {size} were expected", detail=expected)
        if expected is not None and expected != self.digest:
            raise CorruptError(f"a blob's digest is {self.digest} where {expected} was expected")
        return self.commit_as(self.digest)

    def commit_as(self, digest: Digest) -> Digest:
        """Publish the blob under a digest that the caller has computed over the very bytes written."""
        if self._descriptor < 0:
            raise ValueError("the blob is committed or discarded already")
        if self.size >= _LONG:
            from imgbuild.linux.writing import begin_writeback

            begin_writeback(self._descriptor)
        with explained(self.path):
            self._blobs.publish(self.path, digest, os.fstat(self._descriptor).st_size)
        self._release()
        if self._followed is not None:
            self._followed.complete(digest)
        return digest

    def _release(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


class VerifyingReader:
    """Reads a blob and hashes on the way. Not seekable."""

    def __init__(self, stream: BinaryIO, digest: Digest) -> None:
        self._stream = stream
        self._digest = digest
        self._hasher = _hasher(digest)

    def __enter__(self) -> VerifyingReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()

    def close(self) -> None:
        """Stop reading; nothing is verified then."""
        self._stream.close()

    def read(self, size: int = -1) -> bytes:
        """As of a raw stream; b"" at the end, once the digest was right."""
        with explained(Path(self._stream.name)):
            data = self._stream.read(size)
        self._hasher.update(data)
        if (not data and size != 0) or size < 0:
            self._check()
        return data

    def readinto(self, buffer: memoryview | bytearray) -> int:
        """As of a raw stream; 0 at the end, once the digest was right."""
        with explained(Path(self._stream.name)):
            count = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._hasher.update(memoryview(buffer)[:count])
        if not count and len(buffer):
            self._check()
        return int(count)

    def _check(self) -> None:
        if self._hasher.hexdigest() != self._digest.partition(":")[2]:
            raise _differs(self._digest)


def _hasher(digest: Digest, data: bytes = b"") -> Hash | Sha256:
    if digest.startswith("sha256:") and not data:
        return Sha256()
    import hashlib

    return hashlib.new(digest.partition(":")[0], data, usedforsecurity=False)


def _differs(digest: Digest) -> CorruptError:
    return CorruptError(f"the bytes of the blob {digest} have another digest", hint=REPAIR)
