"""``cp``: files out of failed steps, images, builds and containers."""

from __future__ import annotations

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.subjects import find_subject
from imgbuild.engine.workplace import workplace
from imgbuild.errors import UsageError
from imgbuild.hints import Callable
from imgbuild.light.contextlib import ExitStack
from imgbuild.light.pathlib import Path
from imgbuild.rootfs.copy_out import Copied, copy_out, find_source, tar_out
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class CopyOutRequest:
    """What to copy: ``NAME:/PATH``; and where to, "-" for a tar that `write` receives."""

    source: str
    destination: str
    write: Callable[[bytes], object]
    archive: bool = False
    follow: bool = False
    platform: str | None = None


def copy_from(invocation: Invocation, request: CopyOutRequest) -> Copied:
    """Copy files out of a root file system of the store."""
    word, colon, path = request.source.partition(":/")
    if not colon or not word:
        hint = "write NAME:/PATH, where NAME is an image, a container, build:last, or failed:last"
        raise UsageError(f"{request.source!r} says of nothing what to copy", hint=hint)
    with workplace(invocation) as place, place.store.lease(), ExitStack() as stack:
        lowers = find_subject(place, stack, word, request.platform).lowers
        view = stack.enter_context(UnionView(lowers, userxattr=place.features.rootless))
        source = find_source(view, f"/{path}", follow=request.follow)
        if request.destination == "-":
            return tar_out(view, source, request.write)
        if request.destination.endswith("/") and not source.is_directory and not Path(request.destination).is_dir():
            raise UsageError(f"there is no directory {request.destination}")
        rootless = place.features.rootless
        return copy_out(view, source, Path(request.destination), archive=request.archive, unprivileged=rootless)
