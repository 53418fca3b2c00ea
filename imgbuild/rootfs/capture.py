"""An upperdir -> a layer in the store: deterministic tar, both digests in one pass, the blob, and what the index shall know.

In two parts. `settle`, when a step has ended and nothing has its upper as a lower yet: quick, it reads no contents but where it must.
`capture`, at any time later, beside steps that use the same directory as a lower: it only reads.
"""

from __future__ import annotations

from imgbuild.hints import TYPE_CHECKING, Callable
from imgbuild.layer.compress import Compressed, Write, compress, decompressing, parameters
from imgbuild.layer.compression import Compression
from imgbuild.layer.later import Later
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import DiffID, Sha256
from imgbuild.oci.image import OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor, Layer
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.seen import Seen
from imgbuild.snapshot.union import UnionView
from imgbuild.store.rows import LayerRow, SnapshotRow
from imgbuild.store.store import Store
from imgbuild.store.trees import Survey, survey
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.layer.leaks import Leaks
    from imgbuild.store.blobs import BlobWriter

_WAITING = 3
"""Frames that wait to be looked through."""
_MEDIA_TYPES = {"zstd": OCI_LAYER_ZSTD, "gzip": OCI_LAYER_GZIP, "none": OCI_LAYER}


@dataclass(frozen=True, slots=True)
class Captured:
    """A layer and its sizes in bytes; how many tar `entries` it has (none: nothing changed), and whether the directory holds exactly
    the layer, so that it was recorded as its lower on any parents. `leaks` are the secrets that were found in it, and may be there."""

    layer: Layer
    uncompressed_size: int
    entries: int
    exact: bool
    leaks: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return self.entries == 0


def settle(upper: Path, parents: Lowers, epoch: int | None, *, rootless: bool = False, seen: Seen | None = None) -> None:
    """Give an upperdir the mtimes of its layer-to-be (see layer.diff), before anything uses it as a lower."""
    from imgbuild.layer.diff import clamp

    with UnionView(parents, userxattr=rootless, seen=seen) as view:
        clamp(upper, epoch, view, rootless=rootless)


def capture(
    store: Store,
    lower: DirectoryLower,
    parents: Lowers,
    epoch: int | None,
    compression: Compression,
    *,
    rootless: bool = False,
    rooted: bool = True,
    check: Callable[[], None] | None = None,
    seen: Seen | None = None,
    begun: Callable[[BlobWriter], object] | None = None,
    leaks: Leaks | None = None,
) -> Captured:
    """Make the layer that `lower`, a settled directory that nothing writes to, is above `parents`, and record it. One that is not
    `rooted` leaves the root directory as it is on whatever it is put.

    A lower that is one of the store's snapshots gets its row, too. Idempotent: the same directory gives the same blob.
    `check` is called often, and ends the capture by raising. `begun` is told of the blob before anything is written to it. LeakError, and
    no blob, where `leaks` looks for what is in the layer, and may not be.
    """
    from imgbuild.layer.diff import changes
    from imgbuild.layer.pack import pack

    entries, exact = 0, True

    def left_out(path: bytes) -> None:
        nonlocal exact
        exact = False

    with UnionView(parents, userxattr=rootless, seen=seen) as view, store.blobs.writer(hashing=False) as blob:
        if begun is not None:
            begun(blob)

        def produce(write: Write) -> None:
            nonlocal entries
            found = changes(lower.path, view, epoch, rootless=rootless, on_left_out=left_out)
            found = found if rooted else (change for change in found if change.path)
            entries = pack(found, lower.path, write if check is None else _checked(write, check))

        made, found = looked_through(leaks, produce, blob, compression)
        blob.commit_as(made.digest)
    looked = survey(lower.path) if lower.path == store.snapshot_path(lower.path.parent.name) else None
    with store.index.together():
        captured = Captured(recorded(store, made, compression), made.uncompressed_size, entries, exact, found)
        if looked is not None:
            _record(store, lower, captured, looked)
    return captured


def would_be(upper: Path, parents: Lowers, epoch: int | None, *, rootless: bool = False, seen: Seen | None = None) -> DiffID:
    """The identity of the layer that a settled upperdir would become; nothing is kept."""
    from imgbuild.layer.diff import changes
    from imgbuild.layer.pack import pack

    hasher = Sha256()
    with UnionView(parents, userxattr=rootless, seen=seen) as view:
        pack(changes(upper, view, epoch, rootless=rootless), upper, hasher.update)
    return DiffID(f"sha256:{hasher.hexdigest()}")


def looked_through(
    leaks: Leaks | None, produce: Callable[[Write], object], blob: BlobWriter, compression: Compression
) -> tuple[Compressed, tuple[str, ...]]:
    """Compress into the blob, and look for secrets meanwhile: those that were found and may be there. LeakError where others are."""
    search = leaks.search() if leaks is not None else None
    if search is None:
        return compress(produce, blob.write, compression), ()
    with Later("imgbuild-search", search.look, _WAITING) as later:
        made = compress(produce, blob.write, compression, later.put)
    with open(blob.path, "rb") as stream:
        return made, search.judge(lambda: decompressing(stream))


def recorded(store: Store, made: Compressed, compression: Compression) -> Layer:
    """The layer whose blob has been committed, noted in the index."""
    layer = Layer(Descriptor(_MEDIA_TYPES[compression.kind], made.digest, made.size), made.diff_id)
    store.index.record_layer(LayerRow(made.diff_id, layer.blob, made.uncompressed_size, parameters(compression)))
    return layer


def _checked(write: Write, check: Callable[[], None]) -> Write:
    def write_on(data: bytes | memoryview) -> None:
        check()
        write(data)

    return write_on


def _record(store: Store, lower: DirectoryLower, captured: Captured, seen: Survey) -> None:
    # A directory that holds more than its layer would show it on other parents: found again by its step, not by its diffID.
    diff_id = captured.layer.diff_id if captured.exact else None
    store.index.record_snapshot(SnapshotRow(lower.path.parent.name, diff_id, seen.size, seen.inodes, seen.tree))
