"""Indexes that are in the store with all that they list: read, converted and written as a whole."""

from __future__ import annotations

from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import (
    CONFIG_TYPES,
    DOCKER_INDEX,
    INDEX_TYPES,
    LAYER_COMPRESSION,
    MANIFEST_TYPES,
    OCI_INDEX,
    Descriptor,
    Index,
    index_bytes,
    parse_index,
    parse_manifest,
)
from imgbuild.store.store import Store
from imgbuild.transfer.convert import Conversion, Converted, convert
from imgbuild.transfer.events import OnEvent
from imgbuild.transfer.images import read_image
from imgbuild.transfer.parallel import Stop
from imgbuild.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class ConvertedIndex:
    """An index as it shall be sent: its bytes, their descriptor, and all that it lists."""

    data: bytes
    descriptor: Descriptor
    children: tuple[Converted, ...]


def whole_index(store: Store, descriptor: Descriptor) -> Index | None:
    """The index that `descriptor` is, if everything that it lists is in the store: manifests, configs and layers."""
    if descriptor.media_type not in INDEX_TYPES:
        return None
    index = parse_index(store.blobs.read(descriptor.digest), descriptor.media_type)
    return index if index.manifests and all(_is_whole(store, entry) for entry in index.manifests) else None


def _is_whole(store: Store, entry: Descriptor) -> bool:
    if entry.media_type not in MANIFEST_TYPES or not store.blobs.has(entry.digest, entry.size):
        return False
    manifest = parse_manifest(store.blobs.read(entry.digest), entry.media_type)
    return all(store.blobs.has(blob.digest, blob.size) for blob in (manifest.config, *manifest.layers))


def convert_index(
    store: Store, index: Index, descriptor: Descriptor, conversion: Conversion, on_event: OnEvent, stop: Stop, workers: int
) -> ConvertedIndex:
    """A whole index in the wanted form: each of its images converted; what is no image stays as it is."""
    children = tuple(_convert(store, entry, conversion, on_event, stop, workers) for entry in index.manifests)
    entries = tuple(
        replace(entry, media_type=child.descriptor.media_type, digest=child.descriptor.digest, size=child.descriptor.size)
        for entry, child in zip(index.manifests, children, strict=True)
    )
    kind = {"docker": DOCKER_INDEX, "oci": OCI_INDEX}.get(conversion.format or "", index.media_type)
    if entries == index.manifests and kind == index.media_type:
        return ConvertedIndex(store.blobs.read(descriptor.digest), descriptor, children)
    made = replace(index, manifests=entries, media_type=kind)
    if kind == DOCKER_INDEX:  # which has no annotations
        made = replace(made, annotations=(), manifests=tuple(replace(entry, annotations=()) for entry in entries))
    data = index_bytes(made)
    return ConvertedIndex(data, Descriptor(kind, digest_of(data), len(data)), children)


def _convert(store: Store, entry: Descriptor, conversion: Conversion, on_event: OnEvent, stop: Stop, workers: int) -> Converted:
    data = store.blobs.read(entry.digest)
    manifest = parse_manifest(data, entry.media_type)
    is_image = manifest.config.media_type in CONFIG_TYPES and all(layer.media_type in LAYER_COMPRESSION for layer in manifest.layers)
    if is_image and conversion != Conversion():
        return convert(store, read_image(store, entry, None), conversion, on_event, stop, workers)
    return Converted(manifest, data, replace(entry, platform=None, annotations=()))
