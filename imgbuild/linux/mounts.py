"""Mounts as values: what is to be mounted, where, and how. Plans are lists of these; `attach` performs one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A file system to be made: its type and its options in order (None for a flag). `directory`, where given, is where
    relative paths in the options start, for kernels whose mount(2) takes one page of options."""

    fstype: str
    options: tuple[tuple[str, str | None], ...] = ()
    source: str = "none"
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory or file of the host to be attached, with what is mounted below it where `recursive`."""

    source: str
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """`what` at `target`, an absolute path inside the new root, resolved there with symlinks kept inside the root.

    `subpath` attaches only that directory or file of `what`, resolved inside it. The target must exist.
    """

    what: Filesystem | Bind
    target: str
    subpath: str = ""
    read_only: bool = False
    nosuid: bool = False
    nodev: bool = False
    noexec: bool = False
