"""Contents of small files on their way from the digest for a step's key to the layer that the step stores: bytes are read once."""

from __future__ import annotations

from imgbuild.hints import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mmap import mmap

SMALL = 64 << 10
"""The largest file that is read as a whole."""

_MOST = 96 << 20
_OVERHEAD = 200
"""What an entry takes besides its bytes."""
_ELSEWHERE = 1000
"""What a file takes in the plan of a copy, in its layer's index and among the digests."""


class _Apart(NamedTuple):
    """Bytes that another process read into memory that is shared with it."""

    area: mmap
    start: int
    end: int


class Held:
    """Each file's bytes and file capability by the file's path, of at most `most` bytes in all. What does not fit is read again."""

    def __init__(self, most: int = _MOST) -> None:
        self._contents: dict[str, tuple[bytes, bytes] | _Apart] = {}
        self.room = most

    def expect(self, files: int) -> None:
        """So many more files are known: what is remembered of each takes from the same memory."""
        self.room = max(0, self.room - _ELSEWHERE * files)

    def fits(self, files: int, size: int) -> bool:
        """Whether there is room for all of so many files."""
        return size + _OVERHEAD * files <= self.room

    def keep(self, path: str, content: tuple[bytes, bytes]) -> None:
        """Keep what was read of a file, if there is room."""
        self._keep(path, len(content[0]), content)

    def keep_apart(self, path: str, area: mmap, start: int, end: int) -> None:
        """The same, of a file without a capability that is in a shared area."""
        self._keep(path, end - start, _Apart(area, start, end))

    def take(self, path: str) -> tuple[bytes, bytes] | None:
        """What was kept, given up to the caller."""
        content = self._contents.pop(path, None)
        if content is None:
            return None
        if isinstance(content, _Apart):
            content = content.area[content.start : content.end], b""
        self.room += len(content[0]) + _OVERHEAD
        return content

    def _keep(self, path: str, size: int, content: tuple[bytes, bytes] | _Apart) -> None:
        taken = size + _OVERHEAD
        if taken <= self.room and path not in self._contents:
            self.room -= taken
            self._contents[path] = content
