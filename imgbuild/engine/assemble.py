"""From a solved graph to an image in the store: config and manifest around the layers.

`created` of the image and of its history is the explicit epoch, else the time of the commit that the context is at, else the epoch of
the stage: no clock is read, so the same build gives the same digest. No name and no host is in it.
"""

from __future__ import annotations

from imgbuild.engine.annotations import Annotation, Level, pairs
from imgbuild.graph.ops import Base, BuildGraph, Stage
from imgbuild.hints import TYPE_CHECKING
from imgbuild.oci.config import History, ImageConfig, config_bytes
from imgbuild.oci.digest import Digest, digest_of
from imgbuild.oci.image import (
    LAYER_COMPRESSION,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Annotations,
    Descriptor,
    Index,
    Layer,
    Manifest,
    index_bytes,
    manifest_bytes,
)
from imgbuild.oci.platform import Platform
from imgbuild.oci.times import format_time
from imgbuild.store.store import Store
from imgbuild.values import dataclass, replace

if TYPE_CHECKING:
    from imgbuild.engine.request import BuildPlan
    from imgbuild.layer.compression import CompressionKind
    from imgbuild.solve.state import Solution, StepLayer

COMMENT = "imgbuild"


@dataclass(frozen=True, slots=True)
class Assembled:
    """An image whose config is in the store, and once it is `Built` its manifest, too; `platform` is the one that it was built for,
    `stage` the target's number."""

    descriptor: Descriptor
    config_digest: Digest
    config: ImageConfig
    layers: tuple[Layer, ...]
    platform: Platform
    stage: int
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Built:
    """What a build made: an image a platform, and what names them: the manifest of the only one, or an index of all. `annotations` are
    all that were asked for."""

    images: tuple[Assembled, ...]
    descriptor: Descriptor
    annotations: tuple[Annotation, ...] = ()

    @property
    def index(self) -> bool:
        """Whether it is an index, be it of one image."""
        return self.descriptor.media_type == OCI_INDEX

    @property
    def id(self) -> Digest:
        """What docker takes for the image's ID."""
        return self.descriptor.digest if self.index else self.images[0].config_digest

    @property
    def described(self) -> Annotations:
        """The annotations of what names it, where that is listed."""
        level: Level = "index-descriptor" if self.index else "manifest-descriptor"
        return pairs(self.annotations, level, self.images[0].platform)


def assemble(store: Store, graph: BuildGraph, solution: Solution, compression: CompressionKind, plan: BuildPlan) -> Built:
    """Put the targets' configs and manifests into the store, and an index of them where there shall be one."""
    images = tuple(
        _image(store, graph, solution, compression, number, options.platform, plan.created)
        for number, options in zip(graph.targets, plan.targets, strict=True)
    )
    return _built(store, images, plan.index, plan.annotations)


def annotated(store: Store, built: Built, annotations: tuple[Annotation, ...]) -> Built:
    """The same with more annotations."""
    return _built(store, built.images, built.index, (*built.annotations, *annotations))


def _built(store: Store, images: tuple[Assembled, ...], index: bool, annotations: tuple[Annotation, ...]) -> Built:
    images = tuple(_annotated(store, image, pairs(annotations, "manifest", image.platform)) for image in images)
    if not index:
        return Built(images, images[0].descriptor, annotations)
    entries = tuple(
        replace(image.descriptor, platform=image.platform, annotations=pairs(annotations, "manifest-descriptor", image.platform))
        for image in images
    )
    data = index_bytes(Index(entries, annotations=pairs(annotations, "index")))
    return Built(images, Descriptor(OCI_INDEX, store.blobs.put(data), len(data)), annotations)


def _annotated(store: Store, image: Assembled, annotations: Annotations) -> Assembled:
    """The image with its manifest in the store."""
    manifest = replace(image.manifest, annotations=annotations)
    data = manifest_bytes(manifest)
    return replace(image, descriptor=Descriptor(OCI_MANIFEST, store.blobs.put(data), len(data)), manifest=manifest)


