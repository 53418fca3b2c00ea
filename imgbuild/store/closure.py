"""What an image consists of: the walk from a descriptor over manifests to configs and layers."""

from __future__ import annotations

from imgbuild.hints import Iterator
from imgbuild.oci.image import INDEX_TYPES, MANIFEST_TYPES, Descriptor, Manifest, parse_index, parse_manifest
from imgbuild.store.blobs import Blobs


def closure(blobs: Blobs, descriptor: Descriptor) -> Iterator[Descriptor]:
    """`descriptor` and all that it needs, each parent before its children; manifests are verified as they are read.

    Of an index, only those children that are here: a pull for one platform leaves the others in the registry. What is needed
    and missing is yielded nevertheless (and raises CorruptError if it is itself to be read).
    """
    yield descriptor
    if descriptor.media_type in INDEX_TYPES:
        for child in parse_index(blobs.read(descriptor.digest), descriptor.media_type).manifests:
            if blobs.has(child.digest):
                yield from closure(blobs, child)
    elif descriptor.media_type in MANIFEST_TYPES:
        manifest = parse_manifest(blobs.read(descriptor.digest), descriptor.media_type)
        yield manifest.config
        yield from manifest.layers


def manifests(blobs: Blobs, descriptor: Descriptor) -> Iterator[tuple[Descriptor, Manifest]]:
    """The image manifests that `descriptor` is or, being an index, lists, as far as they are here."""
    if descriptor.media_type in INDEX_TYPES:
        for child in parse_index(blobs.read(descriptor.digest), descriptor.media_type).manifests:
            if blobs.has(child.digest):
                yield from manifests(blobs, child)
    elif descriptor.media_type in MANIFEST_TYPES:
        yield descriptor, parse_manifest(blobs.read(descriptor.digest), descriptor.media_type)
