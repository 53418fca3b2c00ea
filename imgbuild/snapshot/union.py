"""A stack of lowers read in userspace as overlayfs would show it: no mount, no privilege, no process.

Paths are absolute ``str`` (surrogateescape). All but `resolve` and `stat` take *real* paths, in which no component is a symlink
except perhaps the last; a path through a symlink is missing there. So an image's symlinks are followed in one place only, and
never out of the image. The lowers must be committed, or at least still.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from types import TracebackType

from imgbuild.linux.node import Node
from imgbuild.linux.symlinks import resolve_inside
from imgbuild.snapshot import Lowers
from imgbuild.snapshot.readers import LowerReader, is_whiteout, reader_of

_REMEMBERED = 1 << 16

EMPTY_ROOT = Node(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 2, 0, 0, 0)
"""The root directory of a stack without lowers."""


class _Found:
    """An entry of the union: its status, the lower that has it (the topmost, for a directory), and for a directory all the
    lowers that make it up, topmost first."""

    __slots__ = ("lower", "merged", "status")

    def __init__(self, status: Node, lower: int, merged: tuple[int, ...] = ()) -> None:
        self.status = status
        self.lower = lower
        self.merged = merged


class UnionView:
    """`lowers` as one file system, lowest first. A context manager: it holds one descriptor for each lower."""

    local = False

    def __init__(self, lowers: Lowers, *, userxattr: bool = False) -> None:
        self.lowers = lowers
        self._readers: list[LowerReader] = []
        try:
            for lower in reversed(lowers):
                self._readers.append(reader_of(lower, userxattr))
        except BaseException:
            self.close()
            raise
        self._seen: dict[str, _Found | None] = {}

    def __enter__(self) -> UnionView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lowers; closing again does nothing."""
        while self._readers:
            self._readers.pop().close()

    def lstat(self, path: str) -> Node | None:
        """The status of the entry at a real path, and None where nothing is."""
        found = self._find(_normal(path))
        return found.status if found else None

    def stat(self, path: str) -> Node | None:
        """The status of what a path means with all symlinks followed, and None where that is nothing."""
        return self.lstat(self.resolve(path))

    def resolve(self, path: str, follow_last: bool = True) -> str:
        """The real path that `path` means; what is missing stays as written. OSError ELOOP after 40 links."""
        return resolve_inside(path, self._link, follow_last)

    def listdir(self, path: str) -> tuple[str, ...]:
        """The names in a directory, sorted by their bytes. OSError where no directory is."""
        path = _normal(path)
        found = self._directory(path)
        names: set[str] = set()
        hidden: set[str] = set()
        for index in found.merged:
            here = self._readers[index].names(path[1:])
            gone = {name for name, whiteout in here if whiteout}
            names.update(name for name, whiteout in here if not whiteout and name not in hidden)
            hidden.update(gone)
        return tuple(sorted(names, key=os.fsencode))

    def entries(self, path: str) -> Iterator[tuple[str, Node]]:
        """The names in a directory and their status, sorted by the names' bytes."""
        path = _normal(path)
        for name in self.listdir(path):
            yield name, self._entry(_join(path, name)).status

    def open(self, path: str) -> int:
        """A new descriptor of the file at a real path, for reading. OSError where no regular file is."""
        path = _normal(path)
        found = self._entry(path)
        if not stat.S_ISREG(found.status.mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return self._readers[found.lower].open(path[1:])

    def readlink(self, path: str) -> str:
        """The target of the symlink at a real path."""
        path = _normal(path)
        return self._readers[self._entry(path).lower].readlink(path[1:])

    def xattrs(self, path: str) -> dict[str, bytes]:
        """The extended attributes of the entry at a real path, sorted by name, without overlay's own and this machine's."""
        path = _normal(path)
        if not self._readers and path == "/":
            return {}
        return self._readers[self._entry(path).lower].xattrs(path[1:])

    def walk(self, path: str = "/") -> Iterator[tuple[str, Node]]:
        """The entry at a real path and all below it, parents first, names sorted by their bytes."""
        pending = [_normal(path)]
        while pending:
            here = pending.pop()
            status = self._entry(here).status
            yield here, status
            if stat.S_ISDIR(status.mode):
                pending.extend(_join(here, name) for name in reversed(self.listdir(here)))

    def read(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """The first `limit` bytes of what a path means with symlinks followed; None where that is no regular file."""
        real = self.resolve(path)
        status = self.lstat(real)
        if status is None or not stat.S_ISREG(status.mode):
            return None
        with os.fdopen(self.open(real), "rb") as file:
            return file.read(limit)

    def _link(self, path: str) -> str | None:
        found = self._find(path)
        return self.readlink(path) if found and stat.S_ISLNK(found.status.mode) else None

    def _entry(self, path: str) -> _Found:
        found = self._find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def _directory(self, path: str) -> _Found:
        found = self._entry(path)
        if not stat.S_ISDIR(found.status.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return found

    def _find(self, path: str) -> _Found | None:
        if path in self._seen:
            return self._seen[path]
        missing = [path]
        while path != "/":
            path = path.rpartition("/")[0] or "/"
            if path in self._seen:
                break
            missing.append(path)
        found = self._seen.get(path)
        for path in reversed(missing):
            if path == "/":
                found = self._merge("", tuple(range(len(self._readers)))) or _Found(EMPTY_ROOT, -1)
            else:
                found = self._merge(path[1:], found.merged) if found else None
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen[path] = found
        return found

    def _merge(self, path: str, candidates: tuple[int, ...]) -> _Found | None:
        """What the lowers `candidates`, topmost first, make of `path`: as ovl_lookup() in the kernel does."""
        top: Node | None = None
        merged: list[int] = []
        for index in candidates:
            reader = self._readers[index]
            status = reader.lstat(path)
            if status is None:
                continue
            if not stat.S_ISDIR(status.mode):
                if top is None and not is_whiteout(status):
                    return _Found(status, index)
                break
            top = top or status
            merged.append(index)
            # an opaque root means nothing: the kernel does not ask for it
            if path and len(candidates) > 1 and reader.opaque(path):
                break
        return _Found(top, merged[0], tuple(merged)) if top else None


def _normal(path: str) -> str:
    """A real path as it is remembered: one slash before each name."""
    if path.endswith("/") or "//" in path or not path.startswith("/"):
        return "/" + "/".join(name for name in path.split("/") if name)
    return path


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory != "/" else f"/{name}"
