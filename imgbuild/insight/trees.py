"""In what two trees of inputs differ, from the top: what is equal by its digest is not looked at. Pure, but for where nodes come from."""

from __future__ import annotations

from imgbuild.hints import Callable, Iterator
from imgbuild.store.nodes import SHORT, Entry, Node, short
from imgbuild.values import dataclass

Fetch = Callable[[str], Node | None]
"""The node with a short digest, if it is known."""


_FEW = 16
"""As many entries are looked up one by one."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs: "" is what was asked for itself. `what` are the words added, removed, kind, content, target, mode, time,
    owner, attributes, links, or unknown where the trees are not known well enough. What an entry was and is stands in `old` and `new`."""

    path: str
    what: tuple[str, ...]
    old: Entry | None = None
    new: Entry | None = None


def changes(old: str, new: str, before: Fetch, now: Fetch) -> Iterator[Change]:
    """The paths in which the trees with these digests differ, a directory's before those below it. `before` and `now` have their nodes."""
    pending = [("", short(old), short(new))]
    while pending:
        path, was, now_is = pending.pop()
        if was == now_is:
            continue
        first, second = before(was), now(now_is)
        if first is None or second is None:
            yield Change(path, ("unknown",))
            continue
        below = []
        for name, one, other in _differing(first, second):
            here = f"{path}/{name}" if path and name else path or name
            if one is not None and other is not None:
                what = _aspects(one, other)
                if one.kind.startswith("directory") and other.kind.startswith("directory") and one.body != other.body:
                    below.append((here, one.body, other.body))
                    what = tuple(word for word in what if word != "content")
                if what:
                    yield Change(here, what, one, other)
            else:
                yield Change(here, ("removed",) if other is None else ("added",), one, other)
        pending.extend(reversed(below))


def _differing(old: Node, new: Node) -> Iterator[tuple[str, Entry | None, Entry | None]]:
    names = new.words()
    if old.same_kinds(new):  # contents only, as after most edits
        unequal = list(_unequal(old.bodies, new.bodies, 0, len(new)))
        if len(unequal) <= _FEW:
            yield from ((names[index], old.entry(index), new.entry(index)) for index in unequal)
            return
    before, now = dict(zip(old.words(), old.entries(), strict=True)), dict(zip(names, new.entries(), strict=True))
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield name, before.get(name), now.get(name)


def _unequal(old: bytes, new: bytes, start: int, end: int) -> Iterator[int]:
    """The numbers of the items that differ, found by halves: to see that many are equal costs little."""
    pending = [(start, end)]
    while pending:
        start, end = pending.pop()
        if old[start * SHORT : end * SHORT] == new[start * SHORT : end * SHORT]:
            continue
        if end - start == 1:
            yield start
        else:
            middle = (start + end) // 2
            pending += [(middle, end), (start, middle)]


def _aspects(old: Entry, new: Entry) -> tuple[str, ...]:
    (was, old_mode, old_time), (kind, mode, time) = _parted(old.kind), _parted(new.kind)
    if was != kind:
        return ("kind",)
    found = []
    if old.body != new.body:
        found.append({"file": "content", "directory": "content", "symlink": "target", "links": "links"}.get(kind, "device"))
    words = (("mode", old_mode, mode), ("owner", old.owner, new.owner), ("attributes", old.xattrs, new.xattrs), ("time", old_time, time))
    found += [word for word, one, other in words if one != other]
    return tuple(found)


def _parted(kind: str) -> tuple[str, str, str]:
    name, _, rest = kind.partition(" ")
    mode, _, time = rest.partition(" ")
    return name, mode, time
