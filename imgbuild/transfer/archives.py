"""Images in files: `save` and `load`, whatever the form: an OCI layout or docker's own, as a tar or a directory."""

from __future__ import annotations

from typing import BinaryIO, Literal

from imgbuild.errors import ImageError, NotFoundError, UsageError
from imgbuild.hints import Callable, Sequence
from imgbuild.layer.compression import Compression
from imgbuild.light.pathlib import Path
from imgbuild.oci.image import Annotations, Descriptor
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import Reference
from imgbuild.store.store import Store
from imgbuild.transfer.convert import Conversion, convert
from imgbuild.transfer.docker_archive import MANIFEST_FILE, DockerArchiveReader, DockerArchiveWriter
from imgbuild.transfer.events import OnEvent, TransferFinished, TransferStarted, ignore
from imgbuild.transfer.images import read_image
from imgbuild.transfer.indexes import convert_index, whole_index
from imgbuild.transfer.layout import INDEX_FILE, LAYOUT_FILE, LayoutReader, LayoutWriter
from imgbuild.transfer.outputs import open_output
from imgbuild.transfer.parallel import Stop
from imgbuild.transfer.sources import open_source
from imgbuild.values import dataclass

ArchiveFormat = Literal["oci", "docker"]

_HINT = "a root file system is brought in with `imgbuild import`"


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that a load brought in; `reference` None where the archive gives it no name that we can read."""

    reference: Reference | None
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Archivist:
    """What every save and load of one command needs."""

    store: Store
    on_event: OnEvent = ignore
    cancelled: Callable[[], bool] | None = None
    workers: int = 4
    compression: Compression = Compression()
    """How layers are stored that an archive holds uncompressed."""

    def save(
        self,
        references: Sequence[Reference],
        location: Path | BinaryIO,
        *,
        format: ArchiveFormat = "oci",
        directory: bool = False,
        name: str | None = None,
        platform: Platform | None = None,
        conversion: Conversion = Conversion(),
    ) -> None:
        """Write images of the store to a tar (a path or a stream), or with `directory` into a directory.

        `name` is written as the only image's ref.name in place of its reference. An OCI layout that is there already is
        added to; a file is replaced when all is written.
        """
        if name is not None and len(references) != 1:
            raise UsageError("one name can't be given to several images")
        with self.store.lease(cancelled=self.cancelled):
            descriptors = [self._descriptor(reference) for reference in references]
            pairs = list(zip(references, descriptors, strict=True))
            self.save_images(pairs, location, format=format, directory=directory, name=name, platform=platform, conversion=conversion)

    def save_images(
        self,
        images: Sequence[tuple[Reference | None, Descriptor]],
        location: Path | BinaryIO,
        *,
        format: ArchiveFormat = "oci",
        directory: bool = False,
        name: str | None = None,
        platform: Platform | None = None,
        fallback: Platform | None = None,
        conversion: Conversion = Conversion(),
        annotations: Annotations = (),
    ) -> None:
        """As `save`, for images by their descriptors. Call under a lease.

        Without a `platform`, an index of which all is here is written as such into a layout; of others, the image for `fallback`.
        `annotations` are those of the entries in a layout's own index.
        """
        stop = Stop(self.cancelled)
        shown = str(location) if isinstance(location, Path) else "the output"
        if format == "docker" and conversion not in (Conversion(), Conversion("none")):
            raise UsageError("docker's archive holds its layers uncompressed", hint="leave out --compression")
        self.on_event(TransferStarted("save", shown))
        with open_output(location, directory=directory) as output:
            writer = (
                DockerArchiveWriter(self.store, output, self.on_event, stop)
                if format == "docker"
                else LayoutWriter(self.store, output, self.on_event, stop)
            )
            for reference, descriptor in images:
                index = whole_index(self.store, descriptor) if platform is None else None
                if index is not None and isinstance(writer, LayoutWriter):
                    made = convert_index(self.store, index, descriptor, conversion, self.on_event, stop, self.workers)
                    writer.add_index(reference, made, name, annotations)
                    continue
                image = read_image(self.store, descriptor, platform or fallback, reference)
                if isinstance(writer, DockerArchiveWriter):
                    writer.add(image, name)
                else:
                    writer.add(image, convert(self.store, image, conversion, self.on_event, stop, self.workers), name, annotations)
            writer.finish()
        for _, descriptor in images:
            self.on_event(TransferFinished("save", shown, descriptor.digest))

    def load(
        self,
        location: Path | BinaryIO,
        platform: Platform,
        *,
        selector: str | None = None,
        name: Reference | None = None,
        whole: bool = False,
    ) -> tuple[Loaded, ...]:
        """Bring the images of an archive into the store, and name them as the archive does, or the only one `name`.

        `selector` chooses one of several by the name that it has in the archive; `platform` chooses in nested indexes, unless they
        are to be brought in as a `whole` and all of them is there.
        """
        stop = Stop(self.cancelled)
        shown = str(location) if isinstance(location, Path) else "the input"
        with self.store.lease(cancelled=self.cancelled), open_source(self.store, location) as source:
            self.on_event(TransferStarted("load", shown))
            # An archive may be both; the layout keeps the manifests as they are.
            if source.has(LAYOUT_FILE) and source.has(INDEX_FILE):
                images = LayoutReader(self.store, source, self.on_event, stop, whole).load(selector, platform)
            elif source.has(MANIFEST_FILE):
                images = DockerArchiveReader(self.store, source, self.compression, self.on_event, stop).load(selector)
            else:
                raise ImageError(f"{shown} is no image archive: it has neither oci-layout nor manifest.json", hint=_HINT)
            if name is not None:
                if len(images) != 1:
                    raise UsageError(
                        f"{shown} holds {len(images)} images, which can't all be named {name.familiar()}", hint="say which: PATH:REF"
                    )
                images = (((name,), images[0][1]),)
            return tuple(loaded for names, descriptor in images for loaded in self._named(names, descriptor, shown))

    def _named(self, names: tuple[Reference, ...], descriptor: Descriptor, shown: str) -> list[Loaded]:
        for reference in names:
            # An archive that names its image by a digest can only mean this one; the store checks it.
            self.store.tags.set(reference, descriptor)
        if not names:
            self.store.tags.add_untagged(descriptor)
        self.on_event(TransferFinished("load", names[0].familiar() if names else shown, descriptor.digest))
        return [Loaded(reference, descriptor) for reference in names or (None,)]

    def _descriptor(self, reference: Reference) -> Descriptor:
        descriptor = self.store.tags.get(reference)
        if descriptor is None:
            raise NotFoundError(f"there is no image {reference.familiar()} in the store", hint="`imgbuild images` lists what there is")
        return descriptor


def split_location(text: str) -> tuple[Path, str | None]:
    """``PATH[:REF]`` as a path and a name in the archive: the longest beginning that exists is the path, else what is before the
    first colon."""
    if Path(text).exists() or ":" not in text:
        return Path(text), None
    colons = [number for number, char in enumerate(text) if char == ":"]
    for number in reversed(colons):
        if number and Path(text[:number]).exists():
            return Path(text[:number]), text[number + 1 :] or None
    return Path(text[: colons[0]]), text[colons[0] + 1 :] or None
