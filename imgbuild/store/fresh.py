"""Nodes that came lately, in a file of their own: a few are written in some microseconds, where a database would be opened and closed.

Each is there as its short digest, its length, a checksum and its bytes. What comes after a torn one is not read. Who adds holds the file
shared, who takes the nodes out of it has it alone; readers need neither.
"""

from __future__ import annotations

import fcntl
import os
import struct
from binascii import crc32

from imgbuild.hints import Callable, Iterable, Iterator
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.nodes import SHORT

LONG = 1 << 18
"""Bytes of the file from which on its nodes belong into the database."""

_HEAD = struct.Struct(f"<{SHORT}sII")


class Fresh:
    """The file, at `path`. What can't be written or read is not there: it only explains."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = -1
        self._nodes: dict[bytes, bytes] = {}

    def size(self) -> int:
        """Its bytes."""
        try:
            return os.stat(self._path).st_size
        except OSError:
            return 0

    def add(self, nodes: Iterable[tuple[bytes, bytes]]) -> None:
        """Append nodes, by their short digests."""
        known = self._read()
        data = b"".join(_HEAD.pack(digest, len(node), crc32(node)) + node for digest, node in nodes if digest not in known)
        if data:
            with suppress(OSError):
                descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_SH)
                    os.write(descriptor, data)
                finally:
                    os.close(descriptor)

    def get(self, digest: bytes) -> bytes | None:
        """The node of that digest."""
        return self._read().get(digest)

    def take(self, keep: Callable[[Iterable[tuple[bytes, bytes]]], object]) -> None:
        """Hand all nodes over; if `keep` returns, they are gone from here."""
        if not self.size():
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            self._size = -1
            keep(self._read().items())
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _read(self) -> dict[bytes, bytes]:
        size = self.size()
        if size != self._size:
            data = b""
            with suppress(OSError), open(self._path, "rb") as stream:
                data = stream.read()
            self._nodes, self._size = dict(_parsed(data)), size
        return self._nodes


def _parsed(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while len(data) - at >= _HEAD.size:
        digest, length, check = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        node = data[at : at + length]
        if len(node) != length or crc32(node) != check:
            return
        yield digest, node
        at += length
