"""The files of a layer as a tree of a bounded size: the largest of them by name, what is small together."""

from __future__ import annotations

from heapq import heappop, heappush

from imgbuild.hints import Iterable, Iterator
from imgbuild.values import dataclass

_DEEPEST = 24
"""Directories within directories; what is deeper is one name."""
_WIDEST = 300
"""Names of a directory; the others are one."""


@dataclass(frozen=True, slots=True)
class Files:
    """A file, a directory, or, without a name, all `others` of a directory: the bytes and the number of the files in it."""

    name: str
    size: int
    count: int = 1
    children: tuple[Files, ...] = ()
    directory: bool = False

    @property
    def nodes(self) -> int:
        """How many there are in the tree."""
        return 1 + sum(child.nodes for child in self.children)


class Tree:
    """The files of a layer while they are read. A path that is there already is replaced: the last one counts."""

    def __init__(self) -> None:
        self._root = _Directory()

    def add(self, path: str, size: int | None) -> None:
        """A file, or, with no size, a directory."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if len(parts) > _DEEPEST:
            parts[_DEEPEST - 1 :] = ["/".join(parts[_DEEPEST - 1 :])]
        here = self._root
        for part in parts if size is None else parts[:-1]:
            child = here.children.get(part)
            if not isinstance(child, _Directory):
                child = here.children[part] = _Directory()
            here = child
        if size is not None and parts:
            here.children[parts[-1]] = size

    def bounded(self, most: int) -> Files:
        """At most so many of them that have a size, but for some that stand for others: the largest directories are opened first."""
        _measure(self._root)
        opened: dict[int, list[tuple[str, _Directory | int]]] = {}
        waiting: list[tuple[int, int, _Directory]] = []
        self._wait(waiting, self._root, 0)
        left, order = most, 1
        while waiting and left > 0:
            _, _, directory = heappop(waiting)
            sized = [pair for pair in directory.children.items() if _size(pair[1])]
            shown = sorted(sized, key=lambda pair: (-_size(pair[1]), pair[0]))[: min(_WIDEST, left)]
            left -= len(shown)
            opened[id(directory)] = shown
            for _, child in shown:
                if isinstance(child, _Directory) and child.children:
                    self._wait(waiting, child, order)
                    order += 1
        return _files("", self._root, opened)

    @staticmethod
    def _wait(waiting: list[tuple[int, int, _Directory]], directory: _Directory, order: int) -> None:
        heappush(waiting, (-directory.size, order, directory))


class _Directory:
    __slots__ = ("children", "count", "size")

    def __init__(self) -> None:
        self.children: dict[str, _Directory | int] = {}
        self.size = self.count = 0


def _measure(directory: _Directory) -> None:
    directory.size = directory.count = 0
    for child in directory.children.values():
        if isinstance(child, _Directory):
            _measure(child)
        directory.size += _size(child)
        directory.count += _count(child)


def _size(child: _Directory | int) -> int:
    return child if isinstance(child, int) else child.size


def _count(child: _Directory | int) -> int:
    return 1 if isinstance(child, int) else child.count


def _files(name: str, directory: _Directory, opened: dict[int, list[tuple[str, _Directory | int]]]) -> Files:
    shown = opened.get(id(directory), [])
    if name and len(directory.children) == len(shown) == 1 and isinstance(shown[0][1], _Directory):
        return _files(f"{name}/{shown[0][0]}", shown[0][1], opened)  # nobody wants to open two of which one is all of the other
    children = [
        _files(child_name, child, opened) if isinstance(child, _Directory) else Files(child_name, child) for child_name, child in shown
    ]
    size, count = directory.size - sum(child.size for child in children), directory.count - sum(child.count for child in children)
    if shown and len(directory.children) > len(shown):
        children.append(Files("", size, count))
    return Files(name, directory.size, directory.count, tuple(children), directory=True)


def largest(files: Files, most: int) -> list[tuple[str, int]]:
    """The largest files of the tree, by their paths."""
    found = sorted(_each(files, ""), key=lambda pair: (-pair[1], pair[0]))
    return found[:most]


def _each(files: Files, below: str) -> Iterator[tuple[str, int]]:
    for child in files.children:
        path = f"{below}/{child.name}"
        if child.directory:
            yield from _each(child, path)
        elif child.name:
            yield path, child.size


def tree_of(entries: Iterable[tuple[str, int | None]], most: int) -> Files:
    """The bounded tree of paths and sizes (None: a directory)."""
    tree = Tree()
    for path, size in entries:
        tree.add(path, size)
    return tree.bounded(most)
