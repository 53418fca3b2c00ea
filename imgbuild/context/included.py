"""A tree of which only what a pattern means is seen, and the directories that lead there: the sources of COPY --parents.

A directory that the pattern matches is seen with all that is below it. One that only leads to a match is `partial`.
"""

from __future__ import annotations

import stat

from imgbuild.context.ignore import Ignore, State
from imgbuild.context.tree import Tree
from imgbuild.hints import Iterator
from imgbuild.linux.node import Node


class Included:
    """What of `tree` the `pattern` means, which is relative to `base`, a real path. Directories are read once."""

    def __init__(self, tree: Tree, pattern: str, base: str) -> None:
        self._tree = tree
        self._matching = Ignore.of((pattern,))
        self._base = base
        self._directories: dict[str, dict[str, Node]] = {}
        self._states: dict[str, State] = {base: 0}
        self._whole: set[str] = set()

    @property
    def local(self) -> bool:
        return self._tree.local

    def partial(self, path: str) -> bool:
        """Whether a directory below the base is seen only for what is in it."""
        return path not in self._whole

    def lstat(self, path: str) -> Node | None:
        if path == self._base:
            return self._tree.lstat(path)
        parent, _, name = path.rpartition("/")
        return self._seen(parent or "/").get(name)

    def entries(self, path: str) -> Iterator[tuple[str, Node]]:
        return iter(self._seen(path).items())

    def open(self, path: str) -> int:
        return self._tree.open(path)

    def load(self, path: str, node: Node) -> tuple[bytes, bytes]:
        return self._tree.load(path, node)

    def readlink(self, path: str) -> str:
        return self._tree.readlink(path)

    def xattrs(self, path: str) -> dict[str, bytes]:
        return self._tree.xattrs(path)

    def resolve(self, path: str, follow_last: bool = True) -> str:
        return self._tree.resolve(path, follow_last)

    def _leads_on(self, relative: str) -> bool:
        return any(pattern.leads_on(relative) for pattern in self._matching.patterns)

    def _seen(self, path: str) -> dict[str, Node]:
        """The entries of a directory that are seen. Reads on below those that the pattern does not match, but may match something in."""
        known = self._directories.get(path)
        if known is not None:
            return known
        top = "" if path == "/" else path
        entries: dict[str, Node] = {}
        for name, node in self._tree.entries(path):
            child = f"{top}/{name}"
            relative = child[len(self._base) :].lstrip("/")
            matched, self._states[child] = self._matching.step(relative, self._states[path])
            if matched:
                self._whole.add(child)
            elif not stat.S_ISDIR(node.mode) or not self._leads_on(relative) or not self._seen(child):
                continue
            entries[name] = node
        self._directories[path] = entries
        return entries
