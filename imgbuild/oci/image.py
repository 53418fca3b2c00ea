"""Manifests, indexes and descriptors: the values of the OCI image-spec 1.1, read from foreign JSON and written canonically.

Docker's schema 2 has the same shape under other media types; both are read, and what was read is written back as it was
(a manifest's digest is over its bytes, so the bytes are kept by whoever holds them).
"""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.hints import Any, Iterable, Mapping
from imgbuild.light import json
from imgbuild.oci.digest import DiffID, Digest, parse_digest
from imgbuild.oci.platform import Platform, normalize
from imgbuild.values import dataclass

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = OCI_LAYER + "+gzip"
OCI_LAYER_ZSTD = OCI_LAYER + "+zstd"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
_OCI_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"

INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)

LAYER_COMPRESSION: Mapping[str, str] = {
    OCI_LAYER: "none",
    OCI_LAYER_GZIP: "gzip",
    OCI_LAYER_ZSTD: "zstd",
    DOCKER_LAYER: "none",
    DOCKER_LAYER_GZIP: "gzip",
    DOCKER_LAYER_ZSTD: "zstd",
    DOCKER_FOREIGN_LAYER: "gzip",
    _OCI_NONDISTRIBUTABLE: "none",
    _OCI_NONDISTRIBUTABLE + "+gzip": "gzip",
    _OCI_NONDISTRIBUTABLE + "+zstd": "zstd",
}
"""Layer media type -> "none", "gzip" or "zstd". Readers believe the blob's magic over it: both kinds of lie exist."""

MAX_MANIFEST_BYTES = 4 << 20
"""What registries must accept at least (distribution-spec "Pushing Manifests"), and the most that we read."""

REF_NAME = "org.opencontainers.image.ref.name"

Annotations = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is, its digest and its size in bytes (image-spec: descriptor.md)."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Annotations = ()
    artifact_type: str = ""
    urls: tuple[str, ...] = ()

    def annotation(self, key: str) -> str | None:
        return dict(self.annotations).get(key)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image: its blob, and the identity of its uncompressed tar."""

    blob: Descriptor
    diff_id: DiffID


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image for one platform: config and layers, lowest first (image-spec: manifest.md)."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = OCI_MANIFEST
    annotations: Annotations = ()
    artifact_type: str = ""
    subject: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """A list of manifests, usually one a platform (image-spec: image-index.md)."""

    manifests: tuple[Descriptor, ...]
    media_type: str = OCI_INDEX
    annotations: Annotations = ()


def canonical_json(value: object) -> bytes:
    """The one JSON text of `value`: sorted keys, no spaces, UTF-8 as it is. Digests are taken over it."""
    return _one_text(value).encode("utf-8", "surrogateescape")


def document_json(value: object) -> bytes:
    """The same, for documents that others read: with U+FFFD, as docker has it, where a text is not Unicode."""
    try:
        return _one_text(value).encode()
    except UnicodeEncodeError:
        return _one_text(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _one_text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parse_json_object(data: bytes, what: str) -> dict[str, Any]:
    """The object that `data` holds; ImageError naming `what` where it holds none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"the {what} is not JSON", detail=str(error)) from None
    if not isinstance(value, dict):
        raise ImageError(f"the {what} is not a JSON object")
    return value


def descriptor_json(descriptor: Descriptor) -> dict[str, Any]:
    """The JSON object of a descriptor; empty fields are left out."""
    fields: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.platform is not None:
        fields["platform"] = platform_json(descriptor.platform)
    if descriptor.annotations:
        fields["annotations"] = dict(descriptor.annotations)
    if descriptor.artifact_type:
        fields["artifactType"] = descriptor.artifact_type
    if descriptor.urls:
        fields["urls"] = list(descriptor.urls)
    return fields


def platform_json(platform: Platform) -> dict[str, str]:
    """The JSON object of a platform."""
    fields = {"architecture": platform.architecture, "os": platform.os}
    return {**fields, "variant": platform.variant} if platform.variant else fields


def manifest_bytes(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest."""
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": manifest.media_type,
        "config": descriptor_json(manifest.config),
        "layers": [descriptor_json(layer) for layer in manifest.layers],
    }
    if manifest.annotations:
        fields["annotations"] = dict(manifest.annotations)
    if manifest.artifact_type:
        fields["artifactType"] = manifest.artifact_type
    if manifest.subject is not None:
        fields["subject"] = descriptor_json(manifest.subject)
    return document_json(fields)


def index_bytes(index: Index) -> bytes:
    """The canonical bytes of an index."""
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": index.media_type,
        "manifests": [descriptor_json(entry) for entry in index.manifests],
    }
    if index.annotations:
        fields["annotations"] = dict(index.annotations)
    return document_json(fields)


def parse_descriptor(value: object, what: str) -> Descriptor:
    """A descriptor out of foreign JSON; ImageError naming `what` where it is malformed."""
    if not isinstance(value, dict):
        raise ImageError(f"the {what} is not a descriptor")
    media_type, size = value.get("mediaType"), value.get("size")
    if not isinstance(media_type, str) or isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ImageError(f"the {what} lacks a media type or a size")
    urls = value.get("urls") or ()
    return Descriptor(
        media_type=media_type,
        digest=parse_digest(value.get("digest")),
        size=size,
        platform=_parse_platform(value.get("platform")),
        annotations=parse_string_map(value.get("annotations"), f"annotations of the {what}"),
        artifact_type=str(value.get("artifactType") or ""),
        urls=tuple(url for url in urls if isinstance(url, str)) if isinstance(urls, list) else (),
    )


def parse_string_map(value: object, what: str) -> Annotations:
    """A map of strings as sorted pairs; null counts as empty, as Go writes it."""
    if value is None:
        return ()
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise ImageError(f"the {what} are not a map of strings")
    return tuple(sorted(value.items()))


def parse_manifest(data: bytes, media_type: str = "") -> Manifest:
    """A manifest out of its bytes. `media_type` is what the transport said; the bytes must not contradict it."""
    value = parse_json_object(data, "manifest")
    kind = _media_type(value, media_type, OCI_MANIFEST, MANIFEST_TYPES, "manifest")
    if "manifests" in value:
        raise ImageError("the manifest also lists manifests", hint="such a text reads as two things; it is refused")
    layers = value.get("layers")
    if value.get("schemaVersion") != 2 or not isinstance(layers, list):
        raise ImageError("the manifest is not of schema version 2", hint="push the image again with a current tool")
    subject = value.get("subject")
    return Manifest(
        config=parse_descriptor(value.get("config"), "manifest's config"),
        layers=tuple(parse_descriptor(layer, f"manifest's layer {number}") for number, layer in enumerate(layers, 1)),
        media_type=kind,
        annotations=parse_string_map(value.get("annotations"), "manifest's annotations"),
        artifact_type=str(value.get("artifactType") or ""),
        subject=None if subject is None else parse_descriptor(subject, "manifest's subject"),
    )


def parse_index(data: bytes, media_type: str = "") -> Index:
    """An index out of its bytes, as `parse_manifest`."""
    value = parse_json_object(data, "index")
    kind = _media_type(value, media_type, OCI_INDEX, INDEX_TYPES, "index")
    entries = value.get("manifests")
    if "layers" in value or "config" in value:
        raise ImageError("the index also has layers", hint="such a text reads as two things; it is refused")
    if value.get("schemaVersion") != 2 or not isinstance(entries, list):
        raise ImageError("the index is not of schema version 2")
    return Index(
        manifests=tuple(parse_descriptor(entry, f"index's entry {number}") for number, entry in enumerate(entries, 1)),
        media_type=kind,
        annotations=parse_string_map(value.get("annotations"), "index's annotations"),
    )


def select_platform(entries: Iterable[Descriptor], wanted: Platform, what: str) -> Descriptor:
    """The entry of an index that runs on `wanted`: the exact one, else the first of those with the latest variant that fits."""
    runnable = [entry for entry in entries if entry.media_type in MANIFEST_TYPES + INDEX_TYPES]
    fitting = [entry for entry in runnable if entry.platform is not None and wanted.accepts(entry.platform)]
    exact = [entry for entry in fitting if entry.platform == wanted]
    if exact or fitting:
        return exact[0] if exact else max(fitting, key=lambda entry: entry.platform.variant if entry.platform else "")
    if len(runnable) == 1 and runnable[0].platform is None:
        return runnable[0]
    known = sorted({str(entry.platform) for entry in runnable if entry.platform and entry.platform.os != "unknown"})
    raise ImageError(f"{what} has no image for {wanted}", hint=f"it has: {', '.join(known)}" if known else None)


def _media_type(value: dict[str, Any], said: str, default: str, allowed: tuple[str, ...], what: str) -> str:
    inside = value.get("mediaType")
    if inside is not None and said and inside != said:
        raise ImageError(f"the {what} says it is {inside!r}, but was handed over as {said!r}")
    kind = inside or said or default
    if kind not in allowed:
        raise ImageError(f"the {what} has the media type {kind!r}", hint=f"expected one of: {', '.join(allowed)}")
    return str(kind)


def _parse_platform(value: object) -> Platform | None:
    if not isinstance(value, dict):
        return None
    return normalize(str(value.get("os", "")), str(value.get("architecture", "")), str(value.get("variant") or ""))
