"""Stubs: the mount points that a root file system lacks, in a lower of their own, so that nothing makes them in an upperdir.

The stub lower is the *topmost* lower, right below the upperdir. At the bottom it would be hidden wherever a layer has a
whiteout at the target, an opaque directory above it, or a file where it has a directory. At the top it always shows; the
price is that overlay takes a merged directory's metadata from its topmost lower, so each directory of the stub lower that
the view has too carries the view's mode, owner, times and xattrs. A file or a symlink of the view is never covered.
Nothing is made where the view has the target already, which is the usual case: then there is no stub lower at all.
"""

from __future__ import annotations

import os
import stat

from imgbuild.errors import SandboxError
from imgbuild.hints import Callable, Mapping, Sequence
from imgbuild.light import threading
from imgbuild.light.pathlib import Path, PurePosixPath
from imgbuild.linux.paths import Root
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class StubTarget:
    """A mount point that must exist: an absolute path inside the root, as asked for, and whether a directory is mounted."""

    path: str
    is_directory: bool = True


@dataclass(frozen=True, slots=True)
class Stubs:
    """`targets` are the asked ones, resolved, in the same order; `lower` holds what was missing, None where nothing was."""

    targets: tuple[str, ...]
    lower: DirectoryLower | None = None

    def over(self, lowers: Lowers) -> Lowers:
        """The stack to be mounted: `lowers` with the stubs where they belong."""
        return lowers if self.lower is None else (*lowers, self.lower)


def make_stubs(directory: Path, view: UnionView, targets: Sequence[StubTarget]) -> Stubs:
    """Resolve each target in `view` and make in `directory`, which is created only if needed, what the view lacks.

    SandboxError where a target can't be a mount point: below a file, a loop of symlinks, or of the other kind.
    """
    resolved, kinds = _resolved(view, targets)
    if not kinds:
        return Stubs(resolved)
    _write(directory, kinds, _looks(view, kinds))
    return Stubs(resolved, DirectoryLower(directory))


class StubShelf:
    """Stub lowers for many sandboxes: those that would be alike are made once, in `directory`, which is made when the first is needed.
    For any number of threads. What it gives is good for as long as the directory is there."""

    def __init__(self, directory: Callable[[], Path]) -> None:
        self._directory = directory
        self._made: dict[tuple[object, ...], DirectoryLower] = {}
        self._begun = 0
        self._lock = threading.Lock()

    def stubs(self, view: UnionView, targets: Sequence[StubTarget]) -> Stubs:
        """As `make_stubs`."""
        resolved, kinds = _resolved(view, targets)
        if not kinds:
            return Stubs(resolved)
        looks = _looks(view, kinds)
        key = (tuple(sorted(kinds.items())), tuple(looks.items()))
        with self._lock:
            lower = self._made.get(key)
            if lower is None:
                # A place is used once: one that could not be finished has leftovers, and the step may be tried again.
                place = self._directory() / str(self._begun)
                self._begun += 1
                _write(place, kinds, looks)
                lower = self._made[key] = DirectoryLower(place)
        return Stubs(resolved, lower)


def _resolved(view: UnionView, targets: Sequence[StubTarget]) -> tuple[tuple[str, ...], dict[str, bool]]:
    """Where each target is, and which of them the view lacks: directories, or not."""
    resolved = tuple(resolve_target(view, target) for target in targets)
    kinds: dict[str, bool] = {}
    for path, target in zip(resolved, targets, strict=True):
        if view.lstat(path) is None and kinds.setdefault(path, target.is_directory) != target.is_directory:
            raise SandboxError(f"both a file and a directory are to be mounted at {path}")
    files = [path for path, is_directory in kinds.items() if not is_directory]
    for path in files:
        if any(other.startswith(path + "/") for other in kinds):
            raise SandboxError(f"a mount point below {path}, where a file is to be mounted")
    return resolved, kinds


def resolve_target(view: UnionView, target: StubTarget) -> str:
    """Where a mount at the target lands: symlinks followed inside the root; what does not exist stays as it is written."""
    try:
        path = view.resolve(target.path)
    except OSError as error:
        raise SandboxError(f"can't mount at {target.path} in the image", detail=error.strerror) from None
    parents = [str(parent) for parent in PurePosixPath(path).parents]
    for directory in reversed([path, *parents] if target.is_directory else parents):
        status = view.lstat(directory)
        if status is None:
            return path
        if not stat.S_ISDIR(status.mode):
            raise SandboxError(f"can't mount at {target.path}: {directory} is not a directory in the image")
    status = view.lstat(path)
    if not target.is_directory and status is not None and stat.S_ISDIR(status.mode):
        raise SandboxError(f"can't mount a file at {target.path}: it is a directory in the image")
    return path


_Look = tuple[int, int, int, int, tuple[tuple[str, bytes], ...]]
"""Owner, group, mode, mtime and xattrs of a directory."""


def _looks(view: UnionView, kinds: Mapping[str, bool]) -> dict[str, _Look | None]:
    """The directories that lead to the stubs, sorted, and how the view has them, where it does."""
    directories = {path for path, is_directory in kinds.items() if is_directory}
    for path in kinds:
        directories.update(str(parent) for parent in PurePosixPath(path).parents)
    return {path: _look(view, path) for path in sorted(directories)}


def _look(view: UnionView, path: str) -> _Look | None:
    status = view.lstat(path)
    if status is None:
        return None
    return status.uid, status.gid, stat.S_IMODE(status.mode), status.mtime_ns, tuple(view.xattrs(path).items())


def _write(directory: Path, kinds: Mapping[str, bool], looks: Mapping[str, _Look | None]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with Root.open_path(directory) as root:
        for path in looks:
            if path != "/":
                os.close(root.makedirs(path))
        for path, is_directory in kinds.items():
            if not is_directory:
                os.close(root.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        for path, look in reversed(tuple(looks.items())):  # children first: making them changed the parent's times
            with root.opened(path, os.O_RDONLY | os.O_DIRECTORY) as made:
                _imitate(look, made)


def _imitate(look: _Look | None, made: int) -> None:
    if look is None:
        os.fchmod(made, 0o755)
        os.utime(made, ns=(0, 0))
        return
    uid, gid, mode, mtime_ns, xattrs = look
    os.fchown(made, uid, gid)
    os.fchmod(made, mode)
    for name, value in xattrs:
        os.setxattr(made, name, value)
    os.utime(made, ns=(mtime_ns, mtime_ns))
