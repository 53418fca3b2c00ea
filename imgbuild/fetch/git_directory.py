"""``.git`` in a checked out tree: taken away, or kept as a function of the commit alone.

git writes times, inode numbers, a log of what it did, and the URL with its password; none of it may get into an image.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit, urlunsplit

from imgbuild.fetch.git_command import Git
from imgbuild.light.pathlib import Path

_ACCIDENTS = ("FETCH_HEAD", "ORIG_HEAD", "COMMIT_EDITMSG", "index", "logs", "hooks", "description", "branches", "info", "gc.log")


def without_git_directories(work: Path) -> None:
    """Remove ``.git`` from a tree and from its submodules."""
    for path in _git_entries(work):
        _remove(path)


def make_reproducible(git: Git, work: Path) -> None:
    """Make ``.git`` say nothing but what it is of: the index without times, no logs, URLs without credentials, those of submodules
    included: relative ones have taken over what ours has."""
    trees = [path.parent for path in _git_entries(work)]
    for tree in trees:
        _forget_credentials(git, tree)
        directory = Path(git.run("rev-parse", "--absolute-git-dir", directory=tree, what="can't find a Git directory").strip())
        for name in _ACCIDENTS:
            _remove(directory / name)
        git.run("read-tree", "HEAD", directory=tree, what="can't write a Git index")


def _forget_credentials(git: Git, tree: Path) -> None:
    """Take credentials out of all URLs that the configuration of a tree's repository has."""
    what = "can't configure a Git repository"
    listing = git.run("config", "--local", "--null", "--list", directory=tree, what=what)
    for name, _, value in (entry.partition("\n") for entry in listing.split("\0") if entry):
        if name.endswith(".url") and without_credentials(value) != value:
            git.run("config", "--local", "--replace-all", name, without_credentials(value), directory=tree, what=what)


def without_credentials(url: str) -> str:
    """A URL without a password, and without a user that only HTTP was told."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    if parts.scheme == "ssh" and user:
        host = f"{user.partition(':')[0]}@{host}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _git_entries(work: Path) -> list[Path]:
    """All that is called .git below a tree, which leads into no symlink; not what is inside of them."""
    found = []
    for directory, names, files in os.walk(work):
        if ".git" in names or ".git" in files:
            found.append(Path(directory) / ".git")
        names[:] = [name for name in names if name != ".git"]
    return found


def _remove(path: Path) -> None:
    import shutil

    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
