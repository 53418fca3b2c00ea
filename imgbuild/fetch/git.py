"""Trees of Git repositories: one commit's files, checked out without its history into a directory of the store.

A whole commit hash means the same for ever: what is kept of it needs no network. Any other ref is asked for each time, as it may have
moved. The rules are BuildKit's (source/git): branches before tags, submodules as the commit says, directories that are no symlinks.
"""

from __future__ import annotations

import hashlib
import os
import stat

from imgbuild.errors import NotFoundError
from imgbuild.fetch import FetchError
from imgbuild.fetch.git_command import Git
from imgbuild.fetch.git_directory import make_reproducible, without_git_directories
from imgbuild.graph.ops import RemoteSource
from imgbuild.graph.remote import is_commit
from imgbuild.hints import Callable
from imgbuild.light import json, re
from imgbuild.light.pathlib import Path
from imgbuild.registry.redaction import redacted
from imgbuild.store.failures import explained
from imgbuild.store.store import Store
from imgbuild.values import dataclass

_OWNER = "git ref"
"""Under this the index remembers what a ref meant last."""

_FORMAT = 2
"""Raised whenever other files would be kept of the same commit: then it is fetched again."""


@dataclass(frozen=True, slots=True)
class FetchedTree:
    """A tree that is in the store: its directory, its commit, and the commit's time in seconds since 1970."""

    path: Path
    commit: str
    time: int


@dataclass(frozen=True, slots=True)
class _Meant:
    """What a ref means: the commit; the full name of the ref, "" for a commit that is asked for by its hash; and the hash of the
    annotated tag that the ref is, if it is one."""

    commit: str
    ref: str = ""
    tag: str = ""


