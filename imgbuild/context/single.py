"""A tree of one file that is somewhere else on the disk: what a downloaded file is copied from."""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.context.stats import FileDigests
from imgbuild.hints import Iterator
from imgbuild.light.pathlib import Path
from imgbuild.linux.node import Node
from imgbuild.linux.reading import read_and_close

_ROOT = Node(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 2, 0, 1, 0)


class SingleFile:
    """The file `data` as ``/name``, owned by root, with a mode and a time (seconds) of its own. `digest` is that of its bytes, where it
    is known."""

    local = False

    def __init__(self, name: str, data: Path, size: int, mode: int, mtime: int, digest: str | None = None) -> None:
        self.path = f"/{name}"
        self._data = data
        self.digests = FileDigests(self, known={} if digest is None else {self.path: digest})
        self._node = Node(stat.S_IFREG | mode, 0, 0, size, mtime * 1_000_000_000, 0, 1, 0, 2, 0)

    def lstat(self, path: str) -> Node | None:
        return _ROOT if path == "/" else self._node if path == self.path else None

    def entries(self, path: str) -> Iterator[tuple[str, Node]]:
        if path != "/":
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return iter([(self.path[1:], self._node)])

    def open(self, path: str) -> int:
        if path != self.path:
            raise OSError(errno.EINVAL, "not a regular file", path)
        return os.open(self._data, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def load(self, path: str, node: Node) -> tuple[bytes, bytes]:
        return read_and_close(self.open(path), node.size + 1), b""

    def readlink(self, path: str) -> str:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    def xattrs(self, path: str) -> dict[str, bytes]:
        return {}

    def resolve(self, path: str, follow_last: bool = True) -> str:
        return "/" + "/".join(name for name in path.split("/") if name not in ("", "."))
