"""From a registry into the store: what a name means, its manifest and config, and the layers that the store lacks.

Local first: unless the policy says otherwise, a name that the store knows needs no network. Manifests are kept as the bytes
they were. A tag names the manifest of the platform that was asked for; a name with an index's digest names that index, of which
only the one platform is here. The name is set last, when all that it needs is there.
"""

from __future__ import annotations

from imgbuild.errors import CorruptError, ImageError, NotFoundError, RegistryError
from imgbuild.hints import TYPE_CHECKING, Callable, Iterator, Protocol
from imgbuild.light import threading
from imgbuild.light.contextlib import ExitStack, suppress
from imgbuild.light.enum import StrEnum
from imgbuild.light.functools import partial
from imgbuild.oci.image import INDEX_TYPES, MAX_MANIFEST_BYTES, Descriptor, Layer, Manifest, parse_index, parse_manifest
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import DEFAULT_TAG, Reference
from imgbuild.store.blobs import BlobWriter
from imgbuild.store.rows import SourceRow
from imgbuild.store.store import Store
from imgbuild.transfer.events import (
    BlobAdvanced,
    BlobFinished,
    BlobStarted,
    OnEvent,
    TransferFinished,
    TransferNotice,
    TransferStarted,
    ignore,
)
from imgbuild.transfer.images import Image, check_image, check_manifest_type, check_platform, choose, media_type_of, plain, read_image
from imgbuild.values import dataclass, replace

if TYPE_CHECKING:  # what needs no registry does not load the room
    from imgbuild.registry.endpoints import RegistrySettings
    from imgbuild.registry.repository import Repository
    from imgbuild.transfer.parallel import Stop

_MAX_DEPTH = 4


class Registries(Protocol):
    """What a pull needs of registry.client.RegistryClient."""

    @property
    def settings(self) -> RegistrySettings: ...

    def repository(self, registry: str, repository: str) -> Repository: ...


class Blob(Protocol):
    """A layer's blob on its way in: every stream of it begins at its beginning, and ends when it is verified and in the store."""

    def stream(self) -> Stream: ...


class Stream(Protocol):
    """Where bytes are read from: at most `size` of them, none only at the end."""

    def read(self, size: int, /) -> bytes: ...


