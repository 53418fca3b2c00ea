"""One image of the store, read: which manifest is meant, its config, and how big its layers are."""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.oci.config import ImageConfig, parse_config
from imgbuild.oci.image import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES, Descriptor, Manifest, parse_index, parse_manifest, select_platform
from imgbuild.oci.platform import Platform
from imgbuild.store.store import Store
from imgbuild.values import dataclass

_NESTING = 4


@dataclass(frozen=True, slots=True)
class Image:
    """The image behind a descriptor: `descriptor` is its manifest's. `config` is None for an artifact, whose config is none of
    an image. `sizes` are the layers' uncompressed bytes, lowest first, or the blobs' where nobody unpacked them yet."""

    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig | None
    sizes: tuple[int, ...]

    @property
    def size(self) -> int:
        """All layers together."""
        return sum(self.sizes)


def load_image(store: Store, descriptor: Descriptor, platform: Platform, name: str = "the image", *, lenient: bool = False) -> Image:
    """Read the image that `descriptor` is, or the one of its list that is for `platform`; `lenient`: if that one is not here, the first
    that is. CorruptError where a part is missing or broken, ImageError where there is none for the platform."""
    chosen = _choose(store, descriptor, platform, name, lenient)
    manifest = parse_manifest(store.blobs.read(chosen.digest), chosen.media_type)
    is_image = manifest.config.media_type in CONFIG_TYPES
    config = parse_config(store.blobs.read(manifest.config.digest)) if is_image else None
    return Image(chosen, manifest, config, _sizes(store, manifest, config))


def _choose(store: Store, descriptor: Descriptor, platform: Platform, name: str, lenient: bool) -> Descriptor:
    for _ in range(_NESTING):
        if descriptor.media_type in MANIFEST_TYPES:
            return descriptor
        if descriptor.media_type not in INDEX_TYPES:
            break
        index = parse_index(store.blobs.read(descriptor.digest), descriptor.media_type)
        here = [entry for entry in index.manifests if store.blobs.has(entry.digest) and not _is_attestation(entry)]
        fitting = [entry for entry in here if entry.platform is None or platform.accepts(entry.platform)]
        descriptor = here[0] if lenient and here and not fitting else select_platform(index.manifests, platform, name)
    raise ImageError(f"{name} is no image but {descriptor.media_type}")


def _is_attestation(entry: Descriptor) -> bool:
    """Statements about the images stand beside them in an index, for a platform that does not exist."""
    return entry.platform is not None and entry.platform.os == "unknown"


def _sizes(store: Store, manifest: Manifest, config: ImageConfig | None) -> tuple[int, ...]:
    if config is None or len(config.diff_ids) != len(manifest.layers):
        return tuple(blob.size for blob in manifest.layers)
    return tuple(
        max((row.uncompressed_size for row in store.index.layers_of(diff_id)), default=0) or blob.size
        for blob, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
    )
