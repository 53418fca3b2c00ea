"""What of one stack of lowers may differ from another: the rest is the same because it is made of the same lowers, and is not looked at.

Two images that share a base are so compared by what is above it, and by the names that this touches in the base; no file of the base is
listed or read for any other reason.
"""

from __future__ import annotations

import os
import stat

from imgbuild.hints import Iterator
from imgbuild.linux.node import Node
from imgbuild.snapshot.union import UnionView


def differing(view: UnionView, other: UnionView, top: str = "/") -> Iterator[tuple[str, Node]]:
    """The entries of `view` at a real path and below it, parents first, siblings by their bytes, without those that are surely the same in
    `other`. What is left out here is left out with the two exchanged, too."""
    pending = [top]
    while pending:
        path = pending.pop()
        node = view.lstat(path)
        if node is None:
            continue
        if stat.S_ISDIR(node.mode):
            yield path, node
            names = _names(view, other, path)
            pending.extend(f"{path.rstrip('/')}/{name}" for name in sorted(names, key=os.fsencode, reverse=True))
        elif view.made_of(path) != other.made_of(path):
            yield path, node


def _names(view: UnionView, other: UnionView, path: str) -> frozenset[str]:
    """Of a directory's names those in question: what is only in the lowers that both have at its bottom is there in both."""
    mine, theirs = view.made_of(path), other.made_of(path)
    there = other.lstat(path)
    shared = _shared(mine[::-1], theirs[::-1]) if there is not None and stat.S_ISDIR(there.mode) else 0
    if not shared:
        return frozenset(view.listdir(path))
    return view.names_in(path, len(mine) - shared) | other.names_in(path, len(theirs) - shared)


def _shared(mine: tuple[object, ...], theirs: tuple[object, ...]) -> int:
    """How many are equal from the beginning."""
    count = 0
    for one, another in zip(mine, theirs, strict=False):
        if one != another:
            break
        count += 1
    return count