class PullPolicy(StrEnum):
    """When the registry is asked: for what is missing; always; always, but what is here serves where it is down; never."""

    MISSING = "missing"
    ALWAYS = "always"
    NEWER = "newer"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Puller:
    """What every pull of one command needs. `client` None is offline: the network is never touched, whatever the policy.

    `use` is called in a thread of its own for each layer that is fetched, as soon as it begins to arrive; what is waited for there
    is interrupted when the third argument says so. It may be called again for a layer of which another place has better bytes.
    """

    store: Store
    client: Registries | None
    on_event: OnEvent = ignore
    cancelled: Callable[[], bool] | None = None
    use: Callable[[Layer, Blob, Callable[[], bool]], object] | None = None

    def resolve(
        self, reference: Reference, platform: Platform, policy: PullPolicy = PullPolicy.MISSING, *, strict: bool = True
    ) -> Image:
        """What `reference` means: with its manifest and config in the store, but perhaps not its layers, and no name set.

        Not `strict`: an image that its registry has for one platform only is taken, whatever that is.
        Call under `store.lease()`, and `fetch` under the same one. NotFoundError, ImageError, RegistryError, AuthError.
        """
        local = self._local(reference, platform)
        if local is not None and (policy in (PullPolicy.MISSING, PullPolicy.NEVER) or self.client is None):
            return local
        if self.client is None or policy is PullPolicy.NEVER:
            why = "and this is offline" if self.client is None else "and the pull policy is never"
            raise NotFoundError(
                f"{reference.familiar()} is not in the store for {platform}, {why}", hint="pull, build, load or import it first"
            )
        try:
            return self._remote(self.client, reference, platform, strict)
        except RegistryError as error:
            if policy is not PullPolicy.NEWER or local is None:
                raise self._for_others(reference, platform, error) or error from None
            self.on_event(TransferNotice(f"{reference.familiar()} is used as it is in the store: {error.message}"))
            return local

    def fetch(self, image: Image) -> None:
        """Bring the image's layers into the store, as far as they are not there."""
        missing = {layer.blob.digest: layer for layer in image.layers if not self.store.blobs.has(layer.blob.digest, layer.blob.size)}
        for layer in image.layers:
            if layer.blob.digest not in missing:
                self.on_event(BlobFinished(layer.blob.digest, layer.blob.size, "present"))
        if not missing:
            return
        if self.client is None or image.reference is None:
            raise NotFoundError(f"layers of {image.descriptor.digest} are missing from the store", hint="pull it again")
        repository = self.client.repository(image.reference.registry, image.reference.repository)
        from imgbuild.transfer.parallel import Stop, in_parallel

        stop = Stop(self.cancelled)
        work = [partial(self._fetch_layer, repository, layer, stop) for layer in missing.values()]
        in_parallel(work, self.client.settings.parallel, stop)

    def pull(self, reference: Reference, platform: Platform, policy: PullPolicy = PullPolicy.MISSING) -> Image:
        """Resolve, fetch, and let the name name it. The image is complete and on disk when this returns."""
        with self.store.lease(cancelled=self.cancelled):
            if self.client is not None:  # without a network nothing is pulled: it is here, or it is not
                self.on_event(TransferStarted("pull", reference.familiar(), reference.digest))
            image = self.resolve(reference, platform, policy)
            self.fetch(image)
            self.name(reference, image)
            self.on_event(TransferFinished("pull", reference.familiar(), image.descriptor.digest))
            return image

    def name(self, reference: Reference, image: Image, *, beside: bool = False) -> None:
        """Let `reference` name a fetched image, unless it does already.

        `beside`: an image for another platform that has the name keeps it, too. Then it is the index of both that is named.
        """
        named = self.store.tags.get(reference)
        target = image.tagged if reference.digest is not None else image.descriptor
        if beside and named is not None and named != target and image.tagged.media_type in INDEX_TYPES:
            entries = parse_index(self.store.blobs.read(image.tagged.digest), image.tagged.media_type).manifests
            if named == image.tagged or named.digest in {entry.digest for entry in entries}:
                target = image.tagged
        if named != target:
            self.store.tags.set(reference, target)

    # The store

    def _for_others(self, reference: Reference, platform: Platform, error: RegistryError) -> ImageError | None:
        """The error where an image of that name is here, but for other platforms, and the registry could not help."""
        descriptor = self.store.tags.get(reference)
        if descriptor is None:
            return None
        try:
            check_platform(read_image(self.store, descriptor, platform, reference), platform, reference.familiar())
        except ImageError as found:
            found.detail = f"nor could its registry be asked: {error.message}"
            return found
        except CorruptError:
            return None
        return None

    def _local(self, reference: Reference, platform: Platform) -> Image | None:
        """The image as the store has it; None where it is not there, not for the platform, or damaged."""
        descriptor = self.store.tags.get(reference)
        if descriptor is None:
            return None
        try:
            image = read_image(self.store, descriptor, platform, reference)
            check_platform(image, platform, reference.familiar())
        except (ImageError, CorruptError):
            # Whatever is wrong with it, another pull puts it right; offline, it has to be told.
            if self.client is None:
                raise
            return None
        if not image.complete(self.store):
            if self.client is None:
                raise CorruptError(
                    f"layers of {reference.familiar()} are missing from the store", hint="pull it again when there is a network"
                )
            return None
        return image

    # The registry

    def _remote(self, client: Registries, reference: Reference, platform: Platform, strict: bool) -> Image:
        name = reference.familiar()
        repository = client.repository(reference.registry, reference.repository)
        tagged, data = self._manifest(repository, reference.digest or reference.tag or DEFAULT_TAG)
        found = tagged
        for _ in range(_MAX_DEPTH):
            if found.media_type not in INDEX_TYPES:
                break
            chosen = choose(data, found, platform, name)
            found, data = self._child(repository, chosen)
        check_manifest_type(found.media_type, name)
        manifest = parse_manifest(data, found.media_type)
        check_image(manifest, name)
        self._config(repository, manifest, name)
        image = replace(read_image(self.store, found, None, reference), tagged=plain(tagged))
        if strict or tagged.media_type in INDEX_TYPES:
            check_platform(image, platform, name)
        return image

    def _manifest(self, repository: Repository, tag_or_digest: str) -> tuple[Descriptor, bytes]:
        fetched = repository.manifest(tag_or_digest)
        media_type = media_type_of(fetched.data, fetched.descriptor.media_type)
        digest = self.store.blobs.put(fetched.data)
        return Descriptor(media_type, digest, len(fetched.data)), fetched.data

    def _child(self, repository: Repository, chosen: Descriptor) -> tuple[Descriptor, bytes]:
        """A manifest that an index lists: out of the store where it is there, else fetched, of the size that was said."""
        if self.store.blobs.has(chosen.digest, chosen.size):
            with suppress(CorruptError):
                return plain(chosen), self.store.blobs.read(chosen.digest, MAX_MANIFEST_BYTES)
        if chosen.size > MAX_MANIFEST_BYTES:
            raise ImageError(f"the manifest {chosen.digest} is said to have {chosen.size} bytes, more than is read of any")
        data = repository.manifest(chosen.digest).data
        if len(data) != chosen.size:
            raise CorruptError(f"the manifest {chosen.digest} has {len(data)} bytes, but {chosen.size} in its index")
        self.store.blobs.put(data)
        return plain(chosen), data

    def _config(self, repository: Repository, manifest: Manifest, name: str) -> None:
        config = manifest.config
        if config.size > MAX_MANIFEST_BYTES:
            raise ImageError(f"the config of {name} is said to have {config.size} bytes", hint=f"at most {MAX_MANIFEST_BYTES} are read")
        if not self.store.blobs.has(config.digest, config.size):
            from imgbuild.transfer.parallel import Stop

            self._fetch_blob(repository, config, "config", Stop(self.cancelled))

    # Blobs

    def _fetch_layer(self, repository: Repository, layer: Layer, stop: Stop) -> None:
        from imgbuild.registry.problems import StatusError

        with ExitStack() as users:
            try:
                self._fetch_blob(repository, layer.blob, "layer", stop, partial(self._start_use, layer, stop, users))
            except StatusError as error:
                if error.status == 404 and layer.blob.urls:
                    raise ImageError(
                        f"the layer {layer.blob.digest} is a foreign layer, which its registry does not hold",
                        hint="it is not fetched from elsewhere; such layers are part of Windows images",
                        detail="\n".join(layer.blob.urls),
                    ) from None
                raise
            if self.use is not None:  # it takes a while to get to disk, and who uses it is not done yet
                self.store.blobs.make_durable((layer.blob.digest,))

    def _start_use(self, layer: Layer, stop: Stop, users: ExitStack, writer: BlobWriter) -> None:
        """Let a layer be used while it arrives; leaving `users` waits for the end of that."""
        if self.use is None:
            return
        blob = users.enter_context(writer.follow())
        thread = threading.Thread(target=self.use, args=(layer, blob, stop), name="imgbuild-arriving", daemon=True)
        thread.start()
        users.callback(thread.join)

    def _fetch_blob(
        self, repository: Repository, blob: Descriptor, kind: str, stop: Stop, begun: Callable[[BlobWriter], object] = lambda writer: None
    ) -> None:
        """Fetch one blob, once among all that want it. `begun` is told of the file that it is written to."""
        with self.store.lock(f"blob {blob.digest}", cancelled=stop):
            if self.store.blobs.has(blob.digest, blob.size):
                self.on_event(BlobFinished(blob.digest, blob.size, "present"))
                return
            self.on_event(BlobStarted(blob.digest, blob.size, kind))
            repository.fetch_blob(blob, partial(self._keep, blob, stop, begun))
            self.store.index.record_source(SourceRow(blob.digest, repository.registry, repository.name))
            self.on_event(BlobFinished(blob.digest, blob.size, "fetched"))

    def _keep(self, blob: Descriptor, stop: Stop, begun: Callable[[BlobWriter], object], chunks: Iterator[bytes]) -> None:
        with self.store.blobs.writer() as writer:
            begun(writer)
            for chunk in chunks:
                stop.check()
                writer.write(chunk)
                self.on_event(BlobAdvanced(blob.digest, writer.size))
            if writer.digest != blob.digest:
                raise CorruptError(
                    f"the registry sent other bytes for the blob {blob.digest}: their digest is {writer.digest}",
                    hint="something between here and there changes them, or the registry's storage is damaged",
                )
            writer.commit(blob.digest, blob.size)
