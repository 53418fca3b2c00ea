"""COPY and ADD of local files, without a mount and without a process: a plan, and a new directory in overlay form.

The destination is resolved in the parents' union and the result is written as one more lower above them. The rules are
BuildKit's (copy_perform, copy_plan); the bytes written depend only on what is in a step's key: see `input_digests`.
A build in which all is cached asks for digests only: what performs a copy (copy_perform) is imported when one is to be performed.
Not here: fetching (fetch), joining the destination with WORKDIR, and which files a source word means (context).
"""

from __future__ import annotations

import stat

from imgbuild.context.digest import Kept, TreeDigests
from imgbuild.context.filtered import Filtered
from imgbuild.context.ignore import Ignore
from imgbuild.context.included import Included
from imgbuild.context.local import LocalContext, changed
from imgbuild.context.single import SingleFile
from imgbuild.context.stats import FileDigests
from imgbuild.context.tree import Found, Tree
from imgbuild.hints import Callable
from imgbuild.light.pathlib import Path
from imgbuild.linux.node import Node
from imgbuild.oci.digest import digest_of
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class TreeSource:
    """What one source word means in a tree: the result of `match`. Empty for a pattern that matched nothing.

    With a `pattern` (COPY --parents), what it matches below the directories that were found, with the directories that lead there.
    `unpack` is the request's where it is None.
    """

    tree: Tree
    found: tuple[Found, ...]
    pattern: str = ""
    unpack: bool | None = None


@dataclass(frozen=True, slots=True)
class InlineSource:
    """A heredoc: a file of that name."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """One COPY or ADD.

    `destination` is absolute, already joined with WORKDIR; a slash (or ``/.``) at its end means a directory. `owner` and
    `mode` are --chown and --chmod after expansion; names are looked up in the parents. `unpack`: archives are extracted (ADD).
    `exclude` are --exclude patterns. `epoch`: seconds; the mtime of what comes from here, the latest of what comes from a stage.
    """

    sources: tuple[TreeSource | InlineSource, ...]
    destination: str
    epoch: int
    owner: str | None = None
    mode: str | None = None
    unpack: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InputDigest:
    """What a step's key holds of one path: the source as it was named, the name it gives to the result ("" for a directory,
    whose contents are copied), and the digest of its contents and metadata as far as they are copied."""

    source: str
    name: str
    digest: str
    kept: Kept | None = None
    """What the digest was made of."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was written: entries and bytes of files."""

    entries: int
    size: int


def input_digests(request: CopyRequest) -> tuple[InputDigest, ...]:
    """The inputs of a copy for its step's key, in the order of the sources.

    The digests of a tree that has some at hand (`LocalContext.digests`) are used; others are taken anew.
    """
    digests: list[InputDigest] = []
    for source in request.sources:
        if isinstance(source, InlineSource):
            digests.append(InputDigest(source.name, source.name, digest_of(source.data)))
            continue
        files = source.tree.digests if isinstance(source.tree, (LocalContext, SingleFile)) else FileDigests(source.tree)
        for found in source.found:
            if is_directory(source.tree, found):
                tree = seen_below(source, found, request.exclude)
                kept = Kept(found.name)
                digests.append(InputDigest(found.name, "", TreeDigests(tree, files, kept).contents(found.path), kept))
            elif not source.pattern and not Ignore.of(request.exclude).ignores(found.base):
                kept = Kept(found.name, found.base)
                digests.append(InputDigest(found.name, found.base, TreeDigests(source.tree, files, kept).entry(found.path), kept))
    return tuple(digests)


def perform_copy(
    request: CopyRequest, parents: UnionView, directory: Path, *, userxattr: bool = False, check: Callable[[], None] | None = None
) -> Copied:
    """Write the copy into `directory`, which is empty and becomes the lower above `parents`, its root's metadata included.

    ContextError for a source that changed or can't be read, BuildfileError for a destination that can't be. What was written
    when it raises is left for the caller to discard. mtimes are final: nothing is left to be clamped. `check` is called often, and
    ends the copy by raising.
    """
    from imgbuild.rootfs.copy_perform import perform

    return perform(request, parents, directory, userxattr, check)


def is_directory(tree: Tree, found: Found) -> bool:
    """Whether what was found is a directory."""
    return stat.S_ISDIR(node_of(tree, found.path).mode)


def node_of(tree: Tree, path: str) -> Node:
    """The status of what was found; ContextError if it is gone."""
    node = tree.lstat(path)
    if node is None:
        raise changed(path)
    return node


def seen_below(source: TreeSource, found: Found, exclude: tuple[str, ...]) -> Tree:
    """The source's tree as a directory that was found shows it: what the pattern means, without what --exclude takes away."""
    tree = Filtered(source.tree, Ignore.of(exclude), found.path) if exclude else source.tree
    return Included(tree, source.pattern, found.path) if source.pattern else tree
