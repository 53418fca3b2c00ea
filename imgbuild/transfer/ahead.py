"""Layers sent to a registry while they are made.

Blobs without a manifest name nothing: whatever becomes of the build, nobody sees them. What fails here is sent by the push, as if this had
not been tried.
"""

from __future__ import annotations

import time

from imgbuild.errors import ImgbuildError
from imgbuild.hints import TYPE_CHECKING, Callable, Iterator, Self, TracebackType
from imgbuild.light import threading
from imgbuild.light.contextlib import suppress
from imgbuild.oci.digest import Digest
from imgbuild.oci.reference import Reference
from imgbuild.store.rows import SourceRow
from imgbuild.store.store import Store
from imgbuild.transfer.parallel import Stop

if TYPE_CHECKING:
    from imgbuild.registry.client import RegistryClient
    from imgbuild.registry.repository import Repository
    from imgbuild.store.blobs import BlobWriter
    from imgbuild.store.following import Followed

_LEAST = 8 << 20
"""Smaller blobs are sent whole, soon enough, and perhaps the registry has them."""

_BLOCK = 1 << 20
_POLL = 0.2
_PATIENCE = 2.0
_AT_ONCE = 4


class Ahead:
    """All that one build sends ahead to the repository that it is pushed to. Thread-safe; leaving it ends what is under way."""

    def __init__(self, store: Store, client: Callable[[], RegistryClient], destination: Reference) -> None:
        self._store = store
        self._client = client
        self._destination = destination
        self._lock = threading.Lock()
        self._stop = Stop()
        self._under_way: list[Sending] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        end = time.monotonic() + _PATIENCE
        for sending in self._under_way:
            sending.thread.join(max(0.0, end - time.monotonic()))

    def begin(self, writer: BlobWriter) -> None:
        """Send what `writer` will be given; it must be at its beginning."""
        with self._lock:
            if sum(sending.thread.is_alive() for sending in self._under_way) < _AT_ONCE:
                self._under_way.append(Sending(self._store, self._repository, writer.follow(), self._stop))

    def sending(self, repository: Repository, digest: Digest) -> Sending | None:
        """What sends a finished blob to this repository, if anything does."""
        if (repository.registry, repository.name) != (self._destination.registry, self._destination.repository):
            return None
        return next((each for each in self._under_way if each.digest == digest), None)

    def _repository(self) -> Repository:
        with self._lock:
            return self._client().repository(self._destination.registry, self._destination.repository)


class Sending:
    """One blob on its way."""

    def __init__(self, store: Store, repository: Callable[[], Repository], followed: Followed, stop: Stop) -> None:
        self._followed = followed
        self._done = 0
        self._sent = False
        self._store = store
        self._repository = repository
        self._stop = stop
        self.thread = threading.Thread(target=self._run, name="imgbuild-ahead", daemon=True)
        self.thread.start()

    @property
    def digest(self) -> Digest | None:
        """What it is, once it is complete."""
        return self._followed.digest

    def finish(self, on_bytes: Callable[[int], None]) -> bool:
        """Wait for its end; whether it was sent, and is there now."""
        while self.thread.is_alive():
            self.thread.join(_POLL)
            on_bytes(self._done)
        return self._sent

    def _run(self) -> None:
        with self._followed, suppress(ImgbuildError, OSError):
            if self._followed.wait(_LEAST) < _LEAST:
                return
            repository = self._repository()
            self._sent = repository.push_growing(self._blocks, self._complete)
            if self._sent:
                self._store.index.record_source(SourceRow(self._complete(), repository.registry, repository.name))

    def _blocks(self) -> Iterator[bytes]:
        stream, self._done = self._followed.stream(), 0
        while data := stream.read(_BLOCK):
            self._stop.check()
            yield data
            self._done += len(data)

    def _complete(self) -> Digest:
        assert self._followed.digest is not None
        return self._followed.digest
