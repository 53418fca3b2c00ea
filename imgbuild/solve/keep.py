"""Keeps files of a step that failed: what ``RUN --on-failure=save=PATH`` names is copied out of the step's root, for people to read.

Symlinks are followed inside the root only, and copied as they are below what was named. Owners and special modes are left out: whoever
runs the build can read and remove the copies.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from imgbuild.snapshot.union import UnionView


def keep_files(view: UnionView, paths: Sequence[str], directory: Path) -> list[str]:
    """Copy each of `paths`, files or directories of `view`, to the same path below `directory`; the paths that do not exist."""
    missing = []
    for path in paths:
        try:
            real = view.resolve(path)
            status = view.lstat(real)
        except OSError:  # a loop of symlinks, or a path through a file
            status = None
        if status is None:
            missing.append(path)
        else:
            _copy(view, real, directory / path.strip("/"))
    return missing


def _copy(view: UnionView, source: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for path, status in view.walk(source):
        # All of it is new: no name of the step's root is ever looked up on this machine through a link.
        place = target if path == source else target / path[len(source) :].lstrip("/")
        if stat.S_ISDIR(status.mode):
            place.mkdir(exist_ok=path == source)
        elif stat.S_ISLNK(status.mode):
            os.symlink(view.readlink(path), place)
        elif stat.S_ISREG(status.mode):
            with os.fdopen(view.open(path), "rb") as origin, place.open("xb") as copy:
                shutil.copyfileobj(origin, copy)
            place.chmod(0o755 if status.mode & 0o100 else 0o644)
