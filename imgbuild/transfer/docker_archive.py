"""Docker's archive of images, as `docker save` writes and `docker load` reads it: manifest.json, configs, and layers as tars.

Read: layers anywhere in the archive (``<id>/layer.tar``, ``<hex>.tar``, ``blobs/sha256/<hex>``), uncompressed or not, links
between them as old versions of docker write them. Layers are stored in our own compression; each is verified against its diffID.
Written: ``<diffID>.tar``, uncompressed, which every reader takes. Source: moby, image/tarexport and image/spec/v1.2.md.
"""

from __future__ import annotations

import hashlib
from typing import Any

from imgbuild.errors import CorruptError, ImageError, NotFoundError
from imgbuild.hints import Iterator
from imgbuild.layer.compress import decompressing
from imgbuild.layer.compression import Compression
from imgbuild.layer.tar import CHUNK
from imgbuild.light import json
from imgbuild.oci.config import parse_config
from imgbuild.oci.digest import DiffID
from imgbuild.oci.image import (
    MAX_MANIFEST_BYTES,
    OCI_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    Layer,
    Manifest,
    document_json,
    manifest_bytes,
)
from imgbuild.oci.reference import Reference, parse_reference
from imgbuild.store.store import Store
from imgbuild.transfer.events import BlobFinished, BlobStarted, OnEvent
from imgbuild.transfer.images import Image
from imgbuild.transfer.layers import keep_layer, known_layer
from imgbuild.transfer.outputs import Output
from imgbuild.transfer.parallel import Stop
from imgbuild.transfer.sources import ArchiveSource, read_bounded
from imgbuild.values import dataclass

MANIFEST_FILE = "manifest.json"
_MAX_LIST = 16 << 20


class DockerArchiveWriter:
    """Writes images to one archive; `finish` writes its list."""

    def __init__(self, store: Store, output: Output, on_event: OnEvent, stop: Stop) -> None:
        self._store = store
        self._output = output
        self._on_event = on_event
        self._stop = stop
        self._entries: dict[str, dict[str, Any]] = {}

    def add(self, image: Image, name: str | None) -> None:
        """Write an image's config and layers. `name` is its RepoTag, else the reference that it has."""
        config = self._store.blobs.read(image.manifest.config.digest)
        config_name = f"{image.manifest.config.digest.partition(':')[2]}.json"
        if not self._output.has(config_name, len(config)):
            self._output.write(config_name, len(config), [config])
        layers = [self._layer(layer) for layer in image.layers]
        entry = self._entries.setdefault(config_name, {"Config": config_name, "RepoTags": [], "Layers": layers})
        tag = name if name is not None else _repo_tag(image.reference)
        if tag is not None and tag not in entry["RepoTags"]:
            entry["RepoTags"].append(tag)

    def finish(self) -> None:
        """Write the list of images."""
        data = document_json([{**entry, "RepoTags": entry["RepoTags"] or None} for entry in self._entries.values()])
        self._output.write(MANIFEST_FILE, len(data), [data])

    def _layer(self, layer: Layer) -> str:
        name = f"{layer.diff_id.partition(':')[2]}.tar"
        size = self._size(layer)
        if not self._output.has(name, size):
            self._on_event(BlobStarted(layer.blob.digest, layer.blob.size, "layer"))
            self._output.write(name, size, self._content(layer, size))
            self._on_event(BlobFinished(layer.blob.digest, layer.blob.size, "written"))
        return name

    def _size(self, layer: Layer) -> int:
        """A tar's header says the size before the content: it is remembered, or found out by reading once more."""
        for row in self._store.index.layers_of(layer.diff_id):
            if row.blob.digest == layer.blob.digest and row.uncompressed_size:
                return row.uncompressed_size
        with self._store.blobs.open(layer.blob.digest) as stream:
            content, size = decompressing(stream), 0
            while data := content.read(CHUNK):
                self._stop.check()
                size += len(data)
        return size

    def _content(self, layer: Layer, size: int) -> Iterator[bytes]:
        hasher, done = hashlib.sha256(), 0
        with self._store.blobs.open(layer.blob.digest) as stream:
            content = decompressing(stream)
            while data := content.read(CHUNK):
                self._stop.check()
                done += len(data)
                if done > size:
                    break
                hasher.update(data)
                yield data
        if done != size or f"sha256:{hasher.hexdigest()}" != layer.diff_id:
            raise CorruptError(
                f"the layer {layer.diff_id} is damaged in the store", hint="`imgbuild fsck` says more; build or pull it again"
            )


