"""After a reboot: what a power cut may have left half-written is doubted, once.

Blobs say themselves whether they are known to be on disk (`blobs`); those that are not are read and compared. Snapshots are
never synced (gigabytes, which can be unpacked again from their layers), and no cheap look tells a file that was overwritten in
place and lost from one that was not; so the snapshots of before the reboot are dropped, and made again from their blobs when they
are next needed. A step whose layer is left nowhere is forgotten.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from imgbuild.errors import CorruptError
from imgbuild.oci.digest import Digest
from imgbuild.store.blobs import Blobs
from imgbuild.store.failures import IndexDamagedError, explained
from imgbuild.store.index import Index
from imgbuild.store.temporary import Scratch

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def was_booted_since(root: Path) -> bool:
    """Whether the machine was started anew since the store was last made sure of."""
    try:
        return (root / "boot").read_text() != _boot_id()
    except OSError:
        return True


def recover(root: Path, blobs: Blobs, index: Index, scratch: Scratch) -> None:
    """Make sure of the store. For who holds it alone; does nothing if another process has done it meanwhile."""
    if not was_booted_since(root):
        return
    snapshots = os.listdir(root / "snapshots")
    broken = [digest for digest in blobs if blobs.is_unsynced(digest) and not _is_whole(blobs, digest)]
    for digest in broken:
        blobs.remove(digest)
    blobs.make_durable(blobs)
    for name in snapshots:
        scratch.discard(root / "snapshots" / name)
    if (root / "index.db").exists():
        with suppress(IndexDamagedError):  # a damaged index is told about when it is asked, and made anew by fsck
            index.forget(
                layers=[row.blob.digest for row in index.layers() if not blobs.has(row.blob.digest)],
                snapshots=[row.id for row in index.snapshots()],
            )
            held = {row.diff_id for row in index.layers()}
            index.forget(steps=[row.key for row in index.steps() if not row.empty and row.diff_id not in held])
    _write_boot_id(root / "boot")


def _is_whole(blobs: Blobs, digest: Digest) -> bool:
    try:
        blobs.verify(digest)
    except CorruptError:
        return False
    return True


def _write_boot_id(path: Path) -> None:
    """In place, which needs no space once the file is there; a torn or lost one only means to do it all again."""
    with explained(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(descriptor, os.write(descriptor, _boot_id().encode()))
        finally:
            os.close(descriptor)


def _boot_id() -> str:
    return _BOOT_ID.read_text()
