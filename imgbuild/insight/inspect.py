"""``inspect``: all that is known of an image, under the names that docker's ``image inspect`` uses."""

from __future__ import annotations

from typing import Any

from imgbuild.insight.image import load_image
from imgbuild.oci.config import ImageConfig, run_config_json
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import INDEX_TYPES, Descriptor, descriptor_json, parse_index
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import Reference
from imgbuild.store.store import Store
from imgbuild.values import replace

_NEVER = "0001-01-01T00:00:00Z"
_ALWAYS_SHOWN: dict[str, Any] = {
    "User": "",
    "Env": None,
    "Cmd": None,
    "Entrypoint": None,
    "Volumes": None,
    "WorkingDir": "",
    "Labels": None,
    "OnBuild": None,
}


def inspect(
    store: Store, reference: Reference | None, descriptor: Descriptor, platform: Platform, *, lenient: bool = False
) -> dict[str, Any]:
    """The image as a JSON object, for templates and scripts written for docker. `reference` is how the user named it; of an image
    for several platforms, the one for `platform`. `Id` is the config's digest, `Digest` the manifest's."""
    image = load_image(store, descriptor, platform, str(reference or descriptor.digest), lenient=lenient)
    config = image.config or ImageConfig(platform)
    tags, digests = _names(store, {descriptor.digest, image.descriptor.digest})
    return {
        "Id": image.manifest.config.digest,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created or _NEVER,
        "DockerVersion": "",
        "Author": config.author,
        "Config": _ALWAYS_SHOWN | run_config_json(config.config),
        "Architecture": config.platform.architecture,
        **({"Variant": config.platform.variant} if config.platform.variant else {}),
        "Os": config.platform.os,
        **({"OsVersion": config.os_version} if config.os_version else {}),
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": _NEVER},
        "Digest": image.descriptor.digest,
        "Descriptor": descriptor_json(descriptor),
        **({"Manifests": _listed(store, descriptor)} if descriptor.media_type in INDEX_TYPES else {}),
    }


def _listed(store: Store, descriptor: Descriptor) -> list[dict[str, Any]]:
    """What an index lists, and what of it is here."""
    index = parse_index(store.blobs.read(descriptor.digest), descriptor.media_type)
    return [
        {"ID": entry.digest, "Descriptor": descriptor_json(entry), "Available": store.blobs.has(entry.digest)} for entry in index.manifests
    ]


def _names(store: Store, digests: set[Digest]) -> tuple[list[str], list[str]]:
    """The names of the image with a tag, and with a digest."""
    tags: set[str] = set()
    by_digest: set[str] = set()
    for entry in store.tags.entries():
        if entry.reference is None or entry.descriptor.digest not in digests:
            continue
        if entry.reference.digest is None:
            tags.add(entry.reference.familiar())
        by_digest.add(replace(entry.reference, tag=None, digest=entry.descriptor.digest).familiar())
    return sorted(tags), sorted(by_digest)
