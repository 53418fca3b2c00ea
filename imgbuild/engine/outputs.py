"""What else is done with an image than keeping it in the store, as ``--output`` says it."""

from __future__ import annotations

import errno
import sys

from imgbuild.engine.output_options import Output
from imgbuild.engine.workplace import Workplace
from imgbuild.errors import StoreError, UsageError
from imgbuild.hints import TYPE_CHECKING, Callable, Iterator
from imgbuild.light.contextlib import ExitStack, contextmanager
from imgbuild.light.pathlib import Path
from imgbuild.oci.reference import Reference
from imgbuild.values import replace

if TYPE_CHECKING:
    from imgbuild.engine.assemble import Built
    from imgbuild.layer.compression import Compression
    from imgbuild.registry.client import RegistryClient
    from imgbuild.solve.state import Solution
    from imgbuild.transfer.ahead import Ahead

def write_outputs(
    place: Workplace,
    outputs: tuple[Output, ...],
    names: tuple[Reference, ...],
    built: Built,
    solution: Solution,
    on_event: Callable[[object], None],
    ahead: Ahead | None = None,
) -> None:
    """Write an image out, in the order in which the outputs were given. `ahead` is what `sent_ahead` gave."""
    whole = built
    for output in outputs:
        if output.annotations:
            from imgbuild.engine.assemble import annotated

            built = annotated(place.store, whole, output.annotations)
        else:
            built = whole
        try:
            if output.kind in ("oci", "docker"):
                _save(place, output, names, built, on_event)
            elif output.kind in ("local", "tar"):
                _export(place, output, built, solution)
        except BrokenPipeError:
            raise
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StoreError(f"can't write the output {output.dest}: no space left on its disk") from None
            raise UsageError(f"can't write the output {output.dest}: {error.strerror or error}") from None
        for name in () if output.by_digest else output.names:
            place.store.tags.set(name, built.descriptor)
        for name in (output.names or names) if output.canonical else ():
            place.store.tags.set(replace(name, tag=None, digest=built.descriptor.digest), built.descriptor)
        if output.push:
            _push(place, output, output.names or names, built, on_event, ahead)


@contextmanager
def sent_ahead(
    place: Workplace, outputs: tuple[Output, ...], names: tuple[Reference, ...], compression: Compression
) -> Iterator[Ahead | None]:
    """What sends large layers while they are made to where the image will be pushed first, if it is pushed as it is made."""
    pushed = (output for output in outputs if output.push and not output.docker and output.compression in (None, compression.kind))
    output = next(pushed, None)
    destinations = () if output is None else output.names or names
    if not destinations:
        yield None
        return
    import typing  # noqa: F401  # a thread imports what speaks to registries, and with it typing, of which others must not see a half

    from imgbuild.transfer.ahead import Ahead

    with ExitStack() as stack:
        clients: list[RegistryClient] = []

        def client() -> RegistryClient:
            from imgbuild.engine.registries import make_client

            if not clients:
                clients.append(stack.enter_context(make_client(place.invocation, place.settings)))
            return clients[0]

        with Ahead(place.store, client, destinations[0]) as ahead:
            yield ahead


def _save(
    place: Workplace, output: Output, names: tuple[Reference, ...], built: Built, on_event: Callable[[object], None]
) -> None:
    from imgbuild.transfer.archives import Archivist
    from imgbuild.transfer.convert import Conversion

    references: tuple[Reference | None, ...] = output.names or names or (None,)
    location = sys.stdout.buffer if output.dest == "-" else Path(output.dest)
    Archivist(place.store, on_event).save_images(
        [(each, built.descriptor) for each in references],
        location,
        format="docker" if output.kind == "docker" else "oci",
        directory=not output.archive,
        conversion=Conversion(output.compression),
        annotations=built.described,
    )


def _export(place: Workplace, output: Output, built: Built, solution: Solution) -> None:
    """Root file systems as files; those of an index each in a directory that is called by its platform."""
    from imgbuild.rootfs.export import export_tree, export_trees
    from imgbuild.snapshot.union import UnionView

    with ExitStack() as stack:
        views: list[tuple[str, UnionView]] = []
        for image in built.images:
            lowers = solution.stages[image.stage].state.lowers()
            view = stack.enter_context(UnionView(lowers, userxattr=place.features.rootless))
            split = built.index if output.split is None else output.split
            views.append((str(image.platform).replace("/", "_") if split else "", view))
        if output.kind == "local":
            for name, view in views:
                directory = Path(output.dest) / name
                if name and directory.is_symlink():
                    # As any other link that is in the way: another image's may have left it there.
                    directory.unlink()
                directory.mkdir(parents=True, exist_ok=True)
                export_tree(view, directory)
        elif output.dest == "-":
            export_trees(views, sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
        else:
            with open(output.dest, "wb") as file:
                export_trees(views, file.write)


def _push(
    place: Workplace,
    output: Output,
    names: tuple[Reference, ...],
    built: Built,
    on_event: Callable[[object], None],
    ahead: Ahead | None,
) -> None:
    from imgbuild.engine.registries import make_client
    from imgbuild.transfer.convert import Conversion
    from imgbuild.transfer.push import Pusher

    with make_client(place.invocation, place.settings) as client:
        pusher = Pusher(place.store, client, on_event, ahead=ahead)
        for name in names:
            conversion = Conversion(output.compression, "docker" if output.docker else None)
            pusher.push_image(built.descriptor, name, conversion=conversion, by_digest=output.by_digest)