@dataclass(frozen=True, slots=True)
class DockerArchiveReader:
    """Reads images of one archive into the store, as OCI images."""

    store: Store
    source: ArchiveSource
    compression: Compression
    on_event: OnEvent
    stop: Stop

    def load(self, selector: str | None) -> tuple[tuple[tuple[Reference, ...], Descriptor], ...]:
        """Bring images into the store, without naming them, each with its names: the one that has the name `selector`, else all."""
        entries = self._entries()
        if selector is not None:
            entries = [entry for entry in entries if _has_name(entry, selector)]
            if not entries:
                raise NotFoundError(f"the archive has no image {selector!r}")
        return tuple((_names(entry), self._image(entry)) for entry in entries)

    def _entries(self) -> list[dict[str, Any]]:
        try:
            value = json.loads(read_bounded(self.source, MANIFEST_FILE, _MAX_LIST))
        except (ValueError, RecursionError) as error:
            raise ImageError("the archive's manifest.json is not JSON", detail=str(error)) from None
        if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
            raise ImageError("the archive's manifest.json is not a list of images")
        return value

    def _image(self, entry: dict[str, Any]) -> Descriptor:
        config_name, layer_names = entry.get("Config"), entry.get("Layers") or []
        if not isinstance(config_name, str) or not isinstance(layer_names, list) or not all(isinstance(name, str) for name in layer_names):
            raise ImageError("an image in the archive's manifest.json has no config or no list of layers")
        data = read_bounded(self.source, config_name, MAX_MANIFEST_BYTES)
        config = parse_config(data)
        if len(config.diff_ids) != len(layer_names):
            raise ImageError(f"an image of the archive has {len(layer_names)} layers, but {len(config.diff_ids)} diff_ids in its config")
        layers = [self._layer(name, diff_id) for name, diff_id in zip(layer_names, config.diff_ids, strict=True)]
        digest = self.store.blobs.put(data)
        manifest = Manifest(Descriptor(OCI_CONFIG, digest, len(data)), tuple(layers))
        text = manifest_bytes(manifest)
        return Descriptor(OCI_MANIFEST, self.store.blobs.put(text), len(text))

    def _layer(self, name: str, diff_id: DiffID) -> Descriptor:
        with self.store.lock(f"load {diff_id}", cancelled=self.stop):
            known = known_layer(self.store, diff_id, self.compression.kind)
            if known is not None:
                self.on_event(BlobFinished(known.digest, known.size, "present"))
                return known
            self.stop.check()
            made = keep_layer(self.store, decompressing(self.source.open(name)), self.compression, diff_id, name)
            self.on_event(BlobFinished(made.blob.digest, made.blob.size, "converted"))
            return made.blob


def _repo_tag(reference: Reference | None) -> str | None:
    """Docker takes names with tags only."""
    return reference.familiar() if reference is not None and reference.tag is not None and reference.digest is None else None


def _tags(entry: dict[str, Any]) -> list[str]:
    tags = entry.get("RepoTags")
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _names(entry: dict[str, Any]) -> tuple[Reference, ...]:
    found = []
    for tag in _tags(entry):
        try:
            found.append(parse_reference(tag))
        except ImageError:
            continue
    return tuple(found)


def _has_name(entry: dict[str, Any], selector: str) -> bool:
    if selector in _tags(entry):
        return True
    try:
        return parse_reference(selector) in _names(entry)
    except ImageError:
        return False
