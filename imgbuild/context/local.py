"""The build context: a directory of this machine, read in place, without what its ignore file takes away."""

from __future__ import annotations

import errno
import os
import stat
import time

from imgbuild.context.filtered import Filtered
from imgbuild.context.held import ROOM, Held, Laid, parted, space
from imgbuild.context.ignore import Ignore
from imgbuild.context.stats import FileDigests, StatCache
from imgbuild.context.tree import Found, match
from imgbuild.errors import ContextError
from imgbuild.hints import Callable, Iterator, NamedTuple, Sequence, TracebackType
from imgbuild.light.functools import partial
from imgbuild.light.operator import attrgetter, itemgetter
from imgbuild.light.pathlib import Path
from imgbuild.linux.node import Node
from imgbuild.linux.reading import read_at_most
from imgbuild.linux.symlinks import resolve_inside

CAPABILITY = "security.capability"
"""The one extended attribute that comes from a context: the others do not survive a checkout."""

_AT_ONCE = 1 << 19
"""Bytes of files that are read together."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class SeenDirectory(NamedTuple):
    """A directory that was listed, by its path in the context: its status before that, and what of its entries was looked into. Which
    names are in it, its own status tells."""

    path: str
    status: Node
    entries: tuple[tuple[str, Node], ...]


class LocalContext(Filtered):
    """`root` as a Tree; sockets are not in it. A context manager: it holds one descriptor.

    Directories are read once, so that digest and copy see the same files; a file that is not any more what the reading saw is a
    ContextError. `name` is how errors call it. With `stats`, an unchanged file is not read again by the next build. What was
    read of many files waits for its copy below the directory `scratch`, where that has space.
    """

    def __init__(
        self,
        root: Path,
        ignore: Ignore | None = None,
        *,
        name: str = "the build context",
        stats: StatCache | None = None,
        clock: Callable[[], int] = time.time_ns,
        scratch: Path | None = None,
    ) -> None:
        self.root = root
        self.name = name
        self.ignore = ignore or Ignore()
        self._disk = _Disk(root)
        super().__init__(self._disk, self.ignore)
        self._held = Held(directory=str(scratch) if scratch is not None else None)
        self.digests = FileDigests(self, stats, os.path.realpath(root), clock, held=self._held, load=self._disk.load_into)

    def __enter__(self) -> LocalContext:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remember the digests that were taken, and let go of the directory; closing again does nothing."""
        self.digests.save()
        self._held.close()
        self._disk.close()

    def looked_at(self, most: int) -> tuple[SeenDirectory, ...] | None:
        """All that was seen of the directory, and decided what the digests are: whatever else changes in it, changes none of them. None
        where there are more than `most` names to look at."""
        if sum(1 + len(entries) for _, entries in self._disk.seen().values()) > most:
            return None
        digested = self.digests.asked()
        found = []
        for path, (status, entries) in self._disk.seen().items():
            visible = {name for name, _ in self.entries(path)}
            files = digested.get(path, frozenset())
            counted = tuple([
                (name, node)
                for name, node in entries.items()
                if name in visible and not stat.S_ISDIR(node.mode) and (name in files or not stat.S_ISREG(node.mode))
            ])
            found.append(SeenDirectory(path, status, counted))
        return tuple(found)

    def load(self, path: str, node: Node) -> tuple[bytes, bytes]:
        """What was read for a digest is handed out once, as it was then."""
        directory, _, name = path.rpartition("/")
        data = self._held.take_one(directory or "/", name) if self._held.has(directory or "/") else None
        return self._disk.load(path, node) if data is None else (data, b"")

    def laid(self, directory: str, files: Sequence[tuple[str, Node]]) -> Iterator[Laid]:
        """`load` for some small files of a directory, as they lie in a layer; whoever gets them may write to the room between."""
        start = 0
        while start < len(files):
            held = self._held.take(directory, files[start:])
            if held is not None:
                yield held
                start += len(held.files)
                continue
            end = start + 1
            if self._held.has(directory):
                data, capability = self.load(_child(directory, files[start][0]), files[start][1])
                area = memoryview(bytearray(space(len(data))))
                area[ROOM : ROOM + len(data)] = data
                yield Laid(directory, files[start:end], area, capability)
            else:
                size = space(files[start][1].size)
                while end < len(files) and size < _AT_ONCE:
                    size += space(files[end][1].size)
                    end += 1
                yield from self._disk.laid(directory, files[start:end], size)
            start = end

    def match(self, source: str, *, optional: bool = False) -> tuple[Found, ...]:
        """What a source word means here (see tree.match); the error for a missing one names the ignore file's line."""
        return match(self, source, where=self.name, hint=self._why_missing, optional=optional)

    def _why_missing(self, path: str) -> str | None:
        pattern = self.ignore.reason(path[1:])
        if pattern is None or pattern.exception or not self._disk.exists(path):
            return None
        return f"it exists, but line {pattern.line} of {self.ignore.name} excludes it: {pattern}"


