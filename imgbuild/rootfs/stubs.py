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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from imgbuild.errors import SandboxError
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.union import UnionView

_MAX_SYMLINKS = 40
_OVERLAY_XATTRS = (b"trusted.overlay.", b"user.overlay.")


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
    resolved = tuple(resolve_target(view, target) for target in targets)
    kinds: dict[str, bool] = {}
    for path, target in zip(resolved, targets, strict=True):
        if view.lstat(path) is None and kinds.setdefault(path, target.is_directory) != target.is_directory:
            raise SandboxError(f"both a file and a directory are to be mounted at {path}")
    files = [path for path, is_directory in kinds.items() if not is_directory]
    for path in files:
        if any(other.startswith(path + "/") for other in kinds):
            raise SandboxError(f"a mount point below {path}, where a file is to be mounted")
    if not kinds:
        return Stubs(resolved)
    _write(directory, view, kinds)
    return Stubs(resolved, DirectoryLower(directory))


def resolve_target(view: UnionView, target: StubTarget) -> str:
    """Where a mount at the target lands: symlinks followed inside the root; what does not exist stays as it is written."""
    pending = list(reversed(PurePosixPath("/", target.path).parts[1:]))
    done: list[str] = []
    followed = 0
    while pending:
        part = pending.pop()
        if part == "..":
            done[-1:] = []
            continue
        path = "/" + "/".join((*done, part))
        node = view.lstat(path)
        if node is not None and stat.S_ISLNK(node.mode):
            followed += 1
            if followed > _MAX_SYMLINKS:
                raise SandboxError(f"can't mount at {target.path}: too many levels of symlinks in the image")
            link = PurePosixPath(view.readlink(path))
            if link.is_absolute():
                done.clear()
            pending.extend(reversed([word for word in link.parts if word != "/"]))
            continue
        if node is not None and not stat.S_ISDIR(node.mode) and (pending or target.is_directory):
            raise SandboxError(f"can't mount at {target.path}: {path} is not a directory in the image")
        done.append(part)
    path = "/" + "/".join(done)
    node = view.lstat(path)
    if not target.is_directory and (path == "/" or (node is not None and stat.S_ISDIR(node.mode))):
        raise SandboxError(f"can't mount a file at {target.path}: it is a directory in the image")
    return path


def _write(directory: Path, view: UnionView, kinds: dict[str, bool]) -> None:
    # The paths were resolved: no component is "..", or a symlink of the view; `directory` holds only what is made here.
    directory.mkdir(parents=True, exist_ok=True)
    directories = {"/"}
    for path, is_directory in sorted(kinds.items()):
        pure = PurePosixPath(path)
        directories.update(str(parent) for parent in pure.parents)
        if is_directory:
            directories.add(path)
    for path in sorted(directories, key=lambda path: path.count("/") if path != "/" else 0):
        (directory / path[1:]).mkdir(mode=0o755, exist_ok=True)
        (directory / path[1:]).chmod(0o755)
    for path, is_directory in kinds.items():
        if not is_directory:
            os.close(os.open(directory / path[1:], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    for path in sorted(directories, reverse=True):  # children first: making them changed the parent's times
        _copy_metadata(view, path, directory / path[1:])


def _copy_metadata(view: UnionView, path: str, to: Path) -> None:
    node = view.lstat(path)
    if node is None:
        os.utime(to, ns=(0, 0))
        return
    os.chown(to, node.uid, node.gid)
    to.chmod(stat.S_IMODE(node.mode))
    for name, value in view.xattrs(path):
        if not name.startswith(_OVERLAY_XATTRS):
            os.setxattr(to, name, value)
    os.utime(to, ns=(node.mtime_ns, node.mtime_ns))
