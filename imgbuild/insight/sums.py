"""Changes, counted: in all, and for each directory down to some depth."""

from __future__ import annotations

from imgbuild.hints import Iterator
from imgbuild.insight.compare import Change, order
from imgbuild.values import dataclass


@dataclass(slots=True)
class Sum:
    """How many entries were added, removed and changed, and by how many bytes the whole grew."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    growth: int = 0

    def count(self, change: Change) -> None:
        """Count one more."""
        if change.verb == "added":
            self.added += 1
        elif change.verb == "removed":
            self.removed += 1
        else:
            self.changed += 1
        self.growth += change.growth

    @property
    def entries(self) -> int:
        return self.added + self.removed + self.changed


class Sums:
    """The sum of all, and those of directories: an entry counts for the directory that it is in, or for that one's ancestor at `depth`."""

    def __init__(self, depth: int) -> None:
        self.all = Sum()
        self._depth = depth
        self._directories: dict[str, Sum] = {}

    def count(self, change: Change) -> None:
        """Count one more change."""
        self.all.count(change)
        if self._depth > 0:
            directory = "/".join(change.path.split("/")[:-1][: self._depth + 1]) or "/"
            self._directories.setdefault(directory, Sum()).count(change)

    def directories(self) -> Iterator[tuple[str, Sum]]:
        """The directories in which something changed, in order."""
        for path in sorted(self._directories, key=order):
            yield path, self._directories[path]
