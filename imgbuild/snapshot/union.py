"""A stack of lowers read in userspace as overlayfs would show it: no mount, no privilege, no process.

Paths are absolute ``str`` (surrogateescape). All but `resolve` and `stat` take *real* paths, in which no component is a symlink
except perhaps the last; a path through a symlink is missing there. So an image's symlinks are followed in one place only, and
never out of the image. The lowers must be committed, or at least still.
"""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.hints import Iterator, TracebackType
from imgbuild.light.contextlib import closing, contextmanager
from imgbuild.linux.node import Node
from imgbuild.linux.reading import read_and_close, read_at_most
from imgbuild.linux.symlinks import resolve_inside
from imgbuild.snapshot import Lowers
from imgbuild.snapshot.readers import LowerReader, is_whiteout, reader_of
from imgbuild.snapshot.seen import Found, Seen

_MANY = 8
"""Of more lowers than that, a name is looked up in what their directories list, once read."""

_SMALL = 1 << 16
"""Bytes of a file that is kept once it was read."""

_UNSEEN: Found | None = Found(Node(0, 0, 0, 0, 0, 0, 0, 0, 0, 0), -1)

EMPTY_ROOT = Node(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 2, 0, 0, 0)
"""The root directory of a stack without lowers."""


class UnionView:
    """`lowers` as one file system, lowest first. A context manager: it holds a descriptor for each lower that it had to open.

    What it sees it keeps in `seen`, where views of stacks with the same lowers below find it."""

    local = False

    def __init__(self, lowers: Lowers, *, userxattr: bool = False, seen: Seen | None = None) -> None:
        self.lowers = lowers
        self._userxattr = userxattr
        self._seen = Seen() if seen is None else seen
        self._levels = self._seen.levels(lowers)
        self._readers: dict[int, LowerReader] = {}

    def __enter__(self) -> UnionView:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lowers; closing again does nothing."""
        while self._readers:
            self._readers.popitem()[1].close()

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
            with self._lent(index) as reader:
                here = reader.names(path[1:])
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
        return self._reader(found.lower).open(path[1:])

    def load(self, path: str, node: Node) -> tuple[bytes, bytes]:
        """The bytes of a small regular file, at most one more than `node` says; nothing of its attributes."""
        return read_and_close(self.open(path), node.size + 1), b""

    def readlink(self, path: str) -> str:
        """The target of the symlink at a real path."""
        path = _normal(path)
        return self._reader(self._entry(path).lower).readlink(path[1:])

    def xattrs(self, path: str) -> dict[str, bytes]:
        """The extended attributes of the entry at a real path, sorted by name, without overlay's own and this machine's."""
        path = _normal(path)
        if not self.lowers and path == "/":
            return {}
        found = self._entry(path)
        if found.xattrs is not None:
            return found.xattrs
        xattrs = self._reader(found.lower).xattrs(path[1:])
        if stat.S_ISDIR(found.status.mode):
            found.xattrs = xattrs
        return xattrs

    def walk(self, path: str = "/") -> Iterator[tuple[str, Node]]:
        """The entry at a real path and all below it, parents first, names sorted by their bytes."""
        pending = [_normal(path)]
        while pending:
            here = pending.pop()
            status = self._entry(here).status
            yield here, status
            if stat.S_ISDIR(status.mode):
                pending.extend(_join(here, name) for name in reversed(self.listdir(here)))

    def made_of(self, path: str) -> Lowers:
        """The lowers that the entry at a real path is made of, topmost first: all that make up a directory, else one. None for nothing:
        what is below a directory, and what a file is, follows from these alone."""
        found = self._find(_normal(path))
        if found is None or found.lower < 0:
            return ()
        return tuple(self.lowers[index] for index in found.merged or (found.lower,))

    def names_in(self, path: str, most: int) -> frozenset[str]:
        """The names that the topmost `most` lowers of a directory have in it, those of whiteouts included."""
        path = _normal(path)
        names: set[str] = set()
        for index in self._directory(path).merged[:most]:
            with self._lent(index) as reader:
                names.update(name for name, _ in reader.names(path[1:]))
        return frozenset(names)

    def read(self, path: str, limit: int = 1 << 20) -> bytes | None:
        """The first `limit` bytes of what a path means with symlinks followed; None where that is no regular file."""
        real = self.resolve(path)
        found = self._find(_normal(real))
        if found is None or not stat.S_ISREG(found.status.mode):
            return None
        if found.data is None:
            fd = self.open(real)
            try:
                data = read_at_most(fd, min(found.status.size, limit) + 1)
            finally:
                os.close(fd)
            if len(data) > _SMALL or len(data) > limit:
                return data[:limit]
            found.data = data
        return found.data[:limit]

    def _link(self, path: str) -> str | None:
        found = self._find(path)
        return self.readlink(path) if found and stat.S_ISLNK(found.status.mode) else None

    def _entry(self, path: str) -> Found:
        found = self._find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    def _directory(self, path: str) -> Found:
        found = self._entry(path)
        if not stat.S_ISDIR(found.status.mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return found

    def _find(self, path: str) -> Found | None:
        if not self._levels:
            return Found(EMPTY_ROOT, -1) if path == "/" else None
        top = self._levels[-1]
        found = top.found.get(path, _UNSEEN)
        if found is not _UNSEEN:
            return found
        missing = [path]
        while path != "/":
            path = path.rpartition("/")[0] or "/"
            found = top.found.get(path, _UNSEEN)
            if found is not _UNSEEN:
                break
            missing.append(path)
        if found is _UNSEEN:
            found = self._root()
            self._seen.remember(top, missing.pop(), found)
        for path in reversed(missing):
            if found is None:
                return None  # nothing is below what is not there, and need not be kept: a COPY asks for each name that it makes
            found = self._merge(path, found.merged)
            self._seen.remember(top, path, found)
        return found

    def _root(self) -> Found:
        """All lowers make it up, the topmost gives it its status. That one were opaque means nothing: the kernel does not ask."""
        top = len(self._levels) - 1
        status = self._reader(top).lstat("")
        return Found(status, top, tuple(range(top, -1, -1))) if status else Found(EMPTY_ROOT, -1)

    def _merge(self, path: str, candidates: tuple[int, ...]) -> Found | None:
        """What the lowers `candidates`, topmost first, make of `path`: as ovl_lookup() in the kernel does."""
        top: Node | None = None
        merged: list[int] = []
        many = len(candidates) > _MANY
        for index in candidates:
            known = self._levels[index].found.get(path, _UNSEEN)
            if known is not _UNSEEN:  # what this one and all below it make of it
                if top is None:
                    return known
                if known is not None and known.merged:
                    merged += known.merged
                break
            status, opaque = self._look_in_many(index, path) if many else self._look(self._reader(index), index, path, len(candidates) > 1)
            if status is None:
                continue
            if not stat.S_ISDIR(status.mode):
                if top is None and not is_whiteout(status):
                    return Found(status, index)
                break
            top = top or status
            merged.append(index)
            if opaque:
                break
        return Found(top, merged[0], tuple(merged)) if top else None

    def _look(self, reader: LowerReader, index: int, path: str, opacity: bool = True) -> tuple[Node | None, bool]:
        """What one lower has at a path, and whether that is a directory that hides what is below it."""
        status = reader.lstat(path[1:])
        if status is None or not stat.S_ISDIR(status.mode):
            if status is not None and status.nlink > 1:
                # a lower may be mounted for its reader alone, and the next mount get the same device number
                status = status._replace(dev=index)
            return status, False
        return status, opacity and reader.opaque(path[1:])

    def _look_in_many(self, index: int, path: str) -> tuple[Node | None, bool]:
        """As `_look`, in one of so many lowers that their descriptors must not all be kept."""
        level = self._levels[index]
        directory, _, name = path.rpartition("/")
        listed = directory in level.names
        names = level.names.get(directory)
        if names is not None and name not in names:
            return None, False
        with self._lent(index) as reader:
            if not listed:
                names = self._seen.remember_names(level, directory, frozenset(each for each, _ in reader.names(directory[1:])))
                if names is not None and name not in names:
                    return None, False
            return self._look(reader, index, path)

    def _reader(self, index: int) -> LowerReader:
        reader = self._readers.get(index)
        if reader is None:
            reader = self._readers[index] = reader_of(self.lowers[index], self._userxattr)
        return reader

    @contextmanager
    def _lent(self, index: int) -> Iterator[LowerReader]:
        """A reader for the moment, for who goes through all lowers: only so many descriptors may be open."""
        kept = self._readers.get(index) or (self._reader(index) if len(self._readers) < _MANY else None)
        if kept is not None:
            yield kept
            return
        with closing(reader_of(self.lowers[index], self._userxattr)) as reader:
            yield reader


def _normal(path: str) -> str:
    """A real path as it is remembered: one slash before each name."""
    if path.endswith("/") or "//" in path or not path.startswith("/"):
        return "/" + "/".join(name for name in path.split("/") if name)
    return path


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory != "/" else f"/{name}"