class _Disk:
    """A directory as a Tree, without following symlinks; a directory or file that was replaced since it was seen is an error."""

    local = True

    def __init__(self, root: Path) -> None:
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise ContextError(f"can't open the build context {str(root)!r}: {error.strerror}") from None
        self._directories: dict[str, dict[str, Node]] = {}
        self._statuses: dict[str, Node] = {}
        self._open = True

    def close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._root)

    def seen(self) -> dict[str, tuple[Node, dict[str, Node]]]:
        """Each directory that was listed: its status before that, and its entries."""
        return {path: (self._statuses[path], entries) for path, entries in self._directories.items()}

    def exists(self, path: str) -> bool:
        return self._status(path) is not None

    def lstat(self, path: str) -> Node | None:
        if path == "/":
            return Node.of(os.fstat(self._root))
        parent, _, name = path.rpartition("/")
        seen = self._directories.get(parent or "/")
        return seen.get(name) if seen is not None else self._status(path)

    def entries(self, path: str) -> Iterator[tuple[str, Node]]:
        seen = self._directories.get(path)
        if seen is None:
            # of two threads, the first to have read it decides for both: one view of the context for digest and copy
            seen = self._directories.setdefault(path, self._scan(path))
        return iter(seen.items())

    def open(self, path: str) -> int:
        known = self.lstat(path)
        try:
            fd = os.open(_relative(path), _READ, dir_fd=self._root)
        except OSError as error:
            raise _unreadable(path, error) from None
        if known is None or not same_file(known, Node.of(os.fstat(fd))):
            os.close(fd)
            raise changed(path)
        return fd

    def load(self, path: str, node: Node) -> tuple[bytes, bytes]:
        # One look at the status, after the bytes, tells of all that has happened to the file since it was seen.
        try:
            fd = os.open(path[1:], _READ, dir_fd=self._root)
        except OSError as error:
            raise _unreadable(path, error) from None
        try:
            data = read_at_most(fd, node.size + 1)
            status = os.fstat(fd)
            if len(data) != node.size or _SEEN(status) != _KNOWN(node):
                raise changed(path)
            return data, _capability(fd)
        except OSError as error:
            raise _unreadable(path, error) from None
        finally:
            os.close(fd)

    def laid(self, directory: str, files: Sequence[tuple[str, Node]], size: int) -> Iterator[Laid]:
        """`load` for files of one directory, which take so many bytes together with the room around them."""
        data = memoryview(bytearray(size))
        loaded = enumerate(self.load_into(directory, files, data))
        capable = {number: capability for number, (_, capability) in loaded if capability}
        for first, last, start, end, capability in parted(files, capable):
            yield Laid(directory, files[first:last], data[start:end], capability)

    def load_into(self, directory: str, files: Sequence[tuple[str, Node]], data: memoryview) -> Iterator[tuple[memoryview, bytes]]:
        """The same one by one, to where they belong in `data`."""
        try:
            here = os.open(_relative(directory), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root)
        except OSError as error:
            raise _unreadable(directory, error) from None
        name, at, spare = "", 0, bytearray(1)
        opened, read, look, attributes, close = os.open, os.readv, os.fstat, os.listxattr, os.close
        try:
            for name, node in files:
                size = node.size
                content = data[at + ROOM : at + ROOM + size]
                at += (size + 2 * ROOM - 1) & -ROOM
                fd = opened(name, _READ, dir_fd=here)
                try:
                    # One look at the status, after the bytes, tells of all that has happened to the file since it was seen; one byte too
                    # many, of files whose size says nothing.
                    if ((got := read(fd, (content, spare))) != size and (got > size or not _is_filled(fd, content))) or (
                        _SEEN(look(fd)) != _KNOWN(node)
                    ):
                        raise changed(_child(directory, name))
                    try:
                        capability = _capability(fd) if attributes(fd) else b""
                    except OSError:
                        capability = b""
                finally:
                    close(fd)
                yield content, capability
        except OSError as error:
            raise _unreadable(_child(directory, name), error) from None
        finally:
            os.close(here)

    def readlink(self, path: str) -> str:
        try:
            return os.readlink(_relative(path), dir_fd=self._root)
        except OSError as error:
            raise _unreadable(path, error) from None

    def xattrs(self, path: str) -> dict[str, bytes]:
        known = self.lstat(path)
        if known is None or not stat.S_ISREG(known.mode):
            return {}
        fd = self.open(path)
        try:
            return {CAPABILITY: os.getxattr(fd, CAPABILITY)}
        except OSError:
            return {}
        finally:
            os.close(fd)

    def resolve(self, path: str, follow_last: bool = True) -> str:
        return resolve_inside(path, lambda real: None, follow_last)

    def _status(self, path: str) -> Node | None:
        try:
            return Node.of(os.stat(_relative(path), dir_fd=self._root, follow_symlinks=False))
        except OSError:
            return None

    def _scan(self, path: str) -> dict[str, Node]:
        known = self.lstat(path)
        try:
            fd = os.open(_relative(path), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root)
        except OSError as error:
            raise _unreadable(path, error) from None
        try:
            now = Node.of(os.fstat(fd))
            if known is None or (known.dev, known.ino) != (now.dev, now.ino):
                raise changed(path)
            self._statuses.setdefault(path, now)
            # A directory of many files is gone through by loops that are not Python's.
            names = os.listdir(fd)
            names.sort(key=None if "".join(names).isascii() else os.fsencode)
            nodes = list(Node.each(map(partial(os.stat, dir_fd=fd, follow_symlinks=False), names)))
        except OSError as error:
            raise _unreadable(path, error) from None
        finally:
            os.close(fd)
        found = dict(zip(names, nodes, strict=True))
        for name in [name for name, node in found.items() if stat.S_ISSOCK(node.mode)]:
            del found[name]
        return found


