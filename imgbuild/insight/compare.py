"""Two root file systems, each as entries in order -> what changed. Pure: contents and attributes are asked for only where they decide.

The order is that of a walk: parents before children, siblings by their bytes. Both sides may leave out what is the same in both.
"""

from __future__ import annotations

import os
from typing import Literal, Protocol

from imgbuild.hints import Iterable, Iterator
from imgbuild.linux.node import Kind
from imgbuild.values import dataclass

Verb = Literal["added", "removed", "changed"]
Aspect = Literal["type", "content", "mode", "owner", "link", "hardlink", "device", "xattrs", "time"]
Xattrs = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a root file system. `path` is absolute; `link` a symlink's target; `first` the path of the same file that came before
    it, where it is one more name of that; `size` a file's."""

    path: str
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    device: tuple[int, int] = (0, 0)
    link: str = ""
    first: str = ""

    @property
    def stored(self) -> int:
        """The bytes that it adds to its root: those of a file count once."""
        return 0 if self.first or self.kind != "file" else self.size


@dataclass(frozen=True, slots=True)
class XattrChange:
    """One extended attribute; None where it is not there."""

    name: bytes
    old: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to a path. `old` is None for what was added, `new` for what was removed; `aspects` say what changed."""

    path: str
    verb: Verb
    old: Entry | None
    new: Entry | None
    aspects: tuple[Aspect, ...] = ()
    xattrs: tuple[XattrChange, ...] = ()

    @property
    def growth(self) -> int:
        """Bytes that the root has more of."""
        return (self.new.stored if self.new else 0) - (self.old.stored if self.old else 0)


class Contents(Protocol):
    """What is not in the entries, of a path that is there on both sides as the same kind."""

    def differ(self, path: str) -> bool:
        """Whether two files of the same size hold other bytes."""
        ...

    def xattrs(self, path: str) -> tuple[Xattrs, Xattrs]:
        """The old and the new extended attributes, sorted by name."""
        ...


def compare(old: Iterable[Entry], new: Iterable[Entry], contents: Contents, *, times: bool = False) -> Iterator[Change]:
    """The changes that lead from `old` to `new`, in order. With `times`, a time alone is a change."""
    before, after = iter(old), iter(new)
    one, other = next(before, None), next(after, None)
    while one is not None or other is not None:
        if other is None or (one is not None and order(one.path) < order(other.path)):
            assert one is not None
            yield Change(one.path, "removed", one, None)
            one = next(before, None)
        elif one is None or order(other.path) < order(one.path):
            yield Change(other.path, "added", None, other)
            other = next(after, None)
        else:
            change = _changed(one, other, contents, times)
            if change is not None:
                yield change
            one, other = next(before, None), next(after, None)


def order(path: str) -> bytes:
    """What paths are sorted by: no byte of a name comes before the slash."""
    return os.fsencode(path).replace(b"/", b"\0")


def _changed(old: Entry, new: Entry, contents: Contents, times: bool) -> Change | None:
    aspects: list[Aspect] = []
    xattrs: tuple[XattrChange, ...] = ()
    if old.kind != new.kind:
        return Change(old.path, "changed", old, new, ("type",))
    if old.kind == "file" and (old.size != new.size or contents.differ(old.path)):
        aspects.append("content")
    if old.link != new.link:
        aspects.append("link")
    if old.first != new.first:
        aspects.append("hardlink")
    if old.device != new.device:
        aspects.append("device")
    if old.kind != "symlink" and old.mode != new.mode:
        aspects.append("mode")
    if (old.uid, old.gid) != (new.uid, new.gid):
        aspects.append("owner")
    if old.kind in ("file", "dir") and (xattrs := _xattr_changes(*contents.xattrs(old.path))):
        aspects.append("xattrs")
    if times and old.mtime_ns != new.mtime_ns:
        aspects.append("time")
    return Change(old.path, "changed", old, new, tuple(aspects), xattrs) if aspects else None


def _xattr_changes(old: Xattrs, new: Xattrs) -> tuple[XattrChange, ...]:
    if old == new:
        return ()
    before, after = dict(old), dict(new)
    return tuple(
        XattrChange(name, before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )
