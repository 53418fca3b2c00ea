"""Layers out of blobs into lowers of the store, verified on the way, side by side as if nothing were below them.

Where it can be mounted, a lower is the tar as it comes out of the blob, with an index; what can't be indexed is unpacked. Those that
turn out to ask what is below are unpacked again, in their order (see materialize).
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

from imgbuild.errors import CorruptError, ImgbuildError, LayerError
from imgbuild.hints import Callable, Iterator, Mapping, Protocol, Sequence
from imgbuild.layer import ParentView
from imgbuild.layer.compress import decompressing
from imgbuild.layer.index import NotIndexable, TarIndex
from imgbuild.layer.runs import index_stream
from imgbuild.layer.stages import Ahead
from imgbuild.layer.tar import CHUNK, Stream
from imgbuild.layer.unpack import unpack
from imgbuild.light.contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from imgbuild.light.functools import partial
from imgbuild.light.pathlib import Path
from imgbuild.linux.features import Features
from imgbuild.linux.node import Node
from imgbuild.oci.digest import ChainID, DiffID
from imgbuild.oci.image import Layer
from imgbuild.rootfs.indexed import TarFile, commit_indexed, give_place, usable
from imgbuild.rootfs.lowers import chain_identity, find_lower, find_on_chain
from imgbuild.snapshot import DirectoryLower, IndexedTarLower, Lower, Lowers
from imgbuild.snapshot.union import UnionView
from imgbuild.store.locks import Interrupted
from imgbuild.store.rows import LayerRow, SnapshotRow
from imgbuild.store.store import Store
from imgbuild.store.trees import INDEX, TAR, survey_snapshot

_THREADS = 4
_THREAD = "imgbuild-decompress"

Cancelled = Callable[[], bool]
OpenBlob = Callable[[], AbstractContextManager[Stream]]


class Arriving(Protocol):
    """A blob on its way into the store: every stream of it begins at its beginning, and ends when all of it is there and verified."""

    def stream(self) -> Stream: ...


class _NeedsLowers(Exception):
    """A layer asks what is below it."""


class _Unknown:
    """The view of what is below a layer while that is not to be known."""

    def lstat(self, path: str) -> Node | None:
        if path == "/":
            return None
        raise _NeedsLowers

    def listdir(self, path: str) -> Sequence[str]:
        raise _NeedsLowers

    def readlink(self, path: str) -> str:
        raise _NeedsLowers

    def xattrs(self, path: str) -> Mapping[str, bytes]:
        raise _NeedsLowers

    def open(self, path: str) -> int:
        raise _NeedsLowers


class Unpacker:
    """Makes lowers of layers, each once however many callers want it."""

    def __init__(self, store: Store, features: Features | None, cancelled: Cancelled | None) -> None:
        self._store = store
        self._features = features
        self._rootless = features is not None and features.rootless
        self._cancelled = cancelled

    def independent(self, layers: Sequence[Layer]) -> dict[DiffID, Lower | None]:
        """Each layer's lower where it needs nothing below; None where it does."""
        if len(layers) <= 1:
            return {layer.diff_id: self._alone(layer) for layer in layers}
        with ThreadPoolExecutor(min(_THREADS, len(layers)), "imgbuild-unpack") as pool:
            futures = [(layer.diff_id, pool.submit(self._alone, layer)) for layer in layers]
            try:
                return {diff_id: future.result() for diff_id, future in futures}
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def arriving(self, layer: Layer, blob: Arriving) -> None:
        """Make a layer's lower, if that can be, of a blob on its way into the store: whatever fails here is met again, and said, where
        the lower is needed, or by who fetches the blob."""
        with suppress(ImgbuildError, OSError):
            self._alone(layer, lambda: nullcontext(blob.stream()))

    def _alone(self, layer: Layer, blob: OpenBlob | None = None) -> Lower | None:
        opened = blob or partial(self._store.blobs.verified, layer.blob.digest)
        identity = layer.diff_id.partition(":")[2]
        with self._store.lock(f"layer {layer.diff_id}", cancelled=self._cancelled):
            lower = find_lower(self._store, layer.diff_id, self._features)
            if lower is not None:
                return lower
            if self._features is not None and usable(self._store, self._features):
                with suppress(NotIndexable):
                    return self._index(layer, identity, opened)
            try:
                return self._unpack(layer, identity, layer.diff_id, _Unknown(), opened)
            except _NeedsLowers:
                return None

    def on_chain(self, layer: Layer, chain: ChainID, below: Lowers) -> Lower:
        """A layer's directory for these lowers only."""
        identity = chain_identity(chain)
        with self._store.lock(f"snapshot {identity}", cancelled=self._cancelled):
            lower = find_on_chain(self._store, chain, self._features)
            if lower is not None:
                return lower
            with UnionView(below, userxattr=self._rootless) as view:
                return self._unpack(layer, identity, None, view, partial(self._store.blobs.verified, layer.blob.digest))

    def _index(self, layer: Layer, identity: str, opened: OpenBlob) -> IndexedTarLower:
        """Write the tar into a temporary directory while its entries are read."""
        index = TarIndex()
        with self._store.temporary("index") as scratch:
            directory = scratch / "snapshot"
            directory.mkdir()
            # To index a tar takes about as long as to decompress it, with the hash.
            with TarFile(directory / TAR) as tar, self._layer(layer, opened, busy=False) as stream:
                index_stream(_Copying(stream, tar), index)
                while data := stream.read(CHUNK):
                    tar.write(data)
            return commit_indexed(self._store, directory, index.image(tar.size), identity, layer.diff_id)

    @contextmanager
    def _layer(self, layer: Layer, opened: OpenBlob, *, busy: bool) -> Iterator[Stream]:
        try:
            with _content(self._store, layer, self._cancelled, opened, busy) as stream:
                yield stream
        except LayerError:
            # A damaged blob looks like a malformed layer: say which of the two it is.
            self._store.blobs.verify(layer.blob.digest)
            raise

    def _unpack(self, layer: Layer, identity: str, diff_id: DiffID | None, view: ParentView, opened: OpenBlob) -> DirectoryLower:
        """Unpack into a temporary directory, give it its name, then record it."""
        with self._store.temporary("unpack") as scratch:
            directory = scratch / "snapshot" / "fs"
            directory.mkdir(parents=True)
            with self._layer(layer, opened, busy=True) as stream:
                unpack(stream, directory, lowers_view=view, rootless=self._rootless)
                while stream.read(CHUNK):
                    pass
            self._give_place(directory, identity)
        seen = survey_snapshot(self._store.snapshot_directory(identity))
        self._store.index.record_snapshot(SnapshotRow(identity, diff_id, seen.size, seen.inodes, seen.tree))
        return DirectoryLower(self._store.snapshot_path(identity))

    def _give_place(self, directory: Path, identity: str) -> None:
        """Beside the other form, which may be in use, where the snapshot is there in a form that can't be mounted here."""
        path = self._store.snapshot_path(identity)
        if self._store.index.snapshot(identity) is not None and (path.parent / INDEX).is_file():
            os.rename(directory, path)
        else:
            give_place(self._store, directory.parent, identity)


