"""The same image under other media types or another compression of its layers, for who can't read the one that we keep.

A layer that is already known in the wanted compression is not compressed again; one that had to be is remembered.
"""

from __future__ import annotations

from typing import Literal

from imgbuild.errors import UsageError
from imgbuild.layer.compress import decompressing
from imgbuild.layer.compression import Compression, CompressionKind
from imgbuild.layer.tar import Stream
from imgbuild.light.functools import partial
from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_MANIFEST,
    LAYER_COMPRESSION,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
    Layer,
    Manifest,
    manifest_bytes,
)
from imgbuild.store.store import Store
from imgbuild.transfer.events import BlobFinished, BlobStarted, OnEvent
from imgbuild.transfer.images import Image
from imgbuild.transfer.layers import keep_layer, known_layer
from imgbuild.transfer.parallel import Stop, in_parallel
from imgbuild.values import dataclass, replace

Format = Literal["oci", "docker"]

_LAYER_TYPES: dict[Format, dict[str, str]] = {
    "oci": {"none": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD},
    "docker": {"none": DOCKER_LAYER, "gzip": DOCKER_LAYER_GZIP},
}


@dataclass(frozen=True, slots=True)
class Conversion:
    """What is asked of a push or a save; None leaves it as it is."""

    compression: CompressionKind | None = None
    format: Format | None = None

    def __post_init__(self) -> None:
        if self.format == "docker" and self.compression == "zstd":
            raise UsageError("docker's image format has no zstd layers", hint="use --format oci, or --compression gzip")


@dataclass(frozen=True, slots=True)
class Converted:
    """A manifest as it shall be sent: its value, its bytes, and their descriptor. The bytes are the store's own where nothing changed."""

    manifest: Manifest
    data: bytes
    descriptor: Descriptor


def convert(store: Store, image: Image, conversion: Conversion, on_event: OnEvent, stop: Stop, workers: int) -> Converted:
    """The image in the wanted form. New layer blobs are in the store when this returns; the manifest is not."""
    kind = conversion.format or ("docker" if image.manifest.media_type == DOCKER_MANIFEST else "oci")
    # What docker can't read is converted even where no compression was asked for.
    docker = kind == "docker"
    wanted = [conversion.compression or ("gzip" if docker and _compression(layer.blob) == "zstd" else None) for layer in image.layers]
    made: dict[int, Descriptor] = {}

    def make(number: int, compression: CompressionKind) -> None:
        made[number] = converted_layer(store, image.layers[number], compression, on_event, stop)

    work = [partial(make, number, compression) for number, compression in enumerate(wanted) if compression is not None]
    in_parallel(work, workers, stop)
    blobs = tuple(made.get(number, layer.blob) for number, layer in enumerate(image.layers))
    layers = tuple(typed_layer(blob, kind) for blob in blobs)
    config = replace(image.manifest.config, media_type=DOCKER_CONFIG if docker else OCI_CONFIG)
    manifest = replace(image.manifest, media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST, layers=layers, config=config)
    if (conversion.format is None and not made) or manifest == image.manifest:
        return Converted(image.manifest, store.blobs.read(image.descriptor.digest), image.descriptor)
    if docker:
        # Schema 2 has neither; its readers are strict about it.
        bare = tuple(replace(layer, annotations=()) for layer in layers)
        manifest = replace(manifest, annotations=(), artifact_type="", subject=None, layers=bare, config=replace(config, annotations=()))
    data = manifest_bytes(manifest)
    return Converted(manifest, data, Descriptor(manifest.media_type, digest_of(data), len(data)))


def _compression(blob: Descriptor) -> str:
    return LAYER_COMPRESSION.get(blob.media_type, "")


def typed_layer(blob: Descriptor, kind: Format) -> Descriptor:
    """The descriptor as a manifest of that format has it."""
    media_type = _LAYER_TYPES[kind].get(_compression(blob))
    # A layer that may not be distributed keeps saying so.
    if media_type is None or "nondistributable" in blob.media_type or "foreign" in blob.media_type:
        return blob
    return replace(blob, media_type=media_type)


def converted_layer(store: Store, layer: Layer, kind: CompressionKind, on_event: OnEvent, stop: Stop) -> Descriptor:
    """A blob of the store that holds the layer in this compression; made once, and remembered."""
    if _compression(layer.blob) == kind:
        return layer.blob
    with store.lock(f"compress {layer.diff_id} {kind}", cancelled=stop):
        known = known_layer(store, layer.diff_id, kind)
        if known is not None:
            return known
        on_event(BlobStarted(layer.blob.digest, layer.blob.size, "layer"))
        with store.blobs.verified(layer.blob.digest) as stream:
            made = keep_layer(store, decompressing(_Watched(stream, stop)), Compression(kind), layer.diff_id, layer.blob.digest)
        on_event(BlobFinished(made.blob.digest, made.blob.size, "converted"))
        return made.blob


class _Watched:
    """A stream that ends with Interrupted when it should stop."""

    def __init__(self, stream: Stream, stop: Stop) -> None:
        self._stream = stream
        self._stop = stop

    def read(self, size: int, /) -> bytes:
        self._stop.check()
        return self._stream.read(size)
