"""Images as OCI image layouts (image-spec: image-layout.md), as a directory or in a tar, read and written.

An image's name is taken from ``io.containerd.image.name`` (a full one) or ``org.opencontainers.image.ref.name``; both are written.
Every blob is verified on its way in. Of nested indexes, the image for the wanted platform is taken.
"""

from __future__ import annotations

from typing import Any

from imgbuild.errors import CorruptError, ImageError, NotFoundError
from imgbuild.hints import Iterator
from imgbuild.layer.tar import CHUNK, Stream
from imgbuild.light.pathlib import Path
from imgbuild.oci.image import (
    CONFIG_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    REF_NAME,
    Annotations,
    Descriptor,
    descriptor_json,
    document_json,
    parse_index,
    parse_json_object,
    parse_manifest,
)
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import DEFAULT_TAG, Reference, parse_reference
from imgbuild.store.store import Store
from imgbuild.transfer.convert import Converted
from imgbuild.transfer.events import BlobAdvanced, BlobFinished, BlobStarted, OnEvent, TransferNotice, ignore
from imgbuild.transfer.images import Image, check_image, check_manifest_type, choose, plain, read_image
from imgbuild.transfer.indexes import ConvertedIndex
from imgbuild.transfer.outputs import Output
from imgbuild.transfer.parallel import Stop
from imgbuild.transfer.sources import ArchiveSource, open_source, read_bounded
from imgbuild.values import dataclass, replace

INDEX_FILE = "index.json"
LAYOUT_FILE = "oci-layout"
CONTAINERD_NAME = "io.containerd.image.name"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MAX_INDEX = 16 << 20
_MAX_DEPTH = 4


class LayoutWriter:
    """Writes images to one layout; `finish` writes the index, last. What a directory's index lists already stays in it."""

    def __init__(self, store: Store, output: Output, on_event: OnEvent, stop: Stop) -> None:
        self._store = store
        self._output = output
        self._on_event = on_event
        self._stop = stop
        self._entries: list[dict[str, Any]] = []

    def add(self, image: Image, converted: Converted, name: str | None, annotations: Annotations = ()) -> None:
        """Write an image's blobs. `name` is its ref.name, else the reference that it has."""
        self._write(converted)
        self._entry(replace(converted.descriptor, platform=image.config.platform, annotations=annotations), image.reference, name)

    def add_index(
        self, reference: Reference | None, converted: ConvertedIndex, name: str | None, annotations: Annotations = ()
    ) -> None:
        """Write an index and all that it lists, as `add`."""
        for child in converted.children:
            self._write(child)
        if not self._output.has(_path(converted.descriptor), converted.descriptor.size):
            self._output.write(_path(converted.descriptor), converted.descriptor.size, [converted.data])
        self._entry(replace(converted.descriptor, annotations=annotations), reference, name)

    def _write(self, converted: Converted) -> None:
        for blob in {blob.digest: blob for blob in (*converted.manifest.layers, converted.manifest.config)}.values():
            if self._output.has(_path(blob), blob.size):
                continue
            self._on_event(BlobStarted(blob.digest, blob.size, "layer"))
            self._output.write(_path(blob), blob.size, self._content(blob))
            self._on_event(BlobFinished(blob.digest, blob.size, "written"))
        if not self._output.has(_path(converted.descriptor), converted.descriptor.size):
            self._output.write(_path(converted.descriptor), converted.descriptor.size, [converted.data])

    def _entry(self, descriptor: Descriptor, reference: Reference | None, name: str | None) -> None:
        annotations = dict(descriptor.annotations)
        if reference is not None:
            annotations |= {REF_NAME: reference.familiar(), CONTAINERD_NAME: str(reference)}
        if name is not None:
            annotations[REF_NAME] = name
        self._entries.append(descriptor_json(replace(descriptor, annotations=tuple(sorted(annotations.items())))))

    def finish(self) -> None:
        """Write what makes it a layout."""
        old = self._output.existing(INDEX_FILE)
        document = parse_json_object(old, "index.json") if old is not None else {"schemaVersion": 2, "mediaType": OCI_INDEX}
        entries = document.get("manifests") or []
        if not isinstance(entries, list):
            raise ImageError("the index.json that is there already holds no list of manifests")
        kept = [entry for entry in entries if not any(_replaces(new, entry) for new in self._entries)]
        data = document_json({**document, "manifests": kept + self._entries})
        if self._output.existing(LAYOUT_FILE) is None:
            self._output.write(LAYOUT_FILE, len(_LAYOUT), [_LAYOUT])
        self._output.write(INDEX_FILE, len(data), [data])

    def _content(self, blob: Descriptor) -> Iterator[bytes]:
        done = 0
        with self._store.blobs.verified(blob.digest) as stream:
            while data := stream.read(CHUNK):
                self._stop.check()
                done += len(data)
                yield data
                self._on_event(BlobAdvanced(blob.digest, done))


