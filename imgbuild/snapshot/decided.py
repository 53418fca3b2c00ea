"""Whether two stacks of lowers say all that tells them apart: then what they both stand on need not be there to compare them.

It must be there where one has a name that the other has not: whether that was added, changed, or is as it was, only the base can tell.
"""

from __future__ import annotations

import stat

from imgbuild.hints import Sequence
from imgbuild.linux.node import Node
from imgbuild.snapshot.readers import LowerReader, is_whiteout
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a stack says of a path: its topmost entry, None for nothing; of a directory the lowers that make it up, topmost first, and
    whether nothing shows through from below them."""

    node: Node | None
    run: tuple[int, ...] = ()
    closed: bool = True


def decided(one: Sequence[LowerReader], other: Sequence[LowerReader]) -> bool:
    """Whether the two, put on any one stack, differ in just what they differ in without it."""
    if not one or not other:
        return not one and not other
    pending = [("", _root(one), _root(other))]
    while pending:
        path, mine, theirs = pending.pop()
        if mine.closed and theirs.closed:
            continue
        # A directory that a layer does not name may have got attributes that are not its own: the base tells.
        if mine.closed or theirs.closed or _attributes(mine) != _attributes(theirs):
            return False
        names = _names(one, path, mine.run)
        if names != _names(other, path, theirs.run):
            return False
        for name in names:
            below = f"{path}/{name}" if path else name
            shapes = _shape(one, below, mine.run), _shape(other, below, theirs.run)
            if all(shape.run for shape in shapes):
                pending.append((below, *shapes))
            elif not all(shape.closed for shape in shapes):
                return False
    return True


def _root(readers: Sequence[LowerReader]) -> _Shape:
    run = tuple(range(len(readers) - 1, -1, -1))
    return _Shape(readers[run[0]].lstat(""), run, closed=False)


def _attributes(shape: _Shape) -> tuple[int, ...]:
    return () if shape.node is None else (shape.node.mode, shape.node.uid, shape.node.gid)


def _names(readers: Sequence[LowerReader], path: str, run: tuple[int, ...]) -> set[str]:
    """All names in a directory, those of whiteouts included."""
    return {name for number in run for name, _ in readers[number].names(path)}


def _shape(readers: Sequence[LowerReader], path: str, run: tuple[int, ...]) -> _Shape:
    found: list[int] = []
    top: Node | None = None
    for number in run:
        node = readers[number].lstat(path)
        if node is None:
            continue
        if not stat.S_ISDIR(node.mode):
            return _Shape(top, tuple(found)) if found else _Shape(None if is_whiteout(node) else node)
        top = top or node
        found.append(number)
        if readers[number].opaque(path):
            return _Shape(top, tuple(found))
    return _Shape(top, tuple(found), closed=False)
