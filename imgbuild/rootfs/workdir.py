"""WORKDIR makes its directory where it is missing."""

from __future__ import annotations

from pathlib import Path

from imgbuild.snapshot.union import UnionView


def make_workdir(path: str, parents: UnionView, directory: Path, *, epoch: int, user: str = "", userxattr: bool = False) -> bool:
    """Make `path` and its missing parents, mode 0755, in the empty `directory`, as the lower above `parents`; symlinks are followed
    inside the root. They belong to `user`, the image's USER, as with BuildKit. False, with nothing written, where it is there.
    """
    raise NotImplementedError
