"""A tree without what an ignore file (or --exclude) takes away.

An ignored directory is read only where an exception may bring back something below it, and exists only if one does.
"""

from __future__ import annotations

import stat

from imgbuild.context.ignore import Ignore, State
from imgbuild.context.tree import Tree
from imgbuild.hints import Iterator
from imgbuild.linux.node import Node
from imgbuild.linux.symlinks import resolve_inside
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class _Directory:
    """What is left of a directory: its entries in order, and the ignore state of those directories that have one."""

    entries: dict[str, Node]
    states: dict[str, State]


class Filtered:
    """`tree` as `ignore` leaves it; patterns are relative to `base`, a real path. Directories are read once."""

    def __init__(self, tree: Tree, ignore: Ignore, base: str = "/") -> None:
        self._tree = tree
        self._ignore = ignore
        self._base = base
        self._directories: dict[str, _Directory] = {}

    @property
    def local(self) -> bool:
        return self._tree.local

    def lstat(self, path: str) -> Node | None:
        if not self._inside(path):
            return self._tree.lstat(path)
        parent, _, name = path.rpartition("/")
        directory = self._directory(parent or "/")
        return directory.entries.get(name) if directory else None

    def entries(self, path: str) -> Iterator[tuple[str, Node]]:
        directory = self._directory(path) if path == self._base or self._inside(path) else None
        return iter(directory.entries.items()) if directory else self._tree.entries(path)

    def open(self, path: str) -> int:
        return self._tree.open(path)

    def load(self, path: str, node: Node) -> tuple[bytes, bytes]:
        return self._tree.load(path, node)

    def readlink(self, path: str) -> str:
        return self._tree.readlink(path)

    def xattrs(self, path: str) -> dict[str, bytes]:
        return self._tree.xattrs(path)

    def resolve(self, path: str, follow_last: bool = True) -> str:
        return resolve_inside(path, self._link, follow_last)

    def _link(self, path: str) -> str | None:
        status = self.lstat(path)
        return self.readlink(path) if status and stat.S_ISLNK(status.mode) else None

    def _inside(self, path: str) -> bool:
        return path != "/" and path.startswith(self._base if self._base == "/" else f"{self._base}/")

    def _directory(self, path: str) -> _Directory | None:
        known = self._directories.get(path)
        if known is not None:
            return known
        state = 0
        if path == self._base:
            status = self._tree.lstat(path)
        else:
            parent, _, name = path.rpartition("/")
            above = self._directory(parent or "/") if self._inside(path) else None
            status = above.entries.get(name) if above else None
            state = above.states.get(name, 0) if above else 0
        if status is None or not stat.S_ISDIR(status.mode):
            return None
        return self._read(path, state)

    def _read(self, path: str, state: State) -> _Directory:
        """A directory's visible entries. Reads further down only to find out whether an ignored directory has any."""
        if not self._ignore:
            directory = self._directories[path] = _Directory(dict(self._tree.entries(path)), {})
            return directory
        prefix = path.removeprefix(self._base).strip("/")
        entries: dict[str, Node] = {}
        states: dict[str, State] = {}
        for name, status in self._tree.entries(path):
            relative = f"{prefix}/{name}" if prefix else name
            ignored, below = self._ignore.step(relative, state)
            if ignored:
                if not stat.S_ISDIR(status.mode) or not self._ignore.opens(relative, below):
                    continue
                child = f"{path}/{name}" if path != "/" else f"/{name}"
                if not self._read(child, below).entries:
                    continue
            entries[name] = status
            if below:
                states[name] = below
        directory = self._directories[path] = _Directory(entries, states)
        return directory
