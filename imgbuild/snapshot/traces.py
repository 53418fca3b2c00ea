"""What each lower of a stack says of one path: wrote it, deleted it, or nothing. Topmost first."""

from __future__ import annotations

import stat
from typing import Literal

from imgbuild.hints import Iterator, Sequence
from imgbuild.light.contextlib import ExitStack, closing, contextmanager
from imgbuild.linux.node import Node
from imgbuild.snapshot import Lowers
from imgbuild.snapshot.readers import LowerReader, is_whiteout, reader_of
from imgbuild.values import dataclass

Said = Literal["wrote", "deleted"]


@dataclass(frozen=True, slots=True)
class Trace:
    """What the lower with that number, counted from 0 at the bottom, says. `at` is the path that it speaks of: an ancestor, where that was
    deleted, replaced or emptied with all below it. `node` is what it wrote."""

    lower: int
    said: Said
    at: str
    node: Node | None = None


@contextmanager
def opened_lowers(lowers: Lowers, *, userxattr: bool = False) -> Iterator[tuple[LowerReader, ...]]:
    """Readers of the lowers, which take a descriptor each."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(closing(reader_of(lower, userxattr))) for lower in lowers)


def traces(readers: Sequence[LowerReader], path: str) -> Iterator[Trace]:
    """All that is said of a real path. A lower that deletes and writes says both: of a directory that it made anew."""
    for number in range(len(readers) - 1, -1, -1):
        yield from _said(readers[number], number, path.strip("/"))


def _said(reader: LowerReader, number: int, path: str) -> Iterator[Trace]:
    emptied = ""
    names = path.split("/") if path else []
    for depth in range(len(names) + 1):
        here = "/".join(names[:depth])
        node = reader.lstat(here)
        last = depth == len(names)
        if node is None:
            break
        if is_whiteout(node):
            yield Trace(number, "deleted", f"/{here}")
            return
        if last:
            yield Trace(number, "wrote", f"/{here}", node)
        elif not stat.S_ISDIR(node.mode):
            yield Trace(number, "deleted", f"/{here}")
            return
        # The kernel does not ask whether the root is opaque.
        if here and stat.S_ISDIR(node.mode) and not emptied and reader.opaque(here):
            emptied = f"/{here}"
    if emptied:
        yield Trace(number, "deleted", emptied)
