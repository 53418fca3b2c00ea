"""``--output``: what else is done with an image than keeping it in the store. docker buildx's words."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from imgbuild.engine.workplace import Workplace
from imgbuild.errors import StoreError, UsageError
from imgbuild.oci.reference import Reference
from imgbuild.values import dataclass

if TYPE_CHECKING:
    from imgbuild.engine.assemble import Built
    from imgbuild.solve.solver import Solution

_KINDS = ("oci", "docker", "local", "tar", "registry", "image", "junit")
_KEYS = {"type", "dest", "name", "tar", "push", "compression"}


@dataclass(frozen=True, slots=True)
class Output:
    """One output. `dest` is a path, "-" for stdout, "" for none; `names` are those of ``name=``; `archive` is false for ``tar=false``."""

    kind: str
    dest: str = ""
    names: tuple[Reference, ...] = ()
    archive: bool = True
    push: bool = False
    compression: str | None = None


def parse_outputs(texts: tuple[str, ...]) -> tuple[Output, ...]:
    """Read ``--output`` values; UsageError where one is not understood."""
    outputs = tuple(_parse(text) for text in texts)
    if sum(output.dest == "-" for output in outputs) > 1:
        raise UsageError("only one output can be stdout")
    return outputs


def refuse_single(outputs: tuple[Output, ...]) -> None:
    """UsageError where an output can't hold an index."""
    if any(output.kind == "docker" for output in outputs):
        raise UsageError(
            "--output type=docker holds an image for one platform, and several are built", hint="use type=oci, or build for one platform"
        )


def _parse(text: str) -> Output:
    if "=" not in text:
        return Output("tar", "-") if text == "-" else Output("local", text)
    from imgbuild.buildfile.suggest import did_you_mean
    from imgbuild.engine.registries import reference

    fields: dict[str, str] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key.strip() not in _KEYS:
            raise UsageError(f"--output {text!r}: {part!r} is not understood", hint=did_you_mean(key, _KEYS) or "write type=KIND,dest=PATH")
        fields[key.strip()] = value
    kind = fields.get("type", "")
    if kind not in _KINDS:
        hint = did_you_mean(kind, _KINDS) or f"it is one of {', '.join(_KINDS)}"
        raise UsageError(f"--output {text!r}: {kind!r} is not a type", hint=hint)
    dest = fields.get("dest", "")
    if kind == "local" and (not dest or dest == "-"):
        raise UsageError(f"--output {text!r} needs dest=DIRECTORY")
    if kind == "junit" and not dest:
        raise UsageError(f"--output {text!r} needs dest=FILE")
    if kind in ("oci", "docker", "tar") and not dest:
        dest = "-"
    if dest == "-" and kind != "junit" and sys.stdout.isatty():
        raise UsageError(f"--output {text!r} would write an archive to the terminal", hint="add dest=FILE, or redirect stdout")
    return Output(
        kind=kind,
        dest=dest,
        names=tuple(reference(fields["name"]) for _ in (0,) if fields.get("name")),
        archive=fields.get("tar", "true").lower() != "false",
        push=kind == "registry" or fields.get("push", "false").lower() == "true",
        compression=fields.get("compression"),
    )


def write_outputs(
    place: Workplace,
    outputs: tuple[Output, ...],
    names: tuple[Reference, ...],
    built: Built,
    solution: Solution,
    on_event: Callable[[object], None],
) -> None:
    """Write an image out, in the order in which the outputs were given."""
    for output in outputs:
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
        for name in output.names:
            place.store.tags.set(name, built.descriptor)
        if output.push:
            _push(place, output, output.names or names, built, on_event)


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
        conversion=Conversion(output.compression),  # type: ignore[arg-type]
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
            views.append((str(image.platform).replace("/", "_") if built.index else "", view))
        if output.kind == "local":
            for name, view in views:
                directory = Path(output.dest) / name
                directory.mkdir(parents=True, exist_ok=True)
                export_tree(view, directory)
        elif output.dest == "-":
            export_trees(views, sys.stdout.buffer.write)
            sys.stdout.buffer.flush()
        else:
            with open(output.dest, "wb") as file:
                export_trees(views, file.write)


def _push(
    place: Workplace, output: Output, names: tuple[Reference, ...], built: Built, on_event: Callable[[object], None]
) -> None:
    from imgbuild.engine.registries import make_client
    from imgbuild.transfer.convert import Conversion
    from imgbuild.transfer.push import Pusher

    if not names:
        raise UsageError("a push needs a name", hint="give one with --tag")
    with make_client(place.invocation, place.settings) as client:
        pusher = Pusher(place.store, client, on_event)
        for name in names:
            pusher.push_image(built.descriptor, name, conversion=Conversion(output.compression))  # type: ignore[arg-type]