@dataclass(frozen=True, slots=True)
class LayoutReader:
    """Reads images of one layout into the store."""

    store: Store
    source: ArchiveSource
    on_event: OnEvent
    stop: Stop
    whole: bool = False
    """Whether an index is brought in as such, if all that it lists is in the archive."""

    def load(self, selector: str | None, platform: Platform) -> tuple[tuple[tuple[Reference, ...], Descriptor], ...]:
        """Bring images into the store, without naming them, each with its names: the one named `selector`, else all."""
        entries = parse_index(read_bounded(self.source, INDEX_FILE, _MAX_INDEX)).manifests
        wanted = _select(entries, selector, platform)
        loaded = []
        for entry in wanted:
            try:
                descriptor = self.image(entry, platform)
            except ImageError as error:
                # Signatures and other artifacts stand beside images in one layout; they are not what a load is for.
                if len(wanted) == 1:
                    raise
                self.on_event(TransferNotice(f"passed over: {error.message}"))
                continue
            name = image_name(entry)
            loaded.append((() if name is None else (name,), descriptor))
        if not loaded:
            raise ImageError("the archive holds no image that can be loaded")
        return tuple(loaded)

    def image(self, entry: Descriptor, platform: Platform) -> Descriptor:
        """Bring the image of one entry of the index into the store."""
        name = entry.annotation(REF_NAME) or entry.digest
        found = entry
        data = self._small(found)
        for _ in range(_MAX_DEPTH):
            if found.media_type not in INDEX_TYPES:
                break
            if self.whole and (children := self._all_of(data, found)):
                for child in children:
                    self._child(child)
                return plain(found)
            found = choose(data, found, platform, name)
            data = self._small(found)
        check_manifest_type(found.media_type, name)
        manifest = parse_manifest(data, found.media_type)
        check_image(manifest, name)
        for blob in {blob.digest: blob for blob in (manifest.config, *manifest.layers)}.values():
            self._blob(blob, "config" if blob.digest == manifest.config.digest else "layer")
        return read_image(self.store, plain(found), None).descriptor

    def _all_of(self, data: bytes, index: Descriptor) -> tuple[Descriptor, ...]:
        """What an index lists, if all of it is here or in the archive; nothing otherwise."""
        entries = parse_index(data, index.media_type).manifests
        here = (self.store.blobs.has(entry.digest, entry.size) or self.source.has(_path(entry)) for entry in entries)
        return entries if all(entry.media_type in MANIFEST_TYPES for entry in entries) and all(here) else ()

    def _child(self, entry: Descriptor) -> None:
        """One of what an index lists, be it no image."""
        manifest = parse_manifest(self._small(entry), entry.media_type)
        for blob in {blob.digest: blob for blob in (manifest.config, *manifest.layers)}.values():
            self._blob(blob, "config" if blob.digest == manifest.config.digest else "layer")
        if manifest.config.media_type in CONFIG_TYPES and not (entry.platform is not None and entry.platform.os == "unknown"):
            read_image(self.store, plain(entry), None)

    def _small(self, blob: Descriptor) -> bytes:
        """A manifest or index, which is a blob of the store thereafter."""
        if blob.media_type not in MANIFEST_TYPES + INDEX_TYPES:
            check_manifest_type(blob.media_type, blob.annotation(REF_NAME) or blob.digest)
        if blob.size > MAX_MANIFEST_BYTES:
            raise ImageError(f"the manifest {blob.digest} is said to have {blob.size} bytes, more than is read of any")
        self._blob(blob, "manifest")
        return self.store.blobs.read(blob.digest)

    def _blob(self, blob: Descriptor, kind: str) -> None:
        if self.store.blobs.has(blob.digest, blob.size):
            self.on_event(BlobFinished(blob.digest, blob.size, "present"))
            return
        if not blob.digest.startswith("sha256:"):
            raise ImageError(f"the blob {blob.digest[:20]}... has a digest of a kind that is not kept here", hint="only sha256 is")
        self.on_event(BlobStarted(blob.digest, blob.size, kind))
        if not self.source.has(_path(blob)):
            raise CorruptError(f"the archive lacks the blob {blob.digest}", hint="it was not written completely")
        stream = self.source.open(_path(blob))
        with self.store.blobs.writer() as writer:
            for data in _at_most(stream, blob):
                self.stop.check()
                writer.write(data)
                self.on_event(BlobAdvanced(blob.digest, writer.size))
            if (writer.digest, writer.size) != (blob.digest, blob.size):
                raise CorruptError(
                    f"the blob {blob.digest} of the archive is damaged",
                    detail=f"{writer.size} bytes with the digest {writer.digest} in place of {blob.size}",
                )
            writer.commit(blob.digest, blob.size)
        self.on_event(BlobFinished(blob.digest, blob.size, "fetched"))


