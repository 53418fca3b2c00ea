"""After a reboot: what a power cut may have left half-written is doubted, once.

Blobs say themselves whether they are known to be on disk (`blobs`); those that are not are read and compared. Snapshots are
never synced (gigabytes, which can be unpacked again from their layers), and no cheap look tells a file that was overwritten in
place and lost from one that was not; so the snapshots of before the reboot are dropped, and made again from their blobs when they
are next needed. A step whose layer is left nowhere is forgotten.

Snapshots that a container stands on stay where they are: their image may be gone, so that nothing could make them again, and what
looks like a reboot may be another machine that sees the same store, with the container running. Their records stay only where
a survey finds each file as it was recorded, by size and mtime.
"""

from __future__ import annotations

import os

from imgbuild.errors import CorruptError, StoreError
from imgbuild.hints import TYPE_CHECKING
from imgbuild.light import json
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import Digest
from imgbuild.store.blobs import Blobs
from imgbuild.store.failures import IndexDamagedError, explained
from imgbuild.store.temporary import Scratch
from imgbuild.store.trees import survey_snapshot

if TYPE_CHECKING:
    from imgbuild.store.index import Index
    from imgbuild.store.rows import SnapshotRow

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def was_booted_since(root: Path) -> bool:
    """Whether the machine was started anew since the store was last made sure of."""
    try:
        return (root / "boot").read_text() != boot_id()
    except OSError:
        return True


def recover(root: Path, blobs: Blobs, index: Index, scratch: Scratch) -> None:
    """Make sure of the store. For who holds it alone; does nothing if another process has done it meanwhile."""
    if not was_booted_since(root):
        return
    snapshots = os.listdir(root / "snapshots")
    named = _named_by_containers(root / "containers")
    kept = {name for name in snapshots if named is None or name in named}
    from imgbuild.store.notes import forget_notes

    forget_notes(root)
    broken = [digest for digest in blobs if blobs.is_unsynced(digest) and not _is_whole(blobs, digest)]
    for digest in broken:
        blobs.remove(digest)
    blobs.make_durable(blobs)
    for name in snapshots:
        if name not in kept:
            scratch.discard(root / "snapshots" / name)
    for name in os.listdir(root / "sources"):  # never synced either, and fetched again when they are needed
        scratch.discard(root / "sources" / name)
    if (root / "index.db").exists():
        with suppress(IndexDamagedError):  # a damaged index is told about when it is asked, and made anew by fsck
            index.forget(
                layers=[row.blob.digest for row in index.layers() if not blobs.has(row.blob.digest)],
                snapshots=[row.id for row in index.snapshots() if row.id not in (named or ()) or not _is_as_recorded(root, row)],
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


def _named_by_containers(containers: Path) -> set[str] | None:
    """The snapshots that containers stand on, by their records, of which only that much is known here; None where a record can't be
    read, and any snapshot may be one."""
    found: set[str] = set()
    for path in containers.glob("*/container.json"):
        try:
            snapshots = json.loads(path.read_bytes())["snapshots"]
            if not isinstance(snapshots, list):
                return None
            found.update(snapshots)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
    return found


def _is_as_recorded(root: Path, row: SnapshotRow) -> bool:
    try:
        return bool(row.tree) and survey_snapshot(root / "snapshots" / row.id).tree == row.tree
    except StoreError:
        return False


def _write_boot_id(path: Path) -> None:
    """In place, which needs no space once the file is there; a torn or lost one only means to do it all again."""
    with explained(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(descriptor, os.write(descriptor, boot_id().encode()))
        finally:
            os.close(descriptor)


def boot_id() -> str:
    """What tells this start of the machine from others."""
    return _BOOT_ID.read_text()
