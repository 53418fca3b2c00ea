"""What is remembered of the files of a directory: their names, what stat said of them, and their digests, packed into a few bytes objects.

An unchanged directory is compared as a whole: twenty thousand files are two hundred comparisons. What a cache keeps of it are two byte
strings; those in a form that is not this one are as good as none.
"""

from __future__ import annotations

import struct
from itertools import chain

from imgbuild.hints import Iterable, Sequence
from imgbuild.light.operator import itemgetter
from imgbuild.linux.node import Node

_STATUS = struct.Struct("<QQQqq")
_DIGEST = 32
_FORM = b"\1"
_REMEMBERED = itemgetter(*(Node._fields.index(name) for name in ("dev", "ino", "size", "mtime_ns", "ctime_ns")))


class Rows:
    """The regular files of one directory, in the order of `names`, which are joined by NUL; `digests` are those of sha256."""

    __slots__ = ("digests", "names", "statuses")

    def __init__(self, names: str, statuses: bytes, digests: bytes) -> None:
        self.names = names
        self.statuses = statuses
        self.digests = digests

    @classmethod
    def of(cls, files: Sequence[tuple[str, bytes, bytes]]) -> Rows:
        """From names, `status_of` and digests."""
        return cls("\0".join(name for name, _, _ in files), b"".join(row[1] for row in files), b"".join(row[2] for row in files))

    @classmethod
    def unpack(cls, names: bytes, numbers: bytes) -> Rows | None:
        """The inverse of `pack`; None for what that did not make."""
        text = names.decode("utf-8", "surrogateescape")
        count = text.count("\0") + 1
        end = len(_FORM) + count * _STATUS.size
        if not numbers.startswith(_FORM) or len(numbers) != end + count * _DIGEST:
            return None
        return cls(text, numbers[len(_FORM) : end], numbers[end:])

    def pack(self) -> tuple[bytes, bytes]:
        """The names, and all numbers."""
        return self.names.encode("utf-8", "surrogateescape"), _FORM + self.statuses + self.digests

    def each(self) -> dict[str, tuple[bytes, bytes]]:
        """By names: `status_of`, and the digest."""
        size, length = _STATUS.size, _DIGEST
        return {
            name: (self.statuses[at * size : (at + 1) * size], self.digests[at * length : (at + 1) * length])
            for at, name in enumerate(self.names.split("\0"))
        }

    def texts(self) -> list[str]:
        """The digests in words."""
        digits = self.digests.hex()
        return [f"sha256:{digits[at : at + 2 * _DIGEST]}" for at in range(0, len(digits), 2 * _DIGEST)]


class Statuses:
    """Packs what is remembered of files' statuses."""

    def __init__(self) -> None:
        self._forms: dict[int, struct.Struct] = {}

    def of_all(self, nodes: Iterable[Node], count: int) -> bytes:
        """`status_of` each, in a row."""
        form = self._forms.get(count)
        if form is None:
            form = self._forms[count] = struct.Struct("<" + "QQQqq" * count)
        return form.pack(*chain.from_iterable(map(_REMEMBERED, nodes)))


def status_of(node: Node) -> bytes:
    """What must not have changed, for a file to be believed to be what it was."""
    return _STATUS.pack(*_REMEMBERED(node))
