"""A finished plan of a copy -> the entries of its layer, in the order of layers: what `layer.diff` would find in the directory that
`copy_write` makes of the same plan above the same parents.

Plans without archives alone: then nothing of the parents is ever hidden, there are no whiteouts, and no directory is opaque.
"""

from __future__ import annotations

import os
import stat

from imgbuild.errors import LayerError
from imgbuild.hints import Callable, Iterable, Iterator, Mapping, NamedTuple
from imgbuild.layer import MAX_PATH
from imgbuild.layer.xattrs import portable
from imgbuild.linux.node import Node
from imgbuild.rootfs.copy_plan import (
    SECOND,
    Action,
    MakeDirectory,
    Metadata,
    PutData,
    PutFile,
    PutFiles,
    PutSpecial,
    PutSymlink,
    Remove,
)
from imgbuild.snapshot.union import UnionView

_MAX_NAME = 255
_CAPABILITY, _CAPABILITY_BYTES, _CAPABILITY_V2 = "security.capability", 20, 2

Content = PutFile | PutData | PutSymlink | PutSpecial


class Unfit(Exception):
    """Only a directory can say what this copy makes."""


class Link(NamedTuple):
    """Another name of a file that came before."""

    target: bytes


Entry = tuple[bytes, Metadata | None, Content | PutFiles | Link | None]
"""The path without a slash at its ends, empty for the root; a directory has no content. Of many files, the path of their directory."""

Unchanged = Callable[[Content, Node], bool]
"""Whether an entry whose metadata is the parents' has their content, and their attributes, too."""


def entries(actions: Iterable[Action], directories: Mapping[str, Metadata], parents: UnionView, unchanged: Unchanged) -> Iterator[Entry]:
    """What is to be written. Unfit before the first one, if at all."""
    leaves = _replayed(actions)
    names: dict[int, int] = {}
    for content in leaves.values():
        if isinstance(content, PutFile) and content.same_file:
            names[id(content)] = names.get(id(content), 0) + 1
    for metadata in directories.values():
        check_xattrs(metadata)
    for content in leaves.values():
        if not isinstance(content, PutFiles) and content.metadata.xattrs:
            check_xattrs(content.metadata)
    order = sorted((os.fsencode(path[1:]).replace(b"/", b"\0"), path) for path in (*directories, *leaves))
    long = next((key for key, _ in order if len(key) > _MAX_NAME and any(len(name) > _MAX_NAME for name in key.split(b"\0"))), None)
    if long is not None:
        raise Unfit
    return _Pass(leaves, directories, parents, unchanged, {key for key, count in names.items() if count > 1}).run(order)


def check_xattrs(metadata: Metadata) -> None:
    """Unfit where a file system would keep an attribute otherwise than it is given. ACLs change the mode and each other."""
    for name, value in metadata.xattrs:
        capability = name == _CAPABILITY and len(value) == _CAPABILITY_BYTES and value[3] == _CAPABILITY_V2
        if not capability and not name.startswith("user."):
            raise Unfit


def _replayed(actions: Iterable[Action]) -> dict[str, Content | PutFiles]:
    """What is where when all actions are done; names of one file have one object. Many files stand where the first of them is."""
    leaves: dict[str, Content | PutFiles] = {}
    files: dict[tuple[int, int, int], str] = {}
    for action in actions:
        if isinstance(action, PutFile):
            if action.same_file:
                first = files.setdefault(action.same_file, action.path)
                leaves[action.path] = leaves[first] if first != action.path else action
            else:
                leaves[action.path] = action
        elif isinstance(action, (PutData, PutSymlink, PutSpecial)):
            leaves[action.path] = action
        elif isinstance(action, PutFiles):
            leaves[f"{action.path if action.path != '/' else ''}/{action.files[0][0]}"] = action
        elif isinstance(action, Remove) and action.path in leaves:
            del leaves[action.path]
            files = {key: first for key, first in files.items() if first != action.path}
        elif not isinstance(action, MakeDirectory) or action.opaque:
            raise Unfit
    return leaves


