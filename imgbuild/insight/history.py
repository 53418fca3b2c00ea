"""``history``: the instructions that made an image, with what each one added."""

from __future__ import annotations

from imgbuild.hints import Iterator
from imgbuild.insight.image import Image, load_image
from imgbuild.oci.config import History
from imgbuild.oci.digest import DiffID, Digest
from imgbuild.oci.image import Descriptor
from imgbuild.oci.platform import Platform
from imgbuild.store.store import Store
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One instruction. `size` is its layer's in bytes; `layer` and `blob` are None where it made none."""

    created: str
    created_by: str
    size: int
    comment: str
    layer: DiffID | None
    blob: Digest | None


def history(
    store: Store, descriptor: Descriptor, platform: Platform, name: str = "the image", *, lenient: bool = False
) -> tuple[HistoryRow, ...]:
    """The image's history, the last instruction first, as docker shows it. Layers beyond what the history tells of get rows of
    their own."""
    image = load_image(store, descriptor, platform, name, lenient=lenient)
    return tuple(reversed(tuple(_rows(image))))


def _rows(image: Image) -> Iterator[HistoryRow]:
    entries = image.config.history if image.config is not None else ()
    diff_ids = image.config.diff_ids if image.config is not None else ()
    layers = iter(zip(diff_ids, image.manifest.layers, image.sizes, strict=False))
    # A foreign history may be missing or too short. Which layers it leaves out is not said: those at the bottom, since tools that
    # squash or import a base without a history append theirs.
    untold = len(diff_ids) - sum(not entry.empty_layer for entry in entries)
    for _ in range(max(untold, 0)):
        diff_id, blob, size = next(layers)
        yield HistoryRow("", "", size, "", diff_id, blob.digest)
    for entry in entries:
        layer = None if entry.empty_layer else next(layers, None)
        yield _row(entry, layer)


def _row(entry: History, layer: tuple[DiffID, Descriptor, int] | None) -> HistoryRow:
    diff_id, blob, size = layer or (None, None, 0)
    return HistoryRow(entry.created, entry.created_by, size, entry.comment, diff_id, blob.digest if blob else None)
