"""Nodes that came lately, in a file of their own: a few are written in some microseconds, where a database would be opened and closed.

Each is there as its short digest, its length, a checksum and its bytes. What comes after a torn one is not read, and goes when somebody
adds. Who adds, or takes the nodes out of it, has the file alone; readers need not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from binascii import crc32

from imgbuild.hints import Callable, Iterable, Iterator
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.nodes import SHORT

LONG = 1 << 18
"""Bytes of the file from which on its nodes belong into the database."""

_MOST = 1 << 22
"""Bytes that are read: more than many builds at once leave there."""

_HEAD = struct.Struct(f"<{SHORT}sII")


class Fresh:
    """The file, at `path`. What can't be written or read is not there: it only explains."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = -1
        self._nodes: dict[bytes, bytes] = {}

    def size(self) -> int:
        """Its bytes; none where something else stands in its place."""
        try:
            status = os.lstat(self._path)
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def add(self, nodes: Iterable[tuple[bytes, bytes]]) -> None:
        """Append nodes, by their short digests."""
        new = dict(nodes)
        if not new:
            return
        with suppress(OSError):
            with self._held(os.O_CREAT) as descriptor:
                known, whole = _whole(os.pread(descriptor, _MOST, 0))
                new = {digest: node for digest, node in new.items() if digest not in known}
                data = b"".join([_HEAD.pack(digest, len(node), crc32(node)) + node for digest, node in new.items()])
                os.ftruncate(descriptor, whole)
                if os.pwrite(descriptor, data, whole) != len(data):
                    os.ftruncate(descriptor, whole)
                    return
            self._nodes, self._size = known | new, whole + len(data)  # most often, they are asked for next

    def get(self, digest: bytes) -> bytes | None:
        """The node of that digest."""
        return self._read().get(digest)

    def take(self, keep: Callable[[Iterable[tuple[bytes, bytes]]], object]) -> None:
        """Hand all nodes over; if `keep` returns, they are gone from here. What `keep` does should be done for good by then."""
        if not self.size():
            return
        with self._held() as descriptor:
            keep(_whole(os.pread(descriptor, _MOST, 0))[0].items())
            os.ftruncate(descriptor, 0)

    @contextmanager
    def _held(self, more: int = 0) -> Iterator[int]:
        """The file, which nobody else changes meanwhile."""
        descriptor = self._open(os.O_RDWR | more)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            self._size = -1
            os.close(descriptor)

    def _open(self, flags: int) -> int:
        """The file, if it is one: a fifo would be waited for, and a link may lead anywhere."""
        descriptor = os.open(self._path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(self._path))
        return descriptor

    def _read(self) -> dict[bytes, bytes]:
        size = self.size()
        if size != self._size:
            self._nodes, self._size = self._load(), size
        return self._nodes

    def _load(self) -> dict[bytes, bytes]:
        data = b""
        with suppress(OSError), open(self._open(os.O_RDONLY), "rb") as stream:
            data = stream.read(_MOST)
        return _whole(data)[0]


def _whole(data: bytes) -> tuple[dict[bytes, bytes], int]:
    """The nodes that are whole, and how many bytes they have there."""
    nodes = list(_parsed(data))
    return dict(nodes), sum(_HEAD.size + len(node) for _, node in nodes)


def _parsed(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while len(data) - at >= _HEAD.size:
        digest, length, check = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        node = data[at : at + length]
        if not node or len(node) != length or crc32(node) != check:  # after a power cut, there may be zeros
            return
        yield digest, node
        at += length
