"""An image as the store has it: its manifest, its config and its layers, checked against each other."""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.oci.config import ImageConfig, parse_config
from imgbuild.oci.image import (
    CONFIG_TYPES,
    INDEX_TYPES,
    LAYER_COMPRESSION,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Layer,
    Manifest,
    parse_index,
    parse_json_object,
    parse_manifest,
    select_platform,
)
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import Reference
from imgbuild.store.store import Store
from imgbuild.values import dataclass, replace

DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
_MAX_DEPTH = 4


@dataclass(frozen=True, slots=True)
class Image:
    """One image for one platform. `descriptor` is its manifest's, `tagged` what its name names: the same, or an index.

    `layers` are lowest first. That their blobs are in the store is promised only by who says so.
    """

    reference: Reference | None
    descriptor: Descriptor
    tagged: Descriptor
    manifest: Manifest
    config: ImageConfig
    layers: tuple[Layer, ...]

    def complete(self, store: Store) -> bool:
        """Whether every layer's blob is in the store, in its size."""
        return all(store.blobs.has(layer.blob.digest, layer.blob.size) for layer in self.layers)


def read_image(store: Store, descriptor: Descriptor, platform: Platform | None, reference: Reference | None = None) -> Image:
    """The image that a descriptor of the store means: itself, or the one for `platform` in an index.

    With `platform` None only one image of an index may be in the store. ImageError where it is for another platform; CorruptError
    where the manifest or the config is missing or damaged.
    """
    name = reference.familiar() if reference is not None else descriptor.digest
    found = descriptor
    for _ in range(_MAX_DEPTH):
        if found.media_type not in INDEX_TYPES:
            break
        found = _entry(store, found, platform, name)
    check_manifest_type(found.media_type, name)
    manifest = parse_manifest(store.blobs.read(found.digest), found.media_type)
    check_image(manifest, name)
    config = parse_config(store.blobs.read(manifest.config.digest))
    return Image(reference, plain(found), plain(descriptor), manifest, config, pair_layers(manifest, config, name))


def choose(index: bytes, descriptor: Descriptor, platform: Platform, name: str) -> Descriptor:
    """The entry of an index for a platform."""
    return select_platform(parse_index(index, descriptor.media_type).manifests, platform, name)


def _entry(store: Store, index: Descriptor, platform: Platform | None, name: str) -> Descriptor:
    data = store.blobs.read(index.digest)
    if platform is not None:
        return choose(data, index, platform, name)
    entries = parse_index(data, index.media_type).manifests
    images = [entry for entry in entries if (entry.platform is None or entry.platform.os != "unknown") and store.blobs.has(entry.digest)]
    if len(images) != 1:
        raise ImageError(f"{name} is here for {len(images)} platforms", hint="say which with --platform")
    return images[0]


def media_type_of(data: bytes, said: str) -> str:
    """The media type of a manifest or index: as its transport said it, if that says anything, else as the text does."""
    if said in MANIFEST_TYPES + INDEX_TYPES or "manifest.v1+" in said:
        return said
    value = parse_json_object(data, "manifest")
    if isinstance(value.get("mediaType"), str):
        return str(value["mediaType"])
    if value.get("schemaVersion") == 1:
        return DOCKER_SCHEMA1
    return OCI_INDEX if "manifests" in value else OCI_MANIFEST


def plain(descriptor: Descriptor) -> Descriptor:
    """The descriptor without what an index says of it in passing."""
    return replace(descriptor, platform=None, annotations=(), urls=(), artifact_type="")


def check_manifest_type(media_type: str, name: str) -> None:
    """ImageError where it is not a manifest that we read; says so plainly of docker's old schema 1."""
    if "manifest.v1+" in media_type and "docker" in media_type:
        raise ImageError(
            f"{name} is in docker's old format, schema 1, which is not read here",
            hint="pull it with a tool that still reads it and push it again, or build it anew",
        )
    if media_type not in MANIFEST_TYPES:
        raise ImageError(f"{name} is no image: its media type is {media_type or 'missing'!r}")


def check_image(manifest: Manifest, name: str) -> None:
    """ImageError where a manifest is that of an artifact, or describes one blob in two ways."""
    if manifest.config.media_type not in CONFIG_TYPES:
        kind = manifest.artifact_type or manifest.config.media_type
        raise ImageError(f"{name} is no image but an artifact of the type {kind!r}", hint="there is nothing in it to run or to build on")
    sizes: dict[str, int] = {}
    for blob in (manifest.config, *manifest.layers):
        if sizes.setdefault(blob.digest, blob.size) != blob.size:
            raise ImageError(f"the manifest of {name} gives the blob {blob.digest} two sizes")
        if not blob.digest.startswith("sha256:"):
            raise ImageError(f"{name} has a blob with the digest {blob.digest[:20]}...", hint="only sha256 is kept here")
    for number, layer in enumerate(manifest.layers, 1):
        if layer.media_type not in LAYER_COMPRESSION:
            raise ImageError(f"layer {number} of {name} has the media type {layer.media_type!r}, which is not known here")


def pair_layers(manifest: Manifest, config: ImageConfig, name: str) -> tuple[Layer, ...]:
    """The layers with their diffIDs; ImageError where manifest and config do not count the same."""
    if len(manifest.layers) != len(config.diff_ids):
        raise ImageError(f"the manifest of {name} has {len(manifest.layers)} layers, its config {len(config.diff_ids)} diff_ids")
    return tuple(Layer(replace(blob, platform=None), diff_id) for blob, diff_id in zip(manifest.layers, config.diff_ids, strict=True))


def check_platform(image: Image, platform: Platform, name: str) -> None:
    """ImageError where the image is for another platform than the one asked for."""
    if not platform.accepts(image.config.platform):
        raise ImageError(
            f"{name} is for {image.config.platform}, not for {platform}", hint=f"ask for it with --platform {image.config.platform}"
        )
