"""Images made by hand, and what tests of transfers look at."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from registry.support import client_for
from registry_mock.client import Mock

from imgbuild.oci.digest import DiffID, Digest, digest_of
from imgbuild.oci.image import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    canonical_json,
    index_bytes,
    manifest_bytes,
)
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import Reference, parse_reference
from imgbuild.store.rows import LayerRow
from imgbuild.store.store import Store
from imgbuild.transfer.events import BlobFinished, TransferEvent

__all__ = ["AMD64", "ARM64", "Made", "Seen", "client_for", "config_of", "index_of", "make", "put_image", "ref", "serve", "tar_of"]

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


class Seen:
    """Collects events."""

    def __init__(self) -> None:
        self.events: list[TransferEvent] = []

    def __call__(self, event: TransferEvent) -> None:
        self.events.append(event)

    def how(self) -> list[str]:
        """What became of the blobs, sorted."""
        return sorted(event.how for event in self.events if isinstance(event, BlobFinished))


class Made:
    """An image's bytes: its blobs by digest, and its manifest."""

    def __init__(self, layers: Sequence[bytes], diff_ids: Sequence[str], config: bytes, manifest: bytes) -> None:
        self.layers = tuple(layers)
        self.diff_ids = tuple(diff_ids)
        self.config = config
        self.manifest = manifest

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(OCI_MANIFEST, digest_of(self.manifest), len(self.manifest))

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.manifest)
        return found


def ref(mock: Mock | None, name: str = "team/app:v1") -> Reference:
    return parse_reference(f"{mock.authority}/{name}" if mock is not None else name)


def tar_of(files: dict[str, bytes]) -> bytes:
    """A tar of files, for content only."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def config_of(diff_ids: Sequence[str], platform: Platform = AMD64) -> bytes:
    fields = {"architecture": platform.architecture, "os": platform.os, "config": {}}
    return canonical_json({**fields, "rootfs": {"type": "layers", "diff_ids": list(diff_ids)}})


def make(*contents: bytes, platform: Platform = AMD64, compress: bool = True) -> Made:
    """An image whose layers hold one file each."""
    tars = [tar_of({"file": content}) for content in contents or (b"one", b"two")]
    diff_ids = ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]
    layers = [gzip.compress(tar, mtime=0) for tar in tars] if compress else tars
    kind = OCI_LAYER_GZIP if compress else OCI_LAYER
    config = config_of(diff_ids, platform)
    described = tuple(Descriptor(kind, digest_of(layer), len(layer)) for layer in layers)
    manifest = manifest_bytes(Manifest(Descriptor(OCI_CONFIG, digest_of(config), len(config)), described))
    return Made(layers, diff_ids, config, manifest)


def serve(mock: Mock, made: Made, name: str = "team/app", tag: str = "v1") -> Made:
    """Put an image into a registry by hand."""
    for blob in (*made.layers, made.config):
        mock.push(name, blob)
    assert mock.put(name, tag, made.manifest, OCI_MANIFEST).status == 201
    return made


def put_image(store: Store, made: Made, name: str) -> Descriptor:
    """Put an image into a store by hand."""
    for blob in (*made.layers, made.config, made.manifest):
        store.blobs.put(blob)
    document = made.document
    for blob, diff_id, tar in zip(made.layers, made.diff_ids, document["layers"], strict=True):
        size = len(gzip.decompress(blob)) if blob[:2] == b"\x1f\x8b" else len(blob)
        described = Descriptor(tar["mediaType"], digest_of(blob), len(blob))
        store.index.record_layer(LayerRow(DiffID(Digest(diff_id)), described, size))
    store.tags.set(parse_reference(name), made.descriptor)
    return made.descriptor


def index_of(*entries: tuple[Made, Platform]) -> bytes:
    return index_bytes(Index(tuple(replace(made.descriptor, platform=platform) for made, platform in entries)))
