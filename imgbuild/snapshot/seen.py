"""What was seen of stacks of lowers, kept for the next views: a stack that differs from one that was read by what is on top of it is
asked about that alone. A build of many steps reads a deep stack again and again; without this, each look would go through all of it.

Only for lowers that nothing writes to any more, all read with the same kind of overlay attributes. Safe to share between threads.
"""

from __future__ import annotations

from imgbuild.hints import TYPE_CHECKING
from imgbuild.light import threading
from imgbuild.light.collections import deque

if TYPE_CHECKING:
    from imgbuild.linux.node import Node
    from imgbuild.snapshot import Lower, Lowers

_REMEMBERED = 1 << 16
_LONGEST_LISTING = 1 << 12
_RECENT = 16


class Found:
    """An entry of a union: its status, the lower that has it (the topmost, for a directory), and for a directory all the lowers that
    make it up, topmost first. Lowers are numbered from the lowest, so that this holds on any stack that begins with them.

    `data` is the content of a small file and `xattrs` are those of a directory, once somebody wanted to know: as /etc/passwd and /etc,
    which each step asks for, and for which a lower may have to be mounted."""

    __slots__ = ("data", "lower", "merged", "status", "xattrs")

    def __init__(self, status: Node, lower: int, merged: tuple[int, ...] = ()) -> None:
        self.status = status
        self.lower = lower
        self.merged = merged
        self.data: bytes | None = None
        self.xattrs: dict[str, bytes] | None = None


class Level:
    """A stack, by the lower on its top: `found` is what paths are in it, `names` are what is in directories of the top lower alone (None:
    too much to keep)."""

    __slots__ = ("found", "lower", "names", "number")

    def __init__(self, number: int, lower: Lower, names: dict[str, frozenset[str] | None]) -> None:
        self.number = number
        self.lower = lower
        self.found: dict[str, Found | None] = {}
        self.names = names


class Seen:
    """All that was seen, up to a bound: then it begins anew."""

    def __init__(self) -> None:
        self._levels: dict[tuple[int, Lower], Level] = {}
        self._names: dict[Lower, dict[str, frozenset[str] | None]] = {}
        self._recent: deque[tuple[Lowers, tuple[Level, ...]]] = deque(maxlen=_RECENT)
        self._count = 0
        self._lock = threading.Lock()

    def levels(self, lowers: Lowers) -> tuple[Level, ...]:
        """The stacks that `lowers` is made of, from its lowest alone to all."""
        with self._lock:
            below, found = self._nearest(lowers)
            if len(found) < len(lowers):
                made = list(found)
                for lower in lowers[len(found) :]:
                    made.append(self._level(made[-1].number if made else 0, lower))
                found = tuple(made)
            if below is not lowers:
                self._recent.append((lowers, found))
            return found

    def remember(self, level: Level, path: str, found: Found | None) -> None:
        """Keep what a path is in a stack."""
        self._counted(1)
        level.found[path] = found

    def remember_names(self, level: Level, directory: str, names: frozenset[str]) -> frozenset[str] | None:
        """Keep which names a directory of a stack's top lower has; None where they are too many."""
        kept = names if len(names) <= _LONGEST_LISTING else None
        self._counted(len(kept or ()) + 1)
        level.names[directory] = kept
        return kept

    def _counted(self, more: int) -> None:
        self._count += more
        if self._count > _REMEMBERED:
            with self._lock:
                for level in self._levels.values():
                    level.found.clear()
                for names in self._names.values():
                    names.clear()
                self._count = more

    def _nearest(self, lowers: Lowers) -> tuple[Lowers, tuple[Level, ...]]:
        """The stack that was asked for lately and is this one, or this one without its top."""
        below = lowers[:-1]
        best: tuple[Lowers, tuple[Level, ...]] = ((), ())
        for known in reversed(self._recent):
            if known[0] is lowers or known[0] == lowers:
                return lowers, known[1]
            if known[0] and known[0] == below:
                best = known
        return best

    def _level(self, below: int, lower: Lower) -> Level:
        level = self._levels.get((below, lower))
        if level is None:
            names = self._names.setdefault(lower, {})
            level = self._levels[(below, lower)] = Level(len(self._levels) + 1, lower, names)
        return level
