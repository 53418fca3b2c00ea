"""Files out of a root file system, to a path of this machine or as a tar, as `docker cp` names and places them.

A destination that is a directory gets the source by its own name, ``DIRECTORY/.`` stands for what is in one. The user's destination may
be a symlink; below it, and in what is copied, none is ever followed, and a directory is never replaced by a file, nor the reverse.
"""

from __future__ import annotations

import os
import posixpath
import stat

from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.errors import NotFoundError, UsageError
from imgbuild.hints import Callable
from imgbuild.layer.failures import explained
from imgbuild.layer.tar import TarEntry
from imgbuild.layer.upper import UpperTree
from imgbuild.light.pathlib import Path
from imgbuild.linux.paths import Root
from imgbuild.rootfs.export import entries_below, export_subtree, named_below, put_entry
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass, replace

_SET_IDS = stat.S_ISUID | stat.S_ISGID


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be copied: the real path, whether it is a directory, what it is called ("" for a directory's contents)."""

    path: str
    is_directory: bool
    name: str


@dataclass(frozen=True, slots=True)
class Copied:
    """How many entries were written, and how many devices were left out."""

    entries: int
    left_out: int = 0


def find_source(view: UnionView, path: str, *, follow: bool) -> Source:
    """What `path` means in the view; with `follow`, where it leads if it is a symlink. NotFoundError where nothing is."""
    contents = path.endswith("/.") or not path.strip("/")
    try:
        real = view.resolve(path, follow or path.endswith(("/", "/.")))
        status = view.lstat(real)
    except OSError as error:
        raise NotFoundError(f"{path} leads nowhere: {error.strerror}") from None
    if status is None:
        raise NotFoundError(f"there is no {path}", hint=_near(view, real))
    is_directory = stat.S_ISDIR(status.mode)
    if not is_directory and path.endswith(("/", "/.")):
        raise UsageError(f"{path} is not a directory")
    return Source(real, is_directory, "" if contents and is_directory else posixpath.basename(path.rstrip("/")))


def copy_out(view: UnionView, source: Source, destination: Path, *, archive: bool, unprivileged: bool) -> Copied:
    """Copy to a path of this machine. Files belong to the user then, without set-id bits and attributes; with `archive` to whom they
    belong in the view."""
    parent, name = _place(source, destination)
    with Root.open_path(parent) as there:
        for entry, _ in entries_below(view, source.path):
            _check(there, parent, named_below(name, entry))
    count = left_out = 0
    with explained(destination), UpperTree(parent, unprivileged) as tree:
        for entry, path in entries_below(view, source.path):
            if entry.kind in ("char", "block") and not archive:
                left_out += 1
                continue
            put_entry(tree, view, named_below(name, entry if archive else _own(entry)), path)
            count += 1
        tree.finish(root=False)
    return Copied(count, left_out)


def tar_out(view: UnionView, source: Source, write: Callable[[bytes], object]) -> Copied:
    """Copy as a tar, with owners and attributes as they are."""
    return Copied(export_subtree(view, source.path, source.name, write))


def _place(source: Source, destination: Path) -> tuple[Path, str]:
    """The directory that is written to, and the name in it; "" where the source's contents go there."""
    if destination.is_dir():
        return destination, source.name
    shown = os.fspath(destination)
    if destination.exists():
        if source.is_directory:
            raise UsageError(f"can't copy a directory to {shown}, which is a file")
        real = Path(os.path.realpath(destination))
        return real.parent, real.name
    if not destination.parent.is_dir():
        raise NotFoundError(f"there is no directory {destination.parent} to copy to")
    if not source.is_directory or source.name:
        return destination.parent, destination.name
    destination.mkdir()
    return destination, ""


def _check(there: Root, parent: Path, entry: TarEntry) -> None:
    """UsageError where a directory would take the place of something else, or the reverse: before anything is written."""
    if entry.name == b".":
        return
    try:
        status = there.lstat(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISDIR(status.st_mode) != (entry.kind == "dir"):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no directory"
        raise UsageError(f"{parent / os.fsdecode(entry.name)} is {what} here: it is not replaced", hint="copy to another place")


def _own(entry: TarEntry) -> TarEntry:
    return replace(entry, uid=os.geteuid(), gid=os.getegid(), mode=entry.mode & ~_SET_IDS, xattrs=())


def _near(view: UnionView, path: str) -> str | None:
    parent, _, name = path.rpartition("/")
    try:
        names = view.listdir(parent or "/")
    except OSError:
        return None
    hint = did_you_mean(name, names)
    return hint.replace("did you mean ", f"did you mean {parent}/") if hint else None
