"""COPY and ADD of local files, without a mount and without a process: a plan, and a new directory in overlay form.

The destination is resolved in the parents' union and the result is written as one more lower above them. The rules are
BuildKit's (copy_plan says them); the bytes written depend only on what is in a step's key: see `input_digests`.
Not here: URLs and Git sources, joining the destination with WORKDIR, and which files a source word means (context).
"""

from __future__ import annotations

import hashlib
import posixpath
import stat
from pathlib import Path

from imgbuild.context.digest import TreeDigests, walk
from imgbuild.context.filtered import Filtered
from imgbuild.context.ignore import Ignore
from imgbuild.context.local import LocalContext, changed
from imgbuild.context.stats import FileDigests
from imgbuild.context.tree import Found, Tree
from imgbuild.errors import BuildfileError
from imgbuild.layer.failures import explained
from imgbuild.linux.node import Node
from imgbuild.rootfs.copy_mode import parse_mode
from imgbuild.rootfs.copy_plan import Action, Destination, Extract, Metadata, PutData, PutFile, PutSpecial, PutSymlink, kept_xattrs
from imgbuild.rootfs.copy_unpack import extract, is_archive
from imgbuild.rootfs.copy_write import LayerWriter
from imgbuild.rootfs.users import Owner, lookup_owner
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class TreeSource:
    """What one source word means in a tree: the result of `match`. Empty for a pattern that matched nothing."""

    tree: Tree
    found: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class InlineSource:
    """A heredoc: a file of that name."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """One COPY or ADD.

    `destination` is absolute, already joined with WORKDIR; a slash (or ``/.``) at its end means a directory. `owner` and
    `mode` are --chown and --chmod after expansion; names are looked up in the parents. `unpack`: archives are extracted (ADD).
    `exclude` are --exclude patterns. `epoch`: seconds; the mtime of what comes from here, the latest of what comes from a stage.
    """

    sources: tuple[TreeSource | InlineSource, ...]
    destination: str
    epoch: int
    owner: str | None = None
    mode: str | None = None
    unpack: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputDigest:
    """What a step's key holds of one path: the source as it was named, the name it gives to the result ("" for a directory,
    whose contents are copied), and the digest of its contents and metadata as far as they are copied."""

    source: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class Copied:
    """What was written: entries and bytes of files."""

    entries: int
    size: int


def input_digests(request: CopyRequest) -> tuple[InputDigest, ...]:
    """The inputs of a copy for its step's key, in the order of the sources.

    The digests of a tree that has some at hand (`LocalContext.digests`) are used; others are taken anew.
    """
    digests: list[InputDigest] = []
    for source in request.sources:
        if isinstance(source, InlineSource):
            digests.append(InputDigest(source.name, source.name, f"sha256:{hashlib.sha256(source.data).hexdigest()}"))
            continue
        files = source.tree.digests if isinstance(source.tree, LocalContext) else FileDigests(source.tree)
        for found in source.found:
            if _is_directory(source.tree, found):
                tree = _without(source.tree, request.exclude, found)
                digests.append(InputDigest(found.name, "", TreeDigests(tree, files).contents(found.path)))
            elif not Ignore.of(request.exclude).ignores(found.base):
                digests.append(InputDigest(found.name, found.base, TreeDigests(source.tree, files).entry(found.path)))
    return tuple(digests)


def plan_copy(request: CopyRequest, parents: UnionView) -> tuple[Action, ...]:
    """The actions of a copy, in their order. What an archive holds is not known to it, nor to the sources that follow."""
    planner = _Planner(request, parents)
    for number, source in enumerate(request.sources):
        planner.plan(number, source)
    return tuple(planner.destination.take())


def perform_copy(request: CopyRequest, parents: UnionView, directory: Path, *, userxattr: bool = False) -> Copied:
    """Write the copy into `directory`, which is empty and becomes the lower above `parents`, its root's metadata included.

    ContextError for a source that changed or can't be read, BuildfileError for a destination that can't be. What was written
    when it raises is left for the caller to discard. mtimes are final: nothing is left to be clamped.
    """
    planner = _Planner(request, parents)
    with explained(f"the destination {request.destination!r}"), LayerWriter(directory, userxattr) as writer:
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
    """Decides, source by source, what one request means at its destination."""

    def __init__(self, request: CopyRequest, parents: UnionView) -> None:
        self._request = request
        self._owner = lookup_owner(parents, request.owner) if request.owner else None
        self._mode = parse_mode(request.mode) if request.mode else None
        self._exclude = Ignore.of(request.exclude)
        self._wants_directory = request.destination.endswith(("/", "/."))
        self._path = posixpath.normpath("/" + request.destination.lstrip("/"))
        self.destination = Destination(parents, request.epoch, self._owner or Owner())
        self._check_several()

    def plan(self, number: int, source: TreeSource | InlineSource) -> None:
        """Append the actions of one source to the destination's."""
        if isinstance(source, InlineSource):
            path = self._file_path(source.name.rpartition("/")[2])
            metadata = Metadata(self._permissions(0o644, False), self._owner or Owner(), self._request.epoch)
            self.destination.put(PutData(path, source.data, metadata))
            return
        for found in source.found:
            if _is_directory(source.tree, found):
                self._plan_directory(number, source.tree, found)
            elif not self._exclude.ignores(found.base):
                self._plan_file(number, source.tree, found)

    def _plan_file(self, number: int, tree: Tree, found: Found) -> None:
        node = _node(tree, found.path)
        if self._request.unpack and stat.S_ISREG(node.mode) and is_archive(tree, found.path):
            path = self.destination.resolve(self._path)
            self.destination.make_directories(path)
            self.destination.actions.append(Extract(path, tree, found.path, node, self._owner))
            return
        self._put(number, tree, found.path, node, self._file_path(found.base))

    def _plan_directory(self, number: int, tree: Tree, found: Found) -> None:
        """The contents of a directory; the destination keeps its own metadata, or is made as any missing parent."""
        top = self.destination.resolve(self._path)
        if self.destination.kind(top) not in (None, stat.S_IFDIR):
            raise BuildfileError(f"can't copy a directory to {self._request.destination!r}: it is not a directory in the image")
        self.destination.make_directories(top)
        tree = _without(tree, self._request.exclude, found)
        prefix = "" if top == "/" else top
        for path, node in walk(tree, found.path):
            if path == found.path:
                continue
            target = f"{prefix}/{path[len(found.path) :].lstrip('/')}"
            if stat.S_ISDIR(node.mode):
                self.destination.put_directory(target, self._metadata(tree, path, node), settled=True)
            else:
                self._put(number, tree, path, node, target)

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
            self.destination.make_directories(self.destination.resolve(self._path))
        path = self.destination.resolve(self._path)
        if self.destination.kind(path) == stat.S_IFDIR:
            return f"{path}/{base}" if path != "/" else f"/{base}"
        self.destination.make_directories(path.rpartition("/")[0] or "/")
        return path

    def _metadata(self, tree: Tree, path: str, node: Node) -> Metadata:
        mode = stat.S_IMODE(node.mode) if stat.S_ISLNK(node.mode) else self._permissions(stat.S_IMODE(node.mode), stat.S_ISDIR(node.mode))
        if tree.local:
            # a context's owners and times are accidents of the machine, and not in the key; capabilities are read with the file
            return Metadata(mode, self._owner or Owner(), self._request.epoch)
        owner = self._owner or Owner(node.uid, node.gid)
        return Metadata(mode, owner, self.destination.clamped(node.mtime_ns), kept_xattrs(tree, path, node))

    def _permissions(self, mode: int, is_directory: bool) -> int:
        return self._mode(mode, is_directory) if self._mode else mode

    def _check_several(self) -> None:
        """Several files must not become one: the destination has to be a directory, by its slash or because it is one."""
        request = self._request
        words = len(request.sources)
        files = sum(
            1 if isinstance(source, InlineSource) else sum(not _is_directory(source.tree, found) for found in source.found)
            for source in request.sources
        )
        if self._wants_directory or (words < 2 and files < 2):
            return
        if self.destination.kind(self.destination.resolve(self._path)) != stat.S_IFDIR:
            raise BuildfileError(
                f"several sources can't be copied to {request.destination!r}, which is not a directory",
                hint=f"write {request.destination + '/'!r} for a directory",
            )


def _is_directory(tree: Tree, found: Found) -> bool:
    return stat.S_ISDIR(_node(tree, found.path).mode)


def _node(tree: Tree, path: str) -> Node:
    node = tree.lstat(path)
    if node is None:
        raise changed(path)
    return node


def _without(tree: Tree, exclude: tuple[str, ...], found: Found) -> Tree:
    return Filtered(tree, Ignore.of(exclude), found.path) if exclude else tree
