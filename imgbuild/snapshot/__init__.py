"""Root file systems as stacks of lowers, and the overlay that joins them.

A lower is one layer's diff in one of two forms (`DirectoryLower`, `IndexedTarLower`); a root file system is a tuple of lowers,
lowest first. A snapshot is active while something writes to its upperdir, and committed when that has become a lower.

State machine of a `Snapshotter`: prepare -> Active; then exactly one of commit -> DirectoryLower, or discard. `Active` is a
context manager: leaving it uncommitted discards it. What a killed process left active is below the store's tmp/, and goes with it.
`union` reads a stack without mounting it; `overlay` says how it is mounted.
Not here: what changed in an upperdir (layer), which layer has which lower (store's index, rootfs).
"""

from __future__ import annotations

from imgbuild.light.pathlib import Path
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class DirectoryLower:
    """Form (a): a directory in overlay form (whiteouts are 0/0 character devices, opaque directories have the xattr)."""

    path: Path

    @property
    def directory(self) -> Path:
        """The snapshot that it is, where it is one of the store's."""
        return self.path.parent


@dataclass(frozen=True, slots=True)
class IndexedTarLower:
    """Form (b): an uncompressed layer tar and the EROFS image that indexes it; `more` tars where it is one image of several layers."""

    tar: Path
    index: Path
    more: tuple[Path, ...] = ()

    @property
    def directory(self) -> Path:
        """The snapshot that it is, where it is one of the store's."""
        return self.index.parent


Lower = DirectoryLower | IndexedTarLower
"""One layer's diff."""

Lowers = tuple[Lower, ...]
"""A root file system: lowest first."""