def load_from_layout(store: Store, path: Path, tag: str | None, digest: str | None, platform: Platform) -> Image:
    """Bring one image of the layout in a directory into the store, without a name: the one with a digest; else the one with a tag,
    "latest" where none is said, unless there is but one image. Call under a lease."""
    with open_source(store, path) as source:
        entries = parse_index(read_bounded(source, INDEX_FILE, _MAX_INDEX)).manifests
        wanted = _tagged(entries, tag, digest)
        if not wanted:
            names = sorted(filter(None, (entry.annotation(REF_NAME) for entry in entries)))
            raise NotFoundError(f"{path} has no image {digest or tag or 'latest'!r}", hint=f"it has: {', '.join(names)}" if names else None)
        fitting = [entry for entry in wanted if entry.platform is not None and platform.accepts(entry.platform)]
        entry = (fitting or wanted)[0]
        descriptor = LayoutReader(store, source, ignore, Stop(None)).image(entry, platform)
    return read_image(store, descriptor, platform)


def _tagged(entries: tuple[Descriptor, ...], tag: str | None, digest: str | None) -> list[Descriptor]:
    if digest is not None:
        return [entry for entry in entries if entry.digest == digest]
    wanted = tag or DEFAULT_TAG
    found = []
    for entry in entries:
        name = image_name(entry)
        if wanted in (entry.annotation(REF_NAME), entry.annotation(CONTAINERD_NAME)) or (name is not None and name.tag == wanted):
            found.append(entry)
    return list(entries) if not found and tag is None and len(entries) == 1 else found


def image_name(entry: Descriptor) -> Reference | None:
    """The name that an entry of a layout's index gives its image."""
    for key in (CONTAINERD_NAME, REF_NAME):
        text = entry.annotation(key)
        if text:
            try:
                return parse_reference(text)
            except ImageError:
                continue
    return None


def _select(entries: tuple[Descriptor, ...], selector: str | None, platform: Platform) -> tuple[Descriptor, ...]:
    if selector is None:
        return entries
    wanted = _parsed(selector)
    exact = [entry for entry in entries if selector in (entry.annotation(REF_NAME), entry.annotation(CONTAINERD_NAME), entry.digest)]
    found = exact or [entry for entry in entries if wanted is not None and image_name(entry) == wanted]
    if not found:
        names = sorted(filter(None, (entry.annotation(REF_NAME) for entry in entries)))
        raise NotFoundError(
            f"the archive has no image {selector!r}", hint=f"it has: {', '.join(names)}" if names else "its images have no names"
        )
    # One name may stand for several platforms without a nested index.
    fitting = [entry for entry in found if entry.platform is not None and platform.accepts(entry.platform)]
    return ((fitting or found)[0],)


def _parsed(text: str) -> Reference | None:
    try:
        return parse_reference(text)
    except ImageError:
        return None


def _replaces(new: dict[str, Any], old: object) -> bool:
    if not isinstance(old, dict):
        return False
    name = (new.get("annotations") or {}).get(REF_NAME)
    old_annotations = old.get("annotations")
    old_name = old_annotations.get(REF_NAME) if isinstance(old_annotations, dict) else None
    return name == old_name and (name is not None or new["digest"] == old.get("digest"))


def _at_most(stream: Stream, blob: Descriptor) -> Iterator[bytes]:
    """The stream's bytes, but only one more than the blob is said to have."""
    left = blob.size + 1
    while left and (data := stream.read(min(CHUNK, left))):
        left -= len(data)
        yield data


def _path(blob: Descriptor) -> str:
    algorithm, _, encoded = blob.digest.partition(":")
    return f"blobs/{algorithm}/{encoded}"
