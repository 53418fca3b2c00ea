"""WORKDIR makes its directory where it is missing."""

from __future__ import annotations

from imgbuild.errors import BuildfileError
from imgbuild.layer.failures import explained
from imgbuild.light.pathlib import Path
from imgbuild.rootfs.copy_plan import Destination
from imgbuild.rootfs.copy_write import LayerWriter
from imgbuild.rootfs.users import Owner, lookup_owner
from imgbuild.snapshot.union import UnionView


def make_workdir(path: str, parents: UnionView, directory: Path, *, epoch: int, user: str = "", userxattr: bool = False) -> bool:
    """Make `path` and its missing parents, mode 0755, in the empty `directory`, as the lower above `parents`; symlinks are followed
    inside the root. They belong to `user`, the image's USER, as with BuildKit. False, with nothing written, where it is there.
    """
    try:
        owner = lookup_owner(parents, user) if user else Owner()
    except BuildfileError:
        # BuildKit makes it for root then; that USER has no entry is said by the first RUN
        owner = Owner()
    destination = Destination(parents, epoch, owner)
    destination.make_directories(destination.resolve(path))
    actions = destination.take()
    if actions:
        with explained(f"the working directory {path!r}"), LayerWriter(directory, userxattr) as writer:
            writer.perform(actions)
            writer.finish(destination.directories())
    return bool(actions)