def same_file(first: Node, second: Node) -> bool:
    """Whether two looks saw one unchanged file; other names that it got or lost do not count."""
    return first.ctime_ns == second.ctime_ns and first[:6] == second[:6] and (first.dev, first.ino) == (second.dev, second.ino)


_COMPARED = ("ctime_ns", "mtime_ns", "size", "ino", "dev", "mode", "uid", "gid")
_SEEN = attrgetter(*(f"st_{name}" for name in _COMPARED))
_KNOWN = itemgetter(*(Node._fields.index(name) for name in _COMPARED))
"""The same, as is asked for each of many files."""


def changed(path: str) -> ContextError:
    """The error for a file that is not any more what was seen."""
    return ContextError(f"{path[1:] or '.'!r} changed while it was read", hint="build again when nothing writes to the build context")


def _is_filled(fd: int, content: memoryview) -> bool:
    """Read again, as not all file systems give as much at once as is asked for: whether the file has as many bytes."""
    at = 0
    while at < len(content) and (more := os.preadv(fd, (content[at:],), at)):
        at += more
    return at == len(content)


def _capability(fd: int) -> bytes:
    try:
        # Hardly any file has one, and an empty list costs less than an error.
        return os.getxattr(fd, CAPABILITY) if CAPABILITY in os.listxattr(fd) else b""
    except OSError:
        return b""


def _unreadable(path: str, error: OSError) -> ContextError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return changed(path)
    return ContextError(
        f"can't read {path[1:] or '.'!r} in the build context: {error.strerror}", hint="make it readable, or name it in the ignore file"
    )


def _relative(path: str) -> str:
    return path[1:] or "."


def _child(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory != "/" else f"/{name}"