@dataclass(frozen=True, slots=True)
class GitFetcher:
    """`offline`: the network is never touched. `git` makes the runner for a repository's URL."""

    store: Store
    git: Callable[[str], Git]
    offline: bool
    on_fetch: Callable[[str], None]

    def fetch(self, source: RemoteSource) -> FetchedTree:
        """The tree of a source of the kind "git"; FetchError, or NotFoundError where it is not here and this is offline."""
        meant = self._meant(source)
        _check(source, meant)
        identity = _identity(source, meant)
        kept = self._kept(identity)
        if kept is None:
            if self.offline:
                raise self._missing(source)
            self.on_fetch(f"{shown(source)} at {meant.commit}")
            with self.store.lock(f"git {identity}"):
                kept = self._kept(identity) or self._make(source, meant, identity)
        return kept

    def _kept(self, identity: str) -> FetchedTree | None:
        directory = self.store.root / "sources" / identity
        try:
            facts = json.loads((directory / "facts.json").read_bytes())
            os.utime(directory)
            return FetchedTree(directory / "tree", facts["commit"], facts["time"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _missing(self, source: RemoteSource) -> NotFoundError:
        hint = "build once without --offline and --pull=never"
        return NotFoundError(f"{shown(source)} is not in the store, and this is offline", hint=hint)

    def _meant(self, source: RemoteSource) -> _Meant:
        if is_commit(source.ref):
            return _Meant(source.ref)
        index = self.store.index
        path = f"{source.url} {source.ref}"
        if self.offline:
            known = index.content_digest(_OWNER, path)
            if known is None:
                raise self._missing(source)
            return _Meant(**json.loads(known))
        names = _ref_names(source.ref)
        patterns = [pattern for name in names for pattern in (name, f"{name}^{{}}")]
        listing = self.git(source.url).run("ls-remote", "--", source.url, *patterns, what=f"can't read the refs of {shown(source)}")
        lines = (line.partition("\t") for line in listing.splitlines())
        found = {name: commit for commit, tab, name in lines if tab}
        for name in names:
            if name in found:
                peeled = found.get(f"{name}^{{}}")
                meant = _Meant(peeled or found[name], name, found[name] if peeled else "")
                index.record_content_digest(_OWNER, path, json.dumps({"commit": meant.commit, "ref": meant.ref, "tag": meant.tag}))
                return meant
        raise _no_ref(source)

    def _make(self, source: RemoteSource, meant: _Meant, identity: str) -> FetchedTree:
        git = self.git(source.url)
        place = self.store.root / "sources" / identity
        with self.store.temporary("git") as scratch, explained(place):
            work = scratch / "work"
            kind = "sha256" if len(meant.commit) == 64 else "sha1"
            git.run("init", "--quiet", "--template=", f"--object-format={kind}", str(work), what="can't make a Git repository")
            git.run("config", "remote.origin.url", source.url, directory=work, what="can't configure a Git repository")
            _fetch(git, work, source, meant)
            git.run("checkout", "--quiet", "--force", "--detach", meant.commit, directory=work, what=f"can't check out {shown(source)}")
            if source.submodules and (work / ".gitmodules").is_file():
                command = ("submodule", "--quiet", "update", "--init", "--recursive", "--force", "--depth=1")
                git.run(*command, directory=work, what=f"can't fetch the submodules of {shown(source)}")
            asked = ("log", "--max-count=1", "--no-show-signature", "--format=%ct", meant.commit)
            time = max(0, int(git.run(*asked, directory=work, what="can't read the commit's time").strip()))
            if source.keep_git_dir:
                make_reproducible(git, work)
            else:
                without_git_directories(work)
            made = scratch / "made"
            made.mkdir(mode=0o755)
            os.rename(_directory(work, source), made / "tree")
            (made / "facts.json").write_text(json.dumps({"commit": meant.commit, "time": time}))
            if place.exists():  # damaged
                self.store.discard(place)
            os.rename(made, place)
        return FetchedTree(place / "tree", meant.commit, time)


def shown(source: RemoteSource) -> str:
    """The repository and the ref, as a person may see it."""
    url = redacted(source.url) if "://" in source.url else source.url
    return f"{url}#{source.ref}" if source.ref else url


def _fetch(git: Git, work: Path, source: RemoteSource, meant: _Meant) -> None:
    """Bring the commit in, alone if the server gives it so, else with the history of all branches and tags."""
    # Loose objects where they are kept: how a server packs them is up to it.
    loose = ("-c", "fetch.unpackLimit=1000000000") if source.keep_git_dir else ()
    command = (*loose, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--force")
    what = f"can't fetch {shown(source)}"
    wanted = f"+{meant.ref}:{meant.ref}" if meant.ref.startswith("refs/tags/") else meant.ref or meant.commit
    if meant.ref:
        git.run(*command, "--depth=1", "--", source.url, wanted, directory=work, what=what)
        if _has(git, work, meant.commit):
            return
        # It has moved since it was asked for.
    if git.succeeds(*command, "--depth=1", "--", source.url, meant.commit, directory=work):
        return
    every = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    git.run(*command, "--", source.url, *every, directory=work, what=what)
    if not _has(git, work, meant.commit):
        raise _no_ref(source)


def _has(git: Git, work: Path, commit: str) -> bool:
    return git.succeeds("cat-file", "-e", f"{commit}^{{commit}}", directory=work)


def _ref_names(ref: str) -> tuple[str, ...]:
    """The full names that a ref may have, the first one that is there counts."""
    if not ref:
        return ("HEAD",)
    if ref.startswith("refs/"):
        return (ref,)
    return (f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}")


def _no_ref(source: RemoteSource) -> FetchError:
    url = shown(RemoteSource("git", source.url))
    if re.fullmatch(r"[0-9a-f]{4,63}", source.ref):
        hint = "if it is the beginning of a commit's hash: only whole ones can be fetched"
        return FetchError(f"{url} has no ref {source.ref!r}", hint=hint)
    if not source.ref:
        return FetchError(f"{url} has no default branch", hint="name one: #BRANCH")
    return FetchError(f"{url} has no ref {source.ref!r}", hint="it is a branch, a tag, or a whole commit hash")


def _check(source: RemoteSource, meant: _Meant) -> None:
    if source.checksum and not meant.commit.startswith(source.checksum) and not meant.tag.startswith(source.checksum or "-"):
        also = f" (the tag {meant.tag})" if meant.tag else ""
        raise FetchError(
            f"{shown(source)} is not what its checksum says",
            hint="if the ref was meant to move, change the checksum",
            detail=f"it is at:  {meant.commit}{also}\nexpected:  {source.checksum}",
        )


def _identity(source: RemoteSource, meant: _Meant) -> str:
    """What a kept tree is found by: all that it depends on."""
    kept_ref = meant.ref if source.keep_git_dir and meant.ref.startswith("refs/tags/") else ""
    words = [_FORMAT, source.url, meant.commit, source.subdir, bool(source.keep_git_dir), source.submodules, kept_ref]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:40]


def _directory(work: Path, source: RemoteSource) -> Path:
    """The directory that is meant, reached through no symlink."""
    path = work
    for name in filter(None, source.subdir.split("/")):
        path = path / name
        try:
            status = path.lstat()
        except OSError:
            status = None
        if name == ".git" or status is None:
            raise FetchError(f"{shown(source)} has no directory {source.subdir!r}")
        if not stat.S_ISDIR(status.st_mode):
            raise FetchError(f"{source.subdir!r} of {shown(source)} is not a directory", hint="symlinks are not followed there")
    return path
