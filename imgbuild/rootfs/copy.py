"""COPY and ADD of local files, without a mount and without a process: a plan, and a new directory in overlay form.

The destination is resolved in the parents' union and the result is written as one more lower above them. The rules are
BuildKit's (copy_plan says them); the bytes written depend only on what is in a step's key: see `input_digests`.
Not here: URLs and Git sources, joining the destination with WORKDIR, and which files a source word means (context).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imgbuild.context.tree import Found, Tree
from imgbuild.snapshot.union import UnionView


@dataclass(frozen=True, slots=True)
class TreeSource:
    """What one source word means in a tree: the result of `match`. Empty for a pattern that matched nothing."""

    tree: Tree
    found: tuple[Found, ...]


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


@dataclass(frozen=True, slots=True)
class Copied:
    """What was written: entries and bytes of files."""

    entries: int
    size: int


def input_digests(request: CopyRequest) -> tuple[InputDigest, ...]:
    """The inputs of a copy for its step's key, in the order of the sources."""
    raise NotImplementedError


def perform_copy(request: CopyRequest, parents: UnionView, directory: Path, *, userxattr: bool = False) -> Copied:
    """Write the copy into `directory`, which is empty and becomes the lower above `parents`, its root's metadata included.

    ContextError for a source that changed or can't be read, BuildfileError for a destination that can't be. What was written
    when it raises is left for the caller to discard. mtimes are final: nothing is left to be clamped.
    """
    raise NotImplementedError
