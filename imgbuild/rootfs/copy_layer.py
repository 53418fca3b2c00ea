"""COPY and ADD as a layer at once: one pass writes the tar, its index and its blob, so that nothing is left to be captured."""

from __future__ import annotations

import os

from imgbuild.hints import TYPE_CHECKING, Callable, Iterator
from imgbuild.layer import sparse
from imgbuild.layer.compress import Write
from imgbuild.layer.failures import explained
from imgbuild.layer.index import NotIndexable, TarIndex
from imgbuild.layer.later import Later
from imgbuild.layer.tar import CHUNK
from imgbuild.light.contextlib import contextmanager
from imgbuild.rootfs.capture import Captured, looked_through, recorded
from imgbuild.rootfs.copy import CopyRequest
from imgbuild.rootfs.copy_entries import Unfit, entries
from imgbuild.rootfs.copy_perform import planned
from imgbuild.rootfs.copy_plan import Action, Extract, Metadata
from imgbuild.rootfs.copy_tar import Batches, CopyTar, Piece, root_entry
from imgbuild.rootfs.indexed import TarFile, commit_indexed
from imgbuild.snapshot import IndexedTarLower
from imgbuild.snapshot.union import UnionView
from imgbuild.store.store import Store
from imgbuild.store.trees import TAR

if TYPE_CHECKING:
    from imgbuild.layer.compression import Compression
    from imgbuild.layer.leaks import Leaks
    from imgbuild.store.blobs import BlobWriter

_WAITING = 3
_USUAL = (0o755, 0, 0, ())


def copy_layer(
    store: Store,
    request: CopyRequest,
    parents: UnionView,
    compression: Compression,
    *,
    rooted: bool = True,
    check: Callable[[], None],
    begun: Callable[[BlobWriter], object] | None = None,
    leaks: Leaks | None = None,
) -> tuple[IndexedTarLower, Captured] | None:
    """The copy above `parents` as a lower and as a layer, both in the store, as `perform_copy` and `capture` would make them; None where
    only they can. For stores whose indexed tars can be mounted (rootfs.indexed.usable). `begun` is told of the blob before anything is
    written to it, and `leaks` looks for secrets, as for `capture`."""
    with explained(f"the destination {request.destination!r}"):
        destination = planned(request, parents)
        actions = destination.take()
        if any(isinstance(action, Extract) for action in actions):
            return None
        try:
            return _Making(store, parents, compression, rooted, check, begun, leaks).make(actions, dict(destination.directories()))
        except (Unfit, NotIndexable):
            return None


class _Making:
    def __init__(
        self,
        store: Store,
        parents: UnionView,
        compression: Compression,
        rooted: bool,
        check: Callable[[], None],
        begun: Callable[[BlobWriter], object] | None,
        leaks: Leaks | None,
    ) -> None:
        self._store = store
        self._parents = parents
        self._compression = compression
        self._rooted = rooted
        self._check = check
        self._begun = begun
        self._leaks = leaks

    def make(self, actions: list[Action], directories: dict[str, Metadata]) -> tuple[IndexedTarLower, Captured]:
        store, root = self._store, directories["/"]
        index = TarIndex()
        index.add(root_entry(root), None)
        with store.temporary("copy") as scratch:
            directory = scratch / "snapshot"
            directory.mkdir()
            with TarFile(directory / TAR) as tar, store.blobs.writer(hashing=False) as blob:
                if self._begun is not None:
                    self._begun(blob)

                image = b""

                def produce(feed: Write) -> None:
                    nonlocal image
                    with sink.feeding(feed):
                        copy.write(entries(actions, directories, self._parents, copy.unchanged))
                        image = index.image(batches.position)  # while the last of it is compressed

                sink = _Sink(tar)
                batches = Batches(sink.put)
                copy = CopyTar(self._parents, batches, index, self._check, rooted=self._rooted)
                made, found = looked_through(self._leaks, produce, blob, self._compression)
                blob.commit_as(made.digest)
            # Overlay takes the top directory from the topmost lower: one that is not in the layer is that of these parents.
            exact = copy.root_written or (root.mode, root.owner.uid, root.owner.gid, root.xattrs) == _USUAL
            with store.index.together():
                layer = recorded(store, made, self._compression)
                lower = commit_indexed(store, directory, image, os.urandom(16).hex(), layer.diff_id if exact else None)
        return lower, Captured(layer, made.uncompressed_size, copy.entries, exact, found)


class _Sink:
    """Takes pieces of a tar to its file and onwards, by another thread where there are several."""

    def __init__(self, tar: TarFile) -> None:
        self._tar = tar
        self._feed: Write = lambda data: None
        self._later: Later[Piece] = Later("imgbuild-copy", self._store, _WAITING)

    @contextmanager
    def feeding(self, feed: Write) -> Iterator[None]:
        """What is put goes to `feed`, too, all of it by the end."""
        self._feed = feed
        with self._later:
            yield

    def put(self, piece: Piece) -> None:
        """Take the next piece; waits while too many are under way."""
        self._later.put(piece)

    def _store(self, piece: Piece) -> None:
        if isinstance(piece, int):
            self._tar.skip(piece)
            for zeros in sparse.zeros(piece, CHUNK):
                self._feed(zeros)
        else:
            for data in piece:
                self._tar.write(data)
                self._feed(data)
