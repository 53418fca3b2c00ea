"""``--build-context``: what each named context is, and how it is brought in when a build needs it. docker buildx's words.

A directory is read in place, by its own ``.dockerignore``; an image is a base like any other; of a repository all files are read, and
a file behind a URL is called "context".
"""

from __future__ import annotations

from imgbuild.engine.remote import REMOTE_FILE, Fetchers
from imgbuild.engine.workplace import Workplace
from imgbuild.errors import BuildfileError, ContextError, ImageError, ImgbuildError, NotFoundError, UsageError
from imgbuild.graph.contexts import ContextKind, context_key
from imgbuild.graph.ops import BuildGraph, ContextImage, CopyOp, RunOp
from imgbuild.graph.remote import parse_context
from imgbuild.hints import TYPE_CHECKING, Iterator, Literal, Mapping, Protocol
from imgbuild.light.contextlib import ExitStack, contextmanager
from imgbuild.light.pathlib import Path
from imgbuild.oci.image import INDEX_TYPES, Descriptor, parse_index
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import parse_reference
from imgbuild.values import dataclass, replace

if TYPE_CHECKING:
    from imgbuild.context.tree import Tree
    from imgbuild.oci.config import ImageConfig
    from imgbuild.oci.image import Layer
    from imgbuild.transfer.images import Image

_IMAGE, _LAYOUT, _STORED = "docker-image://", "oci-layout://", "store-image://"
_HINT = "write NAME=DIRECTORY, NAME=docker-image://REFERENCE, NAME=oci-layout://PATH[:TAG][@DIGEST], or the URL of a repository or file"

Kind = Literal["directory", "image", "layout", "stored", "remote"]


@dataclass(frozen=True, slots=True)
class NamedContext:
    """One named context: `name` as it is looked up, `value` without the prefix that says the kind. An image of the store
    ("stored") is what other targets of a bake are: then `target` is the name of that one."""

    name: str
    kind: Kind
    value: str
    target: str = ""

    def seen(self) -> ContextKind:
        """What the graph needs to know of it."""
        if self.kind in ("layout", "stored"):
            return ContextKind(ContextImage(self.name))
        if self.kind == "image":
            return ContextKind(scratch=True) if self.value == "scratch" else ContextKind(parse_reference(self.value))
        return ContextKind()


class ContextBase(Protocol):
    """What is asked of an image that a stage starts from."""

    @property
    def descriptor(self) -> Descriptor: ...
    @property
    def config(self) -> ImageConfig: ...
    @property
    def layers(self) -> tuple[Layer, ...]: ...


def parse_contexts(texts: tuple[str, ...]) -> dict[str, NamedContext]:
    """Read ``--build-context`` values, by name, the last one of a name; UsageError or ContextError where one can't be."""
    found: dict[str, NamedContext] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"--build-context {text!r} is not understood", hint=_HINT)
        key = context_key(name)
        if key is None:
            hint = "it is written as an image's name is"
            raise UsageError(f"--build-context {text!r}: {name!r} can't be the name of a context", hint=hint)
        found[key] = _parse(key, value, text)
    return found


def _parse(name: str, value: str, text: str) -> NamedContext:
    if value.startswith(_IMAGE):
        value = value.removeprefix(_IMAGE)
        try:
            if value != "scratch":
                parse_reference(value)
        except ImageError as error:
            raise UsageError(f"--build-context {text!r}: {error.message}", hint=error.hint) from None
        return NamedContext(name, "image", value)
    if value.startswith(_LAYOUT):
        return NamedContext(name, "layout", value.removeprefix(_LAYOUT))
    if value.startswith(_STORED):
        return NamedContext(name, "stored", value.removeprefix(_STORED))
    try:
        remote = None if Path(value).is_dir() else parse_context(value)
    except BuildfileError as error:
        raise UsageError(f"--build-context {text!r}: {error.message}", hint=error.hint) from None
    if remote is not None:
        return NamedContext(name, "remote", value)
    if not Path(value).is_dir():
        problem = "is not a directory" if Path(value).exists() else "does not exist"
        raise ContextError(f"the build context {name!r} can't be used: {value} {problem}", hint=_HINT)
    return NamedContext(name, "directory", value)


