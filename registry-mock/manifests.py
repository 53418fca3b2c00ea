"""What a manifest says: its media type, what it refers to, its subject. Pure.

image-spec manifest.md, image-index.md and descriptor.md, and the two Docker forms that mean the same. Only what a
registry has to know is read; everything else is left as it is, since the bytes are what was signed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from errors import manifest_invalid
from names import Digest, parse_digest

INDEX = "application/vnd.oci.image.index.v1+json"
_IMAGES = frozenset({"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"})
_INDEXES = frozenset({INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"})
# distribution-spec 1.1, "Pushing Manifests": a registry may take a manifest whose non-distributable layers it lacks.
_ELSEWHERE = ("application/vnd.oci.image.layer.nondistributable.", "application/vnd.docker.image.rootfs.foreign.")

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to content."""

    media_type: str
    digest: Digest
    size: int
    elsewhere: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """The parts of a manifest or an index that a registry acts on."""

    media_type: str
    blobs: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str
    annotations: Json


def parse(content: bytes, content_type: str) -> Manifest:
    """Read a manifest that came with this Content-Type ("" for none), or MANIFEST_INVALID."""
    document = _document(content)
    media_type = _media_type(document, content_type)
    if document.get("schemaVersion") != 2:
        raise manifest_invalid("schemaVersion is not 2")
    artifact_type = _text(document, "artifactType")
    blobs: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    if media_type in _IMAGES:
        config = _descriptor(document.get("config"), "config")
        blobs = (config, *_descriptors(document, "layers"))
        # distribution-spec 1.1, "Listing Referrers": for an image, the config's media type stands in.
        artifact_type = artifact_type or config.media_type
    elif media_type in _INDEXES:
        children = _descriptors(document, "manifests")
    else:
        raise manifest_invalid(f"unsupported media type {media_type}")
    subject = _descriptor(document["subject"], "subject") if document.get("subject") is not None else None
    annotations = document.get("annotations")
    if annotations is not None and not isinstance(annotations, dict):
        raise manifest_invalid("annotations is not an object")
    return Manifest(media_type, blobs, children, subject, artifact_type, annotations or {})


def referrer(digest: Digest, size: int, manifest: Manifest) -> dict[str, object]:
    """The descriptor of a manifest as the referrers API lists it."""
    found: dict[str, object] = {"mediaType": manifest.media_type, "digest": str(digest), "size": size}
    if manifest.artifact_type:
        found["artifactType"] = manifest.artifact_type
    if manifest.annotations:
        found["annotations"] = manifest.annotations
    return found


def _document(content: bytes) -> Json:
    try:
        document = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise manifest_invalid(f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise manifest_invalid("not a JSON object")
    return document


def _media_type(document: Json, content_type: str) -> str:
    # distribution-spec 1.1, "Pushing Manifests": parameters are ignored; a mediaType field must be what the header says.
    declared = content_type.partition(";")[0].strip()
    written = _text(document, "mediaType")
    if declared and written and declared != written:
        raise manifest_invalid(f"mediaType is {written}, Content-Type is {declared}")
    return declared or written


def _text(document: Json, key: str) -> str:
    value = document.get(key, "")
    if not isinstance(value, str):
        raise manifest_invalid(f"{key} is not a string")
    return value


def _descriptors(document: Json, key: str) -> tuple[Descriptor, ...]:
    entries = document.get(key)
    if not isinstance(entries, list):
        raise manifest_invalid(f"{key} is not a list")
    return tuple(_descriptor(entry, f"{key}[{number}]") for number, entry in enumerate(entries))


def _descriptor(entry: object, where: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise manifest_invalid(f"{where} is not a descriptor")
    media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str):
        raise manifest_invalid(f"{where} lacks a mediaType or a digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise manifest_invalid(f"{where} lacks a size")
    elsewhere = media_type.startswith(_ELSEWHERE) or bool(entry.get("urls"))
    return Descriptor(media_type, parse_digest(digest), size, elsewhere)
