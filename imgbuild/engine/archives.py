"""Commands that move images between the store and files: save, load, import, unpack."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, BinaryIO

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.lookup import find_image, find_local
from imgbuild.engine.machine import this_platform
from imgbuild.engine.registries import platform_of, reference
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import ImgbuildError, NotFoundError, UsageError
from imgbuild.light.contextlib import ExitStack
from imgbuild.light.pathlib import Path
from imgbuild.oci.config import RunConfig
from imgbuild.oci.image import Descriptor
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import Reference

if TYPE_CHECKING:
    from imgbuild.transfer.archives import Loaded


def save_images(
    invocation: Invocation,
    names: tuple[str, ...],
    output: str,
    format_: str,
    directory: bool,
    compression: str | None,
    platform: str | None,
) -> None:
    """Write images of the store to a file, a directory, or stdout ("-")."""
    from imgbuild.transfer.archives import Archivist
    from imgbuild.transfer.convert import Conversion

    location = sys.stdout.buffer if output == "-" else Path(output)
    if output == "-" and (directory or sys.stdout.isatty()):
        raise UsageError("an archive is not written to a terminal" if not directory else "a directory can't be written to stdout")
    with workplace(invocation, snapshots=False) as place, place.store.lease():
        images = [find_image(place.store, name) for name in names]
        Archivist(place.store).save_images(
            images,
            location,
            format=format_,  # type: ignore[arg-type]
            directory=directory,
            platform=platform_of(platform) if platform else None,
            fallback=this_platform(),
            conversion=Conversion(compression),  # type: ignore[arg-type]
        )


def load_images(invocation: Invocation, path: str, name: str | None, platform: str | None) -> tuple[Loaded, ...]:
    """Bring the images of an archive into the store."""
    from imgbuild.transfer.archives import Archivist, split_location

    location: Path | BinaryIO
    if path == "-":
        if sys.stdin.isatty():
            raise UsageError("load needs a PATH, or an archive on stdin")
        location, selector = sys.stdin.buffer, None
    else:
        location, selector = split_location(path)
    chosen = reference(name) if name else None
    with workplace(invocation, snapshots=False) as place:
        return Archivist(place.store).load(location, platform_of(platform), selector=selector, name=chosen, whole=not platform)


def import_rootfs(
    invocation: Invocation, rootfs: str, name: str, changes: tuple[str, ...], message: str, epoch: str | None, platform: str | None
) -> Descriptor:
    """Make a base image of a root file system's tar."""
    from imgbuild.engine.request import explicit_epoch
    from imgbuild.transfer import importing

    chosen = reference(name)
    if chosen.digest is not None:
        raise UsageError("a name for an image can't have a digest")
    wanted = platform_of(platform)
    settings = importing.Imported(
        platform=wanted,
        config=_changed(changes, wanted),
        epoch=explicit_epoch(epoch, invocation.environ),
        comment=message,
    )
    location = sys.stdin.buffer if rootfs == "-" else Path(rootfs)
    with workplace(invocation, snapshots=False) as place:
        return importing.import_rootfs(place.store, location, chosen, settings).descriptor


def _changed(changes: tuple[str, ...], platform: Platform) -> RunConfig:
    """The config that the instructions of ``--change`` make."""
    if not changes:
        return RunConfig()
    from imgbuild.buildfile.parser import parse
    from imgbuild.graph.lower import lower
    from imgbuild.graph.options import LowerOptions

    buildfile = parse("\n".join(("FROM scratch", *changes)), "--change")
    graph = lower(buildfile, LowerOptions(platform), {})
    stage = graph.stages[graph.target]
    if stage.steps or len(buildfile.stages) > 1:
        raise UsageError("--change takes instructions that only describe, such as CMD, ENV, LABEL, USER or WORKDIR /")
    return stage.config


def unpack_image(invocation: Invocation, name: str, directory: str, platform: str | None) -> None:
    """Write the root file system of an image, of the store or of a layout, into a directory."""
    from imgbuild.rootfs.export import export_tree
    from imgbuild.rootfs.materialize import materialize
    from imgbuild.snapshot.union import UnionView
    from imgbuild.transfer.images import read_image

    target = Path(directory)
    _check_target(target)
    with ExitStack() as stack:
        place = stack.enter_context(workplace(invocation))
        stack.enter_context(place.store.lease())
        descriptor = _image(place, name, platform)
        image = read_image(place.store, descriptor, platform_of(platform))
        lowers = materialize(place.store, image.layers, features=place.features)
        view = stack.enter_context(UnionView(lowers, userxattr=place.features.rootless))
        target.mkdir(parents=True, exist_ok=True)
        export_tree(view, target)


def _image(place: Workplace, name: str, platform: str | None) -> Descriptor:
    """The image of that name or ID in the store; else of a layout at that path."""
    try:
        return find_image(place.store, name)[1]
    except ImgbuildError as error:
        from imgbuild.transfer.archives import Archivist, split_location

        location, selector = split_location(name)
        if not location.exists():
            if isinstance(error, NotFoundError):
                error.hint = f"{error.hint}; a layout at that path does not exist either"
            raise
        loaded = Archivist(place.store).load(location, platform_of(platform), selector=selector, name=None)
        if len({item.descriptor.digest for item in loaded}) != 1:
            raise UsageError(f"{location} holds {len(loaded)} images", hint="say which: PATH:REF") from None
        return loaded[0].descriptor


def _check_target(target: Path) -> None:
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UsageError(f"{target} is not an empty directory", hint="an image is unpacked into a new or empty directory")
    except OSError as error:
        raise UsageError(f"can't use {target}: {error.strerror}") from None


def local_or_reference(place: Workplace, text: str) -> Descriptor | Reference:
    """An image of the store by its ID, else the reference that a word is."""
    found = find_local(place.store, text)
    return found if found is not None else reference(text)
