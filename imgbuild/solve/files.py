"""Performs the steps that need no process: COPY, ADD and WORKDIR write a new lower straight into a snapshot."""

from __future__ import annotations

from imgbuild.context.tree import Tree
from imgbuild.graph.ops import CopyOp, Step, WorkdirOp
from imgbuild.hints import Callable
from imgbuild.light.pathlib import Path
from imgbuild.rootfs import copy
from imgbuild.rootfs.capture import Captured
from imgbuild.snapshot import DirectoryLower, Lower, Lowers
from imgbuild.snapshot.union import UnionView
from imgbuild.solve.inputs import States, copy_request, mount_request, source_tree
from imgbuild.solve.rooms import Rooms


def perform_copy(
    rooms: Rooms,
    step: Step,
    op: CopyOp,
    lowers: Lowers,
    states: States,
    check: Callable[[], None],
    told: Callable[[list[str]], object] = len,
) -> tuple[Lower, Captured | None]:
    """The lower that a COPY or ADD makes above `lowers`, and its layer where that came with it; `check` ends it by raising. `told` learns
    where its sources really are, behind symlinks."""
    from imgbuild.rootfs.indexed import usable

    with source_tree(rooms, op, states) as tree, rooms.view(lowers) as parents:
        request = copy_request(rooms, op, tree)
        told([found.path for source in request.sources if isinstance(source, copy.TreeSource) for found in source.found])
        if usable(rooms.store, rooms.features):
            from imgbuild.rootfs.copy_layer import copy_layer

            rooted, begun = not step.independent, rooms.begun(step)
            made = copy_layer(rooms.store, request, parents, rooms.compression, rooted=rooted, check=check, begun=begun, leaks=rooms.leaks)
            if made is not None:
                return made
        from imgbuild.solve.commit import commit

        with rooms.snapshotter.prepare(lowers, "copy") as active:
            copy.perform_copy(request, parents, active.upper, userxattr=rooms.features.rootless, check=check)
            return commit(rooms, active, None), None


def perform_workdir(rooms: Rooms, op: WorkdirOp, lowers: Lowers) -> DirectoryLower | None:
    """The lower that a WORKDIR makes above `lowers`; None where its directory is there."""
    from imgbuild.rootfs import workdir
    from imgbuild.solve.commit import commit

    with rooms.view(lowers) as parents, rooms.snapshotter.prepare(lowers, "workdir") as active:
        made = workdir.make_workdir(op.path, parents, active.upper, epoch=op.epoch, user=op.user, userxattr=rooms.features.rootless)
        return commit(rooms, active, None) if made else None


def copy_subtree(rooms: Rooms, tree: Tree, source: str, directory: Path, epoch: int) -> DirectoryLower:
    """A lower in `directory` that holds at ``/source`` what `tree`, a stage's or the build context, has at `source`."""
    directory.mkdir(parents=True)
    with UnionView(()) as nothing:
        copy.perform_copy(mount_request(tree, source, epoch), nothing, directory, userxattr=rooms.features.rootless)
    return DirectoryLower(directory)
