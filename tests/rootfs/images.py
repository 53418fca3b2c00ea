"""Layers put into a store by hand."""

from __future__ import annotations

import hashlib
import io

from imgbuild.layer.compress import compress
from imgbuild.layer.compression import Compression
from imgbuild.layer.tar import TarEntry, TarWriter
from imgbuild.oci.digest import DiffID, Digest
from imgbuild.oci.image import OCI_LAYER, Descriptor, Layer
from imgbuild.store.store import Store


def tar_of(*members: tuple[TarEntry, bytes]) -> bytes:
    """A tar of entries with their contents."""
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for entry, content in members:
        writer.add(entry)
        writer.data(content)
    writer.finish()
    return out.getvalue()


def file(name: str, content: bytes = b"") -> tuple[TarEntry, bytes]:
    return TarEntry(name.encode(), "file", 0o644, size=len(content)), content


def directory(name: str, mode: int = 0o755) -> tuple[TarEntry, bytes]:
    return TarEntry(name.encode(), "dir", mode), b""


def put_layer(store: Store, tar: bytes, compression: Compression | None = None) -> Layer:
    """A tar as a blob, compressed."""
    out = io.BytesIO()
    compress(lambda write: write(tar), out.write, compression or Compression())
    blob = out.getvalue()
    return layer_of(store.blobs.put(blob), len(blob), tar)


def layer_of(digest: Digest, size: int, tar: bytes) -> Layer:
    return Layer(Descriptor(OCI_LAYER, digest, size), DiffID("sha256:" + hashlib.sha256(tar).hexdigest()))
