"""What refers to a manifest (distribution-spec, "Listing Referrers"), with the tag that stands in where the API is missing."""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import Descriptor, Index, Manifest, parse_index
from imgbuild.values import replace


def fallback_tag(digest: Digest) -> str:
    """The tag under which an index of referrers is kept (distribution-spec, "Referrers Tag Schema")."""
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


def referrer(manifest: Manifest, descriptor: Descriptor) -> Descriptor:
    """The entry of a manifest in a list of referrers: an image's artifact type is its config's media type."""
    kind = manifest.artifact_type or manifest.config.media_type
    return replace(descriptor, artifact_type=kind, annotations=manifest.annotations, platform=None, urls=())


def with_referrer(old: bytes | None, entry: Descriptor) -> Index:
    """The index that is kept under the fallback tag, with one more entry; ImageError where the old one is no index."""
    known = parse_index(old).manifests if old is not None else ()
    return Index((*(item for item in known if item.digest != entry.digest), entry))


def parse_referrers(data: bytes, artifact_type: str) -> tuple[Descriptor, ...]:
    """The entries of a list of referrers, those of one artifact type where one is given."""
    try:
        found = parse_index(data).manifests
    except ImageError as error:
        raise ImageError("the list of referrers is malformed", detail=error.message) from None
    return tuple(item for item in found if not artifact_type or item.artifact_type == artifact_type)
