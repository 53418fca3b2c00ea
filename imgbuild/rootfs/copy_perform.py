"""What COPY and ADD mean at their destination: BuildKit's rules, source by source, and their performance.

A directory gives its contents, to a destination that keeps its own metadata or is made as any missing parent; a file goes into
a directory or becomes the destination; what an archive holds is decided while it is read.
"""

from __future__ import annotations

import os
import posixpath
import stat

from imgbuild.buildfile.modes import parse_mode
from imgbuild.context.digest import walk
from imgbuild.context.held import SMALL
from imgbuild.context.ignore import Ignore
from imgbuild.context.included import Included
from imgbuild.context.local import LocalContext
from imgbuild.context.tree import Found, Tree
from imgbuild.errors import BuildfileError
from imgbuild.hints import Callable, Iterator, Sequence
from imgbuild.layer import MAX_PATH, WHITEOUT
from imgbuild.layer.failures import explained
from imgbuild.light.pathlib import Path
from imgbuild.linux.node import Node
from imgbuild.rootfs.copy import Copied, CopyRequest, InlineSource, TreeSource, is_directory, node_of, seen_below
from imgbuild.rootfs.copy_plan import (
    Action,
    Destination,
    Extract,
    Metadata,
    PutData,
    PutFile,
    PutFiles,
    PutSpecial,
    PutSymlink,
    kept_xattrs,
)
from imgbuild.rootfs.users import Owner, lookup_owner
from imgbuild.snapshot.union import UnionView

_MAX_NAME = 255


def plan_copy(request: CopyRequest, parents: UnionView) -> tuple[Action, ...]:
    """The actions of a copy, in their order. What an archive holds is not known to it, nor to the sources that follow."""
    return tuple(_planned(_Planner(request, parents)).take())


def planned(request: CopyRequest, parents: UnionView) -> Destination:
    """The destination as it will be, with all actions still to be taken, PutFiles among them. What an archive holds is not known to it."""
    return _planned(_Planner(request, parents, together=True))


def _planned(planner: _Planner) -> Destination:
    for number, source in enumerate(planner.request.sources):
        planner.plan(number, source)
    return planner.destination


def perform(request: CopyRequest, parents: UnionView, directory: Path, userxattr: bool, check: Callable[[], None] | None) -> Copied:
    """See copy.perform_copy."""
    # here, since a copy that becomes a layer at once writes no directory
    from imgbuild.rootfs.copy_unpack import extract
    from imgbuild.rootfs.copy_write import LayerWriter

    planner = _Planner(request, parents)
    with explained(f"the destination {request.destination!r}"), LayerWriter(directory, userxattr, check) as writer:
        for number, source in enumerate(request.sources):
            planner.plan(number, source)
            for action in planner.destination.take():
                if isinstance(action, Extract):
                    extract(action, planner.destination, writer)
                else:
                    writer.perform((action,))
        writer.finish(planner.destination.directories())
        return Copied(writer.entries, writer.size)


