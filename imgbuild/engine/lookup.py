"""Which image of the store a word means: a name, or an image's ID or digest, or the beginning of one."""

from __future__ import annotations

from imgbuild.errors import CorruptError, ImageError, NotFoundError, UsageError
from imgbuild.oci.image import INDEX_TYPES, Descriptor, parse_index, parse_manifest
from imgbuild.oci.reference import Reference, parse_reference
from imgbuild.patterns import ASCII, pattern
from imgbuild.store.closure import manifests
from imgbuild.store.store import Store
from imgbuild.values import replace

_ID = pattern(r"(?:sha256:)?([0-9a-f]{4,64})", ASCII)


def find_image(store: Store, text: str) -> tuple[Reference | None, Descriptor]:
    """The reference (None where an ID was given) and the descriptor; NotFoundError where there is none."""
    reference = _reference(text)
    if reference is not None and (descriptor := store.tags.get(reference)) is not None:
        return reference, descriptor
    by_id = _by_id(store, text)
    if by_id is not None:
        return None, by_id
    if reference is None:
        parse_reference(text)
    raise NotFoundError(f"there is no image {text} in the store", hint=_nearest(store, text))


def find_local(store: Store, text: str) -> Descriptor | None:
    """As `find_image`, for an ID only: None where the word is a name, or nothing has that ID."""
    reference = _reference(text)
    if reference is not None and store.tags.get(reference) is not None:
        return None
    return _by_id(store, text)


def _reference(text: str) -> Reference | None:
    try:
        return parse_reference(text)
    except ImageError:
        return None


def _by_id(store: Store, text: str) -> Descriptor | None:
    match = _ID.fullmatch(text)
    if match is None:
        return None
    prefix = f"sha256:{match[1]}"
    found = {entry.descriptor.digest: entry.descriptor for entry in store.tags.entries() if _has_id(store, entry.descriptor, prefix)}
    whole = [digest for digest in found if digest == prefix]  # which may be in an index, too
    if len(found) > 1 and not whole:
        raise UsageError(f"{text} is the beginning of {len(found)} images' IDs", hint="write more of it")
    return next((replace(found[digest], annotations=()) for digest in whole or found), None)


def _has_id(store: Store, descriptor: Descriptor, prefix: str) -> bool:
    if descriptor.digest.startswith(prefix):
        return True
    try:
        data = store.blobs.read(descriptor.digest)
        if descriptor.media_type in INDEX_TYPES:
            entries = parse_index(data, descriptor.media_type).manifests
            return any(entry.digest.startswith(prefix) for entry in entries) or any(
                manifest.config.digest.startswith(prefix) for _, manifest in manifests(store.blobs, descriptor)
            )
        return parse_manifest(data, descriptor.media_type).config.digest.startswith(prefix)
    except (CorruptError, ImageError, NotFoundError):
        return False


def _nearest(store: Store, text: str) -> str:
    from imgbuild.buildfile.suggest import did_you_mean

    names = [entry.name for entry in store.tags.entries() if entry.name]
    short = [name.removesuffix(":latest") for name in names]
    return did_you_mean(text, (*names, *short)) or "`imgbuild images` lists what there is"
