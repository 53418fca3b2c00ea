"""``images``: what is in the store, one row a name."""

from __future__ import annotations

from imgbuild.errors import CorruptError, ImageError
from imgbuild.insight.image import load_image
from imgbuild.oci.digest import Digest
from imgbuild.oci.platform import Platform
from imgbuild.store.store import Store
from imgbuild.store.tags import Entry
from imgbuild.values import dataclass, replace


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One name of an image. `repository` in the form that users write, None where the image has no name; `tag` None where it has
    none. `id` is the config's digest; `id` and `created` are "" where the image can't be read: `problem` says why."""

    repository: str | None
    tag: str | None
    digest: Digest
    id: str
    created: str
    size: int
    problem: str = ""


def images(store: Store, platform: Platform) -> tuple[ImageRow, ...]:
    """All images, the youngest first."""
    rows = [_row(store, entry, platform) for entry in store.tags.entries()]
    return tuple(sorted(rows, key=lambda row: (row.created, row.repository or "", row.tag or ""), reverse=True))


def _row(store: Store, entry: Entry, platform: Platform) -> ImageRow:
    reference = entry.reference
    repository = entry.name if reference is None else replace(reference, tag=None, digest=None).familiar()
    tag = None if reference is None else reference.tag
    digest = entry.descriptor.digest
    try:
        image = load_image(store, entry.descriptor, platform, entry.name or digest, lenient=True)
    except (CorruptError, ImageError) as error:
        return ImageRow(repository, tag, digest, "", "", 0, error.message)
    created = image.config.created if image.config is not None else ""
    return ImageRow(repository, tag, digest, image.manifest.config.digest, created, image.size)
