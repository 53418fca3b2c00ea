"""A base image out of a root file system's tar: one layer in normal form, so that one tree gives one digest.

Whatever wrote the tar, the same files give the same bytes: compression, the order of members and the spelling of their names have
no part in it. See `tree` for what is refused.
"""

from __future__ import annotations

from typing import BinaryIO

from imgbuild.errors import LayerError, UsageError
from imgbuild.hints import Callable
from imgbuild.layer.compress import Write, decompressing
from imgbuild.layer.compression import Compression
from imgbuild.layer.tar import Stream, TarWriter, read_tar
from imgbuild.light.pathlib import Path
from imgbuild.oci.config import History, ImageConfig, RunConfig, config_bytes
from imgbuild.oci.image import OCI_CONFIG, OCI_MANIFEST, Descriptor, Layer, Manifest, manifest_bytes
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import Reference
from imgbuild.oci.times import format_time
from imgbuild.store.failures import explained
from imgbuild.store.store import Store
from imgbuild.transfer.events import BlobFinished, OnEvent, TransferFinished, TransferStarted, ignore
from imgbuild.transfer.images import Image, read_image
from imgbuild.transfer.layers import make_layer
from imgbuild.transfer.parallel import Stop
from imgbuild.transfer.sources import refuse_devices
from imgbuild.transfer.tree import Tree
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Imported:
    """What an image is told of besides its files. `epoch` is its creation time and the latest of its mtimes, in seconds since
    1970; None takes the newest mtime of the tar. `comment` goes into the history."""

    platform: Platform
    config: RunConfig = RunConfig()
    epoch: int | None = None
    comment: str = ""
    compression: Compression = Compression()


def import_rootfs(
    store: Store,
    location: Path | BinaryIO,
    name: Reference | None,
    settings: Imported,
    *,
    on_event: OnEvent = ignore,
    cancelled: Callable[[], bool] | None = None,
) -> Image:
    """Make an image of a tar (at a path, or in a stream that stays the caller's; compressed or not) and let `name` name it.

    LayerError where the tar is malformed or hostile; then nothing is named, and nothing of it has touched a file system.
    """
    stop = Stop(cancelled)
    shown = name.familiar() if name is not None else "an image without a name"
    on_event(TransferStarted("import", shown))
    with store.lease(cancelled=cancelled):
        if isinstance(location, Path):
            try:
                with open(location, "rb", buffering=0) as file:
                    refuse_devices(file, str(location))
                    layer, created = _layer(store, file, settings, stop)
            except IsADirectoryError:
                raise UsageError(
                    f"{location} is a directory", hint="give it as a tar: `tar -C DIR -c . | imgbuild import - NAME`"
                ) from None
            except OSError as error:
                raise UsageError(f"can't read {location}: {error.strerror}") from None
        else:
            refuse_devices(location, "what is to be imported")
            layer, created = _layer(store, location, settings, stop)
        on_event(BlobFinished(layer.blob.digest, layer.blob.size, "converted"))
        descriptor = _image(store, layer, created, settings)
        if name is not None:
            store.tags.set(name, descriptor)
        else:
            store.tags.add_untagged(descriptor)
        image = read_image(store, descriptor, None, name)
    on_event(TransferFinished("import", shown, descriptor.digest))
    return image


def _layer(store: Store, stream: Stream, settings: Imported, stop: Stop) -> tuple[Layer, int]:
    with store.temporary("import") as directory, explained(directory), open(directory / "content", "w+b") as spool:
        tree = Tree(spool)
        for entry, content in read_tar(decompressing(stream)):
            stop.check()
            tree.add(entry, content)
        if tree.newest is None:
            raise LayerError("the tar is empty", hint="a root file system has at least one file")

        def produce(write: Write) -> None:
            writer = TarWriter(write)
            tree.write(writer, settings.epoch, stop.check)
            writer.finish()

        created = settings.epoch if settings.epoch is not None else max(0, tree.newest)
        return make_layer(store, produce, settings.compression), created


def _image(store: Store, layer: Layer, created: int, settings: Imported) -> Descriptor:
    time = format_time(created)
    config = config_bytes(
        ImageConfig(
            platform=settings.platform,
            config=settings.config,
            diff_ids=(layer.diff_id,),
            history=(History(created=time, created_by="imgbuild import", comment=settings.comment),),
            created=time,
        )
    )
    described = Descriptor(OCI_CONFIG, store.blobs.put(config), len(config))
    manifest = manifest_bytes(Manifest(described, (layer.blob,)))
    return Descriptor(OCI_MANIFEST, store.blobs.put(manifest), len(manifest))
