"""Keeps files of a step that failed: what ``RUN --on-failure=save=PATH`` names is copied out of the step's root, for people to read.

Symlinks are followed inside the root only, and copied as they are below what was named. Owners and special modes are left out: whoever
runs the build can read and remove the copies.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat

from imgbuild.hints import Sequence
from imgbuild.light.pathlib import Path
from imgbuild.snapshot.union import UnionView


def keep_files(view: UnionView, paths: Sequence[str], directory: Path) -> list[str]:
    """Copy each of `paths`, files or directories of `view`, to the same path below `directory`, or, where a symlink was kept on the way
    there, to the path that it leads to in the step's root; the paths that do not exist."""
    missing = []
    for path in paths:
        try:
            real = view.resolve(path)
            status = view.lstat(real)
        except OSError:  # a loop of symlinks, or a path through a file
            status = None
        place = None if status is None else _place(directory, path) or _place(directory, real)
        if place is None:
            missing.append(path)
        else:
            _copy(view, real, place)
    return missing


def _place(directory: Path, path: str) -> Path | None:
    """A path of the step's root below `directory`, with the directories that lead there; None where what was kept before leads away, as
    a symlink does on this machine."""
    place = directory
    *parents, last = path.strip("/").split("/")
    for name in parents:
        place = place / name
        if place.is_symlink():
            return None
        place.mkdir(exist_ok=True)
    place = place / last
    return None if place.is_symlink() else place


def _copy(view: UnionView, source: str, target: Path) -> None:
    for path, status in view.walk(source):
        # No name of the step's root is ever looked up on this machine through a link: `_place` has made what leads to the target.
        place = target if path == source else target / path[len(source) :].lstrip("/")
        if os.path.lexists(place):  # kept before, by another path
            if stat.S_ISDIR(status.mode) and not stat.S_ISDIR(place.lstat().st_mode):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(place))
        elif stat.S_ISDIR(status.mode):
            place.mkdir()
        elif stat.S_ISLNK(status.mode):
            os.symlink(view.readlink(path), place)
        elif stat.S_ISREG(status.mode):
            with os.fdopen(view.open(path), "rb") as origin, place.open("xb") as copy:
                shutil.copyfileobj(origin, copy)
            place.chmod(0o755 if status.mode & 0o100 else 0o644)