@contextmanager
def _content(store: Store, layer: Layer, cancelled: Cancelled | None, opened: OpenBlob, busy: bool) -> Iterator[Stream]:
    """The layer's tar, decompressed ahead by another thread; both digests are verified by the time the stream ends. The other thread
    hashes, too, where who reads is `busy` with what it reads."""
    with opened() as blob:
        content = _Decompressed(blob)
        if busy:
            with Ahead(_Verified(store, layer, blob, content, cancelled), _THREAD) as stream:
                yield stream
        else:
            with Ahead(content, _THREAD) as ahead:
                yield _Verified(store, layer, blob, ahead, cancelled)


class _Copying:
    """Writes to a tar what is read from a stream."""

    def __init__(self, stream: Stream, tar: TarFile) -> None:
        self._stream = stream
        self._tar = tar

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._tar.write(data)
        return data


class _Decompressed:
    """A blob's content; what it is compressed with is asked at the first read."""

    def __init__(self, blob: Stream) -> None:
        self._blob = blob
        self._stream: Stream | None = None

    def read(self, size: int, /) -> bytes:
        if self._stream is None:
            self._stream = decompressing(self._blob)
        return self._stream.read(size)


class _Verified:
    """Hashes; at the end CorruptError where the content is not the layer's."""

    def __init__(self, store: Store, layer: Layer, blob: Stream, content: Stream, cancelled: Cancelled | None) -> None:
        self._store = store
        self._layer = layer
        self._blob = blob
        self._content = content
        self._cancelled = cancelled
        self._complete = False
        self._hasher = hashlib.new(layer.diff_id.partition(":")[0], usedforsecurity=False)
        self._size = 0

    def read(self, size: int, /) -> bytes:
        if self._cancelled is not None and self._cancelled():
            raise Interrupted("cancelled while unpacking a layer")
        data = self._content.read(size)
        self._hasher.update(data)
        self._size += len(data)
        if not data and not self._complete:
            self._check()
            self._complete = True
        return data

    def _check(self) -> None:
        while self._blob.read(CHUNK):  # what a decompressor does not want is still part of the blob
            pass
        digest = f"{self._hasher.name}:{self._hasher.hexdigest()}"
        if digest != self._layer.diff_id:
            raise CorruptError(
                f"the content of the layer {self._layer.blob.digest} is not what its image says",
                detail=f"diffID {digest}, in the image config {self._layer.diff_id}",
            )
        if self._store.index.diff_id_of(self._layer.blob.digest) is None:
            self._store.index.record_layer(LayerRow(self._layer.diff_id, self._layer.blob, self._size))