def _image(
    store: Store,
    graph: BuildGraph,
    solution: Solution,
    compression: CompressionKind,
    number: int,
    platform: Platform,
    created: int | None,
) -> Assembled:
    """One target's config and manifest, around layers in one compression. `created` is the explicit epoch, else the commit's time; None
    for neither."""
    target = graph.stages[number]
    layers = _uniform(store, graph, target, solution.stages[number].layers, compression)
    stamp = format_time(target.epoch if created is None else created)
    config = ImageConfig(
        platform=target.platform,
        config=target.config,
        diff_ids=tuple(layer.diff_id for layer in layers),
        history=_history(graph, solution, target, stamp),
        created=stamp,
        author=target.author,
    )
    data = config_bytes(config)
    digest = store.blobs.put(data)
    manifest = Manifest(
        config=Descriptor(OCI_CONFIG, digest, len(data)),
        layers=tuple(layer.blob for layer in layers),
    )
    text = manifest_bytes(manifest)
    descriptor = Descriptor(OCI_MANIFEST, digest_of(text), len(text))
    return Assembled(descriptor, digest, config, layers, platform, number, manifest)


def _uniform(
    store: Store, graph: BuildGraph, stage: Stage, layers: tuple[Layer, ...], compression: CompressionKind
) -> tuple[Layer, ...]:
    """Layers whose blobs do not depend on what was cached: those that were compressed here in the compression asked for, those of a
    base that was pulled as they are; all of them with the media types of an OCI manifest."""
    origin = stage
    while origin.parent is not None:
        origin = graph.stages[origin.parent]
    below = len(origin.base.layers) if origin.base is not None else 0
    made = []
    for number, layer in enumerate(layers):
        blob = layer.blob
        ours = number >= below or compressed_here(store, layer)
        if ours and LAYER_COMPRESSION[blob.media_type] != compression:
            from imgbuild.transfer.convert import converted_layer
            from imgbuild.transfer.events import ignore
            from imgbuild.transfer.parallel import Stop

            blob = converted_layer(store, layer, compression, ignore, Stop())
        elif not blob.media_type.startswith(OCI_LAYER):
            from imgbuild.transfer.convert import typed_layer

            blob = typed_layer(blob, "oci")
        made.append(replace(layer, blob=blob))
    return tuple(made)


def compressed_here(store: Store, layer: Layer) -> bool:
    """Whether the layer's blob was made by this store, of a build, an import or an archive of plain layers, and not pulled."""
    return any(row.blob.digest == layer.blob.digest and row.compression for row in store.index.layers_of(layer.diff_id))


def _history(graph: BuildGraph, solution: Solution, stage: Stage, stamp: str) -> tuple[History, ...]:
    """The base's history, then each stage's own lines, lowest stage first."""
    chain = [stage]
    while (parent := chain[-1].parent) is not None:
        chain.append(graph.stages[parent])
    base = chain[-1].base
    entries = list(_whole_history(base)) if base is not None else []
    for each in reversed(chain):
        steps = solution.stages[each.index].steps
        entries += (
            History(created=stamp, created_by=line.created_by, comment=COMMENT, empty_layer=_leaves_no_layer(steps, line.step))
            for line in each.lines
        )
    return tuple(entries)


def _whole_history(base: Base) -> tuple[History, ...]:
    """The base's history with exactly as many entries with a layer as it has layers: readers pair them by counting."""
    entries: list[History] = []
    left = len(base.layers)
    for entry in base.history:
        empty = entry.empty_layer or left == 0
        left -= not empty
        entries.append(replace(entry, empty_layer=empty))
    untold = History(created=base.created, created_by=f"FROM {base.name}", comment="a layer that its history does not tell of")
    return (*entries, *[untold] * left)


def _leaves_no_layer(steps: tuple[StepLayer, ...], step: int | None) -> bool:
    return step is None or steps[step].layer is None
