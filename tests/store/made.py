"""Images and children made by hand: what tests put into a store, and other processes that use it."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from imgbuild.oci.config import History, ImageConfig, RunConfig, config_bytes
from imgbuild.oci.digest import DiffID, digest_of
from imgbuild.oci.image import OCI_CONFIG, OCI_LAYER_GZIP, OCI_MANIFEST, Descriptor, Manifest, manifest_bytes
from imgbuild.oci.platform import Platform
from imgbuild.store.rows import LayerRow, SnapshotRow, StepRow
from imgbuild.store.store import Store
from imgbuild.store.trees import survey

PLATFORM = Platform("linux", "amd64")
REPOSITORY = Path(__file__).resolve().parents[2]


def layer_tar(files: dict[str, bytes]) -> bytes:
    """An uncompressed layer of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def put_layer(store: Store, files: dict[str, bytes]) -> tuple[Descriptor, DiffID]:
    """A layer's blob, with its row."""
    tar = layer_tar(files)
    data = gzip.compress(tar, mtime=0)
    blob = Descriptor(OCI_LAYER_GZIP, store.blobs.put(data), len(data))
    diff_id = DiffID(digest_of(tar))
    store.index.record_layer(LayerRow(diff_id, blob, len(tar), "gzip"))
    return blob, diff_id


def put_image(store: Store, *contents: dict[str, bytes], created: str = "2024-01-02T03:04:05Z", label: str = "") -> Descriptor:
    """An image with one layer for each of `contents`, without a name."""
    layers = [put_layer(store, files) for files in contents]
    history = tuple(History(created, f"COPY layer {number}") for number, _ in enumerate(layers))
    config = config_bytes(
        ImageConfig(
            PLATFORM,
            RunConfig(env=("PATH=/bin",), cmd=("sh",), labels=(("label", label),) if label else ()),
            tuple(diff_id for _, diff_id in layers),
            (*history, History(created, "CMD sh", comment="last", empty_layer=True)),
            created,
        )
    )
    config_blob = Descriptor(OCI_CONFIG, store.blobs.put(config), len(config))
    data = manifest_bytes(Manifest(config_blob, tuple(blob for blob, _ in layers)))
    return Descriptor(OCI_MANIFEST, store.blobs.put(data), len(data), PLATFORM)


def put_snapshot(store: Store, identity: str, diff_id: DiffID | None, files: dict[str, bytes]) -> Path:
    """A committed snapshot, with its row; its directory lower."""
    with store.temporary("made") as directory:
        (directory / "fs").mkdir()
        for name, data in files.items():
            path = directory / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        path = store.snapshot_path(identity)
        os.rename(directory, path.parent)
    seen = survey(path)
    store.index.record_snapshot(SnapshotRow(identity, diff_id, seen.size, seen.inodes, seen.tree))
    return path


def put_step(store: Store, diff_id: DiffID | None, snapshot: str = "", text: str = "") -> StepRow:
    """A step's row, under the key of its record."""
    record = b'{"step":"%b"}' % (text or snapshot or str(diff_id)).encode()
    row = StepRow(digest_of(record), record, diff_id, snapshot, diff_id is None, "{}", "build-1", store.clock())
    store.index.record_step(row)
    return row


def start_child(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs `code`; it talks by its standard streams."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def run_child(code: str, *arguments: object) -> str:
    """Run `code` to its end: what it printed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, check=True).stdout