class _Waiting(NamedTuple):
    """A directory that is written only if something below it is."""

    below: str
    entry: Entry


class _Pass:
    def __init__(
        self,
        leaves: Mapping[str, Content | PutFiles],
        directories: Mapping[str, Metadata],
        parents: UnionView,
        unchanged: Unchanged,
        linked: set[int],
    ) -> None:
        self._leaves = leaves
        self._directories = directories
        self._parents = parents
        self._unchanged = unchanged
        self._linked = linked
        self._firsts: dict[int, bytes] = {}
        self._waiting: list[_Waiting] = []
        self._shown: set[str] = set()
        """Directories that the parents have, too."""

    def run(self, order: Iterable[tuple[bytes, str]]) -> Iterator[Entry]:
        leaves, shown, linked, waiting = self._leaves, self._shown, self._linked, self._waiting
        for key, path in order:
            if len(key) > MAX_PATH:
                raise LayerError(f"a path in {path[:80]}... has more than the {MAX_PATH} bytes that a layer may hold")
            while waiting and not path.startswith(waiting[-1].below):
                waiting.pop()
            name = key.replace(b"\0", b"/")
            content = leaves.get(path)
            if content is None:
                yield from self._directory(path, name)
                continue
            if isinstance(content, PutFiles):
                yield from self._flushed()
                yield name.rpartition(b"/")[0], None, content
                continue
            if id(content) in linked:
                first = self._firsts.setdefault(id(content), name)
                yield from self._flushed()
                yield name, content.metadata, content if first == name else Link(first)
                continue
            if (path.rpartition("/")[0] or "/") in shown:
                node = self._parents.lstat(path)
                if node is not None and self._same(content, node) and self._unchanged(content, node):
                    continue
            if waiting:
                yield from self._flushed()
            yield name, content.metadata, content

    def _directory(self, path: str, name: bytes) -> Iterator[Entry]:
        metadata = self._directories[path]
        parent = path.rpartition("/")[0] or "/"
        node = self._parents.lstat(path) if path == "/" or parent in self._shown else None
        shown = node is not None and stat.S_ISDIR(node.mode)
        if shown:
            self._shown.add(path)
        entry = (name, metadata, None)
        if node is not None and shown and self._same_directory(path, metadata, node):
            self._waiting.append(_Waiting(f"{path}/" if path != "/" else "/", entry))
        else:
            yield from self._flushed()
            yield entry

    def _flushed(self) -> Iterator[Entry]:
        """The directories above a change, before it."""
        for directory in self._waiting:
            yield directory.entry
        self._waiting.clear()

    def _same_directory(self, path: str, metadata: Metadata, node: Node) -> bool:
        # The root's mtime alone is never a change: its directory was made for the step.
        if path != "/" and metadata.mtime * SECOND != node.mtime_ns:
            return False
        ours = (metadata.mode, metadata.owner.uid, metadata.owner.gid)
        if ours != (stat.S_IMODE(node.mode), node.uid, node.gid):
            return False
        return portable(dict(metadata.xattrs)) == portable(self._parents.xattrs(path))

    def _same(self, content: Content, node: Node) -> bool:
        """Whether all but a content and attributes is the parents'."""
        metadata = content.metadata
        if metadata.mtime * SECOND != node.mtime_ns or (metadata.owner.uid, metadata.owner.gid) != (node.uid, node.gid):
            return False
        kind, mode = stat.S_IFMT(node.mode), stat.S_IMODE(node.mode)
        if isinstance(content, PutSymlink):
            return kind == stat.S_IFLNK and content.target == self._parents.readlink(content.path)
        if metadata.mode != mode:
            return False
        if isinstance(content, PutSpecial):
            return kind == stat.S_IFMT(content.mode) and (kind == stat.S_IFIFO or content.rdev == node.rdev)
        size = len(content.data) if isinstance(content, PutData) else content.node.size
        return kind == stat.S_IFREG and size == node.size
