"""From the store to a registry: only what it lacks, manifest last, so that whoever sees the name sees a whole image."""

from __future__ import annotations

from imgbuild.errors import NotFoundError, UsageError
from imgbuild.hints import Callable
from imgbuild.light.functools import partial
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import Descriptor
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import DEFAULT_TAG, Reference
from imgbuild.registry.client import RegistryClient
from imgbuild.registry.repository import Repository
from imgbuild.store.rows import SourceRow
from imgbuild.store.store import Store
from imgbuild.transfer.ahead import Ahead
from imgbuild.transfer.convert import Conversion, Converted, convert
from imgbuild.transfer.events import BlobAdvanced, BlobFinished, BlobStarted, OnEvent, TransferFinished, TransferStarted, ignore
from imgbuild.transfer.images import read_image
from imgbuild.transfer.indexes import convert_index, whole_index
from imgbuild.transfer.parallel import Stop, in_parallel
from imgbuild.values import dataclass

_MAX_MOUNT_SOURCES = 2
_MAX_LAYERS = 127


@dataclass(frozen=True, slots=True)
class PushedBlob:
    """What became of one blob: `how` is "sent", "mounted" or "present" (the registry had it)."""

    digest: Digest
    size: int
    how: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """A finished push: what the name names in the registry now, and what became of each blob."""

    reference: Reference
    descriptor: Descriptor
    blobs: tuple[PushedBlob, ...]


@dataclass(frozen=True, slots=True)
class Pusher:
    """What every push of one command needs. `ahead`: what is being sent already."""

    store: Store
    client: RegistryClient
    on_event: OnEvent = ignore
    cancelled: Callable[[], bool] | None = None
    ahead: Ahead | None = None

    def push(
        self,
        source: Reference,
        destination: Reference | None = None,
        *,
        conversion: Conversion = Conversion(),
        platform: Platform | None = None,
    ) -> Pushed:
        """Push the image that `source` names in the store, under `destination` (else under the same name).

        `platform` chooses where the name is that of an index, which is else pushed as a whole if all of it is here.
        NotFoundError, RegistryError, AuthError, CorruptError.
        """
        with self.store.lease(cancelled=self.cancelled):
            descriptor = self.store.tags.get(source)
            if descriptor is None:
                raise NotFoundError(f"there is no image {source.familiar()} in the store", hint="`imgbuild images` lists what there is")
            return self.push_image(descriptor, destination or source, conversion=conversion, platform=platform)

    def push_image(
        self,
        descriptor: Descriptor,
        destination: Reference,
        *,
        conversion: Conversion = Conversion(),
        platform: Platform | None = None,
        by_digest: bool = False,
    ) -> Pushed:
        """As `push`, for an image by its descriptor, which needs no name. `by_digest`: it is given no tag. Call under a lease."""
        self.on_event(TransferStarted("push", destination.familiar(), descriptor.digest))
        stop = Stop(self.cancelled)
        children, data, pushed = self._converted(descriptor, destination, conversion, platform, stop)
        for child in children:
            if len(child.manifest.layers) > _MAX_LAYERS:
                raise UsageError(f"{destination.familiar()} has {len(child.manifest.layers)} layers; docker reads at most {_MAX_LAYERS}")
        if destination.digest is not None and destination.digest != pushed.digest:
            raise UsageError(f"{destination} names another image than the one that would be pushed, {pushed.digest}")
        # Nobody shall be told of a push whose source a power cut could take away.
        self.store.flush()
        repository = self.client.repository(destination.registry, destination.repository)
        blobs: dict[Digest, PushedBlob] = {}
        for child in children:
            blobs |= {blob.digest: blob for blob in self._push_blobs(repository, child, stop)}
            if child.descriptor.digest != pushed.digest:
                repository.push_manifest(child.descriptor.digest, child.data, child.descriptor.media_type)
        tag = pushed.digest if by_digest else destination.digest or destination.tag or DEFAULT_TAG
        repository.push_manifest(tag, data, pushed.media_type)
        self.on_event(TransferFinished("push", destination.familiar(), pushed.digest))
        return Pushed(destination, pushed, tuple(blobs.values()))

    def _converted(
        self, descriptor: Descriptor, destination: Reference, conversion: Conversion, platform: Platform | None, stop: Stop
    ) -> tuple[tuple[Converted, ...], bytes, Descriptor]:
        """What is to be sent: manifests, then what the name shall name, an index of them or the only one of them."""
        workers = self.client.settings.parallel
        index = whole_index(self.store, descriptor) if platform is None else None
        if index is not None:
            made = convert_index(self.store, index, descriptor, conversion, self.on_event, stop, workers)
            return made.children, made.data, made.descriptor
        image = read_image(self.store, descriptor, platform, destination)
        converted = convert(self.store, image, conversion, self.on_event, stop, workers)
        return (converted,), converted.data, converted.descriptor

    def _push_blobs(self, repository: Repository, converted: Converted, stop: Stop) -> tuple[PushedBlob, ...]:
        wanted = {blob.digest: blob for blob in (*converted.manifest.layers, converted.manifest.config)}
        done: dict[Digest, PushedBlob] = {}

        def push(blob: Descriptor) -> None:
            kind = "config" if blob.digest == converted.manifest.config.digest else "layer"
            how = self._push_blob(repository, blob, kind, stop)
            done[blob.digest] = PushedBlob(blob.digest, blob.size, how)
            self.store.index.record_source(SourceRow(blob.digest, repository.registry, repository.name))
            self.on_event(BlobFinished(blob.digest, blob.size, how))

        layers = [blob for blob in wanted.values() if blob.digest != converted.manifest.config.digest]
        in_parallel([partial(push, blob) for blob in layers], self.client.settings.parallel, stop)
        push(converted.manifest.config)
        return tuple(done[digest] for digest in wanted)

    def _push_blob(self, repository: Repository, blob: Descriptor, kind: str, stop: Stop) -> str:
        stop.check()

        def advanced(count: int) -> None:
            stop.check()
            self.on_event(BlobAdvanced(blob.digest, count))

        sending = self.ahead.sending(repository, blob.digest) if self.ahead is not None else None
        if sending is not None:
            self.on_event(BlobStarted(blob.digest, blob.size, kind))
            if sending.finish(advanced):
                return "sent"
        if repository.blob_size(blob.digest) is not None:
            return "present"
        known = self.store.index.sources(blob.digest)
        mount_from = [row.repository for row in known if row.registry == repository.registry and row.repository != repository.name]
        self.on_event(BlobStarted(blob.digest, blob.size, kind))
        return repository.push_blob(
            blob, lambda: self.store.blobs.open(blob.digest), mount_from=mount_from[:_MAX_MOUNT_SOURCES], on_bytes=advanced
        )
