"""Form (b) of a lower in the store: a layer's tar, written while its entries are indexed; and whether it can be mounted here at all.

Like all snapshots it is never synced: after a power cut it is made again from the layer's blob.
"""

from __future__ import annotations

import os

from imgbuild.errors import StoreError
from imgbuild.hints import TracebackType
from imgbuild.layer.failures import explained
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.linux.features import Features
from imgbuild.oci.digest import DiffID
from imgbuild.snapshot import DirectoryLower, IndexedTarLower
from imgbuild.store.recovery import boot_id
from imgbuild.store.store import Store
from imgbuild.store.trees import INDEX, TAR, survey_snapshot, tar_name

_LONGEST_ROOT = 120
"""Bytes of the store's path: fsconfig(2) takes 255 of a device's."""


def usable(store: Store, features: Features) -> bool:
    """Whether lowers of this store in form (b) can be mounted: tried once after each boot, and remembered in the store."""
    if not features.erofs or len(os.fsencode(store.root)) > _LONGEST_ROOT:
        return False
    # A store that was copied may lie on a file system whose files can't be mounted.
    marker, boot = store.root / "erofs", f"{boot_id()} {os.stat(store.root).st_dev}"
    with suppress(OSError):
        if marker.read_text() == boot:
            return True
    if not _works(store, features):
        return False
    with suppress(OSError):
        marker.write_text(boot)
    return True


def indexed(store: Store, identity: str) -> IndexedTarLower:
    """The lower in form (b) that a snapshot of this name is."""
    directory = store.snapshot_directory(identity)
    with explained(directory):
        names = os.listdir(directory)
    more = tuple(directory / name for number in range(1, len(names)) if (name := tar_name(number)) in names)
    return IndexedTarLower(directory / TAR, directory / INDEX, more)


def commit_indexed(store: Store, directory: Path, image: bytes, identity: str, diff_id: DiffID | None) -> IndexedTarLower:
    """Make `directory`, which holds nothing but a complete ``layer.tar``, a snapshot, by the image that `TarIndex.image` gave; for a merged
    image it holds several tars.

    `directory` is below a temporary one of the store, and moves away. The caller holds the lock of what it makes.
    """
    from imgbuild.store.rows import SnapshotRow


    path = directory / INDEX
    with explained(path):
        path.write_bytes(image)
    seen = survey_snapshot(directory)
    give_place(store, directory, identity)
    store.index.record_snapshot(SnapshotRow(identity, diff_id, seen.size, seen.inodes, seen.tree))
    return indexed(store, identity)


def give_place(store: Store, directory: Path, identity: str) -> None:
    """Move a finished directory to where the snapshot of this name belongs."""
    target = store.snapshot_directory(identity)
    if target.exists():  # from a time before its record was lost
        store.discard(target)
    try:
        os.rename(directory, target)
    except OSError as error:
        raise StoreError(f"can't put a snapshot at {target}", detail=error.strerror) from error


class TarFile:
    """A tar in the making, at a path: what is written to it is counted. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = 0
        with explained(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> TarFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def skip(self, size: int) -> None:
        """Append so many zeros that take no place; not as the last."""
        self.size += size
        os.lseek(self._descriptor, size, os.SEEK_CUR)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of it."""
        self.size += len(data)
        rest = memoryview(data)
        with explained(self._path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def _works(store: Store, features: Features) -> bool:
    """By a small layer, mounted below an overlay and read."""
    from imgbuild.layer.index import TarIndex
    from imgbuild.layer.tar import BLOCK, TarEntry, TarWriter
    from imgbuild.linux.mounts import open_mount
    from imgbuild.snapshot.overlay import overlay_filesystem

    content = b"probe"
    try:
        with store.temporary("erofs") as scratch:
            index, entry = TarIndex(), TarEntry(b"file", "file", size=len(content))
            index.add(entry, BLOCK)
            with TarFile(scratch / TAR) as tar:
                writer = TarWriter(tar.write)
                writer.add(entry)
                writer.data(content)
                writer.finish()
            (scratch / INDEX).write_bytes(index.image(tar.size))
            (scratch / "empty").mkdir()
            lowers = (DirectoryLower(scratch / "empty"), IndexedTarLower(scratch / TAR, scratch / INDEX))
            mount = open_mount(overlay_filesystem(lowers, None, None, features=features))
            try:
                with open(os.open("file", os.O_RDONLY | os.O_CLOEXEC, dir_fd=mount), "rb") as file:
                    return file.read() == content
            finally:
                os.close(mount)
    except OSError:
        return False