class _Planner:
    """Decides, source by source, what one request means at its destination. `together`: many files are one action where that can be."""

    def __init__(self, request: CopyRequest, parents: UnionView, *, together: bool = False) -> None:
        self.request = request
        # of what is not the only source, others may take the place
        self._together = together and len(request.sources) == 1 and len(_found(request.sources[0])) == 1
        self._owner = lookup_owner(parents, request.owner) if request.owner else None
        self._mode = parse_mode(request.mode) if request.mode else None
        # BuildKit's way: an octal --chmod is that of the directories that are made for the destination, too
        self._made = int(request.mode, 8) & 0o777 if request.mode and request.mode.isdigit() else 0o755
        self._exclude = Ignore.of(request.exclude)
        self._wants_directory = request.destination.endswith(("/", "/."))
        self._path = posixpath.normpath("/" + request.destination.lstrip("/"))
        self.destination = Destination(parents, request.epoch, self._owner or Owner())
        # One value for all entries of a context with a kind and a mode: there are many.
        self._local: dict[int, Metadata] = {}
        self._check_several()

    def plan(self, number: int, source: TreeSource | InlineSource) -> None:
        """Append the actions of one source to the destination's."""
        if isinstance(source, InlineSource):
            path = self._file_path(source.name.rpartition("/")[2])
            metadata = Metadata(self._permissions(0o644, False), self._owner or Owner(), self.request.epoch)
            self.destination.put(PutData(path, source.data, metadata))
            return
        for found in source.found:
            if is_directory(source.tree, found):
                self._plan_directory(number, source, found)
            elif not source.pattern and not self._exclude.ignores(found.base):
                self._plan_file(number, source, found)

    def _plan_file(self, number: int, source: TreeSource, found: Found) -> None:
        tree, node = source.tree, node_of(source.tree, found.path)
        unpack = self.request.unpack if source.unpack is None else source.unpack
        if unpack and stat.S_ISREG(node.mode) and _is_archive(tree, found.path):
            path = self.destination.resolve(self._path)
            self.destination.make_directories(path)
            self.destination.actions.append(Extract(path, tree, found.path, node, self._owner))
            return
        self._put(number, tree, found.path, node, self._file_path(found.base))

    def _plan_directory(self, number: int, source: TreeSource, found: Found) -> None:
        """The contents of a directory; the destination keeps its own metadata, or is made as any missing parent."""
        top = self.destination.resolve(self._path)
        if self.destination.kind(top) not in (None, stat.S_IFDIR):
            raise BuildfileError(f"can't copy a directory to {self.request.destination!r}: it is not a directory in the image")
        self.destination.make_directories(top, mode=self._made)
        tree = seen_below(source, found, self.request.exclude)
        if self._together and not source.pattern and isinstance(source.tree, LocalContext):
            self._plan_together(number, source.tree, tree, found.path, top)
            return
        prefix = "" if top == "/" else top
        for path, node in walk(tree, found.path):
            if path == found.path:
                continue
            target = f"{prefix}/{path[len(found.path) :].lstrip('/')}"
            if stat.S_ISDIR(node.mode):
                if isinstance(tree, Included) and tree.partial(path) and self.destination.change_mode(target, stat.S_IMODE(node.mode)):
                    continue
                self.destination.put_directory(target, self._metadata(tree, path, node), settled=True)
            else:
                self._put(number, tree, path, node, target)

    def _plan_together(self, number: int, context: LocalContext, tree: Tree, top: str, destination: str) -> None:
        """The same for a directory of a build context, seen as `tree`, in the same order: runs of small files become one action."""
        pending = [(top, destination, self._listed(tree, top, destination))]
        while pending:
            here, target, (together, entries) = pending[-1]
            run: list[tuple[str, Node]] = []
            for name, node in entries:
                if together and node.size <= SMALL and stat.S_ISREG(node.mode):
                    run.append((name, node))
                    continue
                self._put_files(context, tree, here, run, target)
                run = []
                source, into = (f"{parent if parent != '/' else ''}/{name}" for parent in (here, target))
                if stat.S_ISDIR(node.mode):
                    self.destination.put_directory(into, self._metadata(tree, source, node), settled=True)
                    pending.append((source, into, self._listed(tree, source, into)))
                    break
                self._put(number, tree, source, node, into)
            else:
                self._put_files(context, tree, here, run, target)
                pending.pop()

    def _listed(self, tree: Tree, source: str, path: str) -> tuple[bool, Iterator[tuple[str, Node]]]:
        """What is in a directory, and whether its files may be put as runs to where it goes."""
        entries = list(tree.entries(source))
        return self.destination.is_empty(path) and _are_plain(path, entries), iter(entries)

    def _put_files(self, context: LocalContext, tree: Tree, source: str, files: list[tuple[str, Node]], path: str) -> None:
        if files:
            one_of_each = {node.mode: node for _, node in files}
            by_mode = {mode: self._metadata(tree, source, node) for mode, node in one_of_each.items()}
            self.destination.put_files(PutFiles(path, context, source, files, by_mode))

    def _put(self, number: int, tree: Tree, source: str, node: Node, path: str) -> None:
        metadata = self._metadata(tree, source, node)
        if stat.S_ISREG(node.mode):
            same_file = (number, node.dev, node.ino) if node.nlink > 1 and not tree.local else None
            self.destination.put(PutFile(path, tree, source, node, metadata, same_file))
        elif stat.S_ISLNK(node.mode):
            self.destination.put(PutSymlink(path, tree.readlink(source), metadata))
        elif not stat.S_ISSOCK(node.mode):
            self.destination.put(PutSpecial(path, stat.S_IFMT(node.mode) | metadata.mode, node.rdev, metadata))

    def _file_path(self, base: str) -> str:
        """Where a file of this name goes: into the destination if that is, or must be, a directory; else it becomes it."""
        if self._wants_directory:
            self.destination.make_directories(self.destination.resolve(self._path), mode=self._made)
        path = self.destination.resolve(self._path)
        if self.destination.kind(path) == stat.S_IFDIR:
            return f"{path}/{base}" if path != "/" else f"/{base}"
        self.destination.make_directories(path.rpartition("/")[0] or "/", mode=self._made)
        return path

    def _metadata(self, tree: Tree, path: str, node: Node) -> Metadata:
        if tree.local and (known := self._local.get(node.mode)) is not None:
            return known
        mode = stat.S_IMODE(node.mode) if stat.S_ISLNK(node.mode) else self._permissions(stat.S_IMODE(node.mode), stat.S_ISDIR(node.mode))
        if tree.local:
            # a context's owners and times are accidents of the machine, and not in the key; capabilities are read with the file
            return self._local.setdefault(node.mode, Metadata(mode, self._owner or Owner(), self.request.epoch))
        owner = self._owner or Owner(node.uid, node.gid)
        return Metadata(mode, owner, self.destination.clamped(node.mtime_ns), kept_xattrs(tree, path, node))

    def _permissions(self, mode: int, is_directory: bool) -> int:
        return self._mode(mode, is_directory) if self._mode else mode

    def _check_several(self) -> None:
        """Several files must not become one: the destination has to be a directory, by its slash or because it is one."""
        request = self.request
        words = len(request.sources)
        files = sum(
            1 if isinstance(source, InlineSource) else sum(not is_directory(source.tree, found) for found in source.found)
            for source in request.sources
        )
        if self._wants_directory or (words < 2 and files < 2):
            return
        if self.destination.kind(self.destination.resolve(self._path)) != stat.S_IFDIR:
            raise BuildfileError(
                f"several sources can't be copied to {request.destination!r}, which is not a directory",
                hint=f"write {request.destination + '/'!r} for a directory",
            )


def _found(source: TreeSource | InlineSource) -> tuple[Found, ...]:
    return source.found if isinstance(source, TreeSource) else ()


def _are_plain(directory: str, entries: Sequence[tuple[str, Node]]) -> bool:
    """Whether all names in a directory can be in a layer, as no more than names."""
    names = os.fsencode("\0".join([directory, *[name for name, _ in entries]]))
    longest = max(map(len, names.split(b"\0")[1:]), default=0)
    return WHITEOUT not in names and longest <= _MAX_NAME and len(os.fsencode(directory)) + 1 + longest <= MAX_PATH


def _is_archive(tree: Tree, path: str) -> bool:
    """Whether a file is unpacked by ADD."""
    from imgbuild.rootfs.copy_unpack import is_archive

    return is_archive(tree, path)
