"""Layers made here: an uncompressed tar becomes a compressed blob of the store, and is remembered by its diffID."""

from __future__ import annotations

from imgbuild.errors import CorruptError
from imgbuild.hints import Callable
from imgbuild.layer.compress import Compressed, Write, compress, parameters, recompress
from imgbuild.layer.compression import Compression
from imgbuild.layer.tar import Stream
from imgbuild.oci.digest import DiffID
from imgbuild.oci.image import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor, Layer
from imgbuild.store.rows import LayerRow
from imgbuild.store.store import Store

MEDIA_TYPES = {"none": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD}


def keep_layer(store: Store, stream: Stream, compression: Compression, expected: DiffID, name: str) -> Layer:
    """Compress the tar that `stream` holds into the store; CorruptError, and nothing kept, where it is not the layer `expected`."""

    def check(done: Compressed) -> None:
        if done.diff_id != expected:
            raise CorruptError(f"the layer {expected} of {name} is damaged: its content has the digest {done.diff_id}")

    return _keep(store, lambda write: recompress(stream, write, compression), compression, check)


def make_layer(store: Store, produce: Callable[[Write], object], compression: Compression) -> Layer:
    """Compress the tar that `produce` writes into the store."""
    return _keep(store, lambda write: compress(produce, write, compression), compression, lambda done: None)


def known_layer(store: Store, diff_id: DiffID, kind: str) -> Descriptor | None:
    """A blob of the store that holds this layer in this compression."""
    for row in store.index.layers_of(diff_id):
        if row.blob.media_type == MEDIA_TYPES[kind] and store.blobs.has(row.blob.digest, row.blob.size):
            return row.blob
    return None


def _keep(store: Store, run: Callable[[Write], Compressed], compression: Compression, check: Callable[[Compressed], None]) -> Layer:
    with store.blobs.writer(hashing=False) as writer:
        done = run(writer.write)
        check(done)
        writer.commit_as(done.digest)
    blob = Descriptor(MEDIA_TYPES[compression.kind], done.digest, done.size)
    store.index.record_layer(LayerRow(done.diff_id, blob, done.uncompressed_size, parameters(compression)))
    return Layer(blob, done.diff_id)