def context_image(place: Workplace, context: NamedContext, platform: Platform) -> Image:
    """The image that a named context is, in the store. Call under a lease."""
    from imgbuild.transfer.images import read_image

    try:
        if context.kind == "layout":
            from imgbuild.transfer.layout import load_from_layout

            return load_from_layout(place.store, *layout_place(context), platform)
        from imgbuild.engine.lookup import find_image

        _, descriptor = find_image(place.store, context.value)
        if context.target:
            _check_target(place, context, descriptor, platform)
        return read_image(place.store, descriptor, platform)
    except ImgbuildError as error:
        error.message = f"the build context {context.name!r} can't be used: {error.message}"
        raise


def _check_target(place: Workplace, context: NamedContext, descriptor: Descriptor, platform: Platform) -> None:
    """ImageError where another target of a bake was not built for the platform that it is read for. (An image with one platform is taken
    for what it is elsewhere, with a warning: of targets of one file, it is known which was meant.)"""
    built = _platforms(place, descriptor)
    if not any(platform.accepts(each) for each in built):
        raise ImageError(
            f"the target {context.target} is built for {', '.join(map(str, built))} only, and is read for {platform}",
            hint=f"add {platform} to its platforms, or say that another one is meant: FROM --platform=... {context.name}",
        )


def _platforms(place: Workplace, descriptor: Descriptor) -> list[Platform]:
    """What an image or an index is for."""
    from imgbuild.transfer.images import read_image

    if descriptor.media_type not in INDEX_TYPES:
        return [read_image(place.store, descriptor, None).config.platform]
    entries = parse_index(place.store.blobs.read(descriptor.digest), descriptor.media_type).manifests
    return [entry.platform for entry in entries if entry.platform is not None and entry.platform.os != "unknown"]


def layout_place(context: NamedContext) -> tuple[Path, str | None, str | None]:
    """Path, tag and digest of ``PATH[:TAG][@DIGEST]``."""
    location, _, digest = context.value.partition("@")
    path, tag = (Path(location), None) if Path(location).exists() else _split_tag(location)
    if not (path / "index.json").is_file():
        hint = "`imgbuild save` and --output type=oci,tar=false write one"
        raise NotFoundError(f"{path} is not an OCI layout: it has no index.json", hint=hint)
    return path, tag, digest or None


def _split_tag(location: str) -> tuple[Path, str | None]:
    path, colon, tag = location.rpartition(":")
    return (Path(path), tag) if colon and "/" not in tag else (Path(location), None)


@contextmanager
def opened_contexts(
    place: Workplace, contexts: Mapping[str, NamedContext], graph: BuildGraph, fetchers: Fetchers
) -> Iterator[dict[str, Tree]]:
    """The contexts of files that the graph's steps read."""
    from imgbuild.context.ignore import Ignore
    from imgbuild.context.local import LocalContext

    opened: dict[str, Tree] = {}
    with ExitStack() as stack:
        for name in sorted(_read_by(graph)):
            context = contexts[name]
            remote = parse_context(context.value) if context.kind == "remote" else None
            if remote is None:
                directory = Path(context.value)
                named, scratch = f"the build context {name!r}", place.store.scratch.temporary
                local = LocalContext(directory, Ignore.load(directory), name=named, stats=place.store.index, scratch=scratch)
                opened[name] = stack.enter_context(local)
                continue
            try:
                opened[name] = fetchers.tree(replace(remote, name=REMOTE_FILE), f"the build context {name!r}")
            except ImgbuildError as error:
                error.message = f"the build context {name!r} can't be used: {error.message}"
                raise
        yield opened


def _read_by(graph: BuildGraph) -> set[str]:
    names: set[str] = set()
    for stage in graph.stages.values():
        for step in (*stage.steps, *(test.step for test in stage.tests)):
            if isinstance(step.op, CopyOp):
                names.add(step.op.context)
            elif isinstance(step.op, RunOp):
                names.update(mount.context for mount in step.op.mounts)
    return names - {""}
