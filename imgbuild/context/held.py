"""Contents of small files on their way from the digest for a step's key to the layer that the step stores: bytes are read once."""

from __future__ import annotations

SMALL = 64 << 10
"""The largest file that is read as a whole."""

_MOST = 96 << 20
_OVERHEAD = 200
"""What an entry takes besides its bytes."""
_ELSEWHERE = 1000
"""What a file takes in the plan of a copy, in its layer's index and among the digests."""


class Held:
    """Each file's bytes and file capability by the file's path, of at most `most` bytes in all. What does not fit is read again."""

    def __init__(self, most: int = _MOST) -> None:
        self._contents: dict[str, tuple[bytes, bytes]] = {}
        self.room = most

    def expect(self, files: int) -> None:
        """So many more files are known: what is remembered of each takes from the same memory."""
        self.room = max(0, self.room - _ELSEWHERE * files)

    def keep(self, path: str, content: tuple[bytes, bytes]) -> None:
        """Keep what was read of a file, if there is room."""
        taken = len(content[0]) + _OVERHEAD
        if taken <= self.room and path not in self._contents:
            self.room -= taken
            self._contents[path] = content

    def take(self, path: str) -> tuple[bytes, bytes] | None:
        """What was kept, given up to the caller."""
        content = self._contents.pop(path, None)
        if content is not None:
            self.room += len(content[0]) + _OVERHEAD
        return content
