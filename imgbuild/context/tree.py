"""What can be copied from: a `Tree` is a build context, or a stage's root file system, read without knowing which.

`match` finds what a source word of COPY or ADD means in one. Not here: where it goes (rootfs), digests (digest).
"""

from __future__ import annotations

import stat

from imgbuild.context.glob import BadPattern, compile_component, is_pattern
from imgbuild.errors import ContextError
from imgbuild.hints import Callable, Iterator, Protocol
from imgbuild.linux.node import Node
from imgbuild.values import dataclass


class Tree(Protocol):
    """A directory tree whose paths are absolute ``str`` (surrogateescape) from its own root.

    All but `resolve` take real paths, in which no component is a symlink except perhaps the last. Errors for users are
    ContextError; OSError is for what can't be.
    """

    @property
    def local(self) -> bool:
        """Whether the files are this machine's: then owners, times, links between files, and all extended attributes but
        file capabilities are accidents, which neither count nor are copied."""
        ...

    def lstat(self, path: str) -> Node | None: ...

    def entries(self, path: str) -> Iterator[tuple[str, Node]]:
        """Names and their status in a directory, sorted by the names' bytes."""
        ...

    def open(self, path: str) -> int:
        """A new descriptor of a regular file, for reading."""
        ...

    def load(self, path: str, node: Node) -> tuple[bytes, bytes]:
        """All bytes of a small regular file that is still as `node` says, and what an open descriptor tells of its capability where
        `local` is; b"" for none. Of one that grew, at most one byte more than it had."""
        ...

    def readlink(self, path: str) -> str: ...

    def xattrs(self, path: str) -> dict[str, bytes]: ...

    def resolve(self, path: str, follow_last: bool = True) -> str:
        """The real path; what is missing stays as written. OSError ELOOP."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What a source word means: `name` is the path as it was named (clean, relative, "" for the root), `path` the real one."""

    name: str
    path: str

    @property
    def base(self) -> str:
        """The name that a file gets in a destination directory: the one that was named, not what a symlink led to."""
        return self.name.rpartition("/")[2]


def match(
    tree: Tree,
    source: str,
    *,
    where: str = "the build context",
    hint: Callable[[str], str | None] | None = None,
    optional: bool = False,
) -> tuple[Found, ...]:
    """What the word `source` means in `tree`, sorted by names; empty for a pattern that nothing matches.

    Symlinks in it are followed inside the tree, those that a pattern matched too. ContextError where a path without
    wildcards, or the part of a pattern before the first wildcard, does not exist, unless it is `optional`; `hint(path)` may say why.
    """
    names = _names(source)
    plain = next((index for index, name in enumerate(names) if is_pattern(name)), len(names))
    start = "/".join(names[:plain])
    if optional and _missing(tree, start):
        return ()
    real = _existing(tree, start, source, where, hint)
    if plain == len(names):
        return (Found(start, real),)
    try:
        components = [compile_component(name) for name in names[plain:]]
    except BadPattern as error:
        raise ContextError(f"bad pattern {source!r}: {error}") from None
    hits = [(start, real)]
    for component in components:
        hits = [
            (f"{name}/{entry}" if name else entry, f"{path}/{entry}" if path != "/" else f"/{entry}")
            for name, path in hits
            if stat.S_ISDIR(_mode(tree, path))
            for entry, _ in tree.entries(path)
            if component.fullmatch(entry)
        ]
    found = (name for name, _ in hits if not (optional and _missing(tree, name)))
    return tuple(Found(name, _existing(tree, name, name, where, hint)) for name in found)


def _names(source: str) -> list[str]:
    """The components of a source; as everywhere, what is above the root is the root."""
    names: list[str] = []
    for name in source.split("/"):
        if name in ("", "."):
            continue
        if name != "..":
            names.append(name)
        elif names:
            names.pop()
    return names


def _leads_out(source: str) -> bool:
    depth = 0
    for name in source.split("/"):
        depth += -1 if name == ".." else name not in ("", ".")
        if depth < 0:
            return True
    return False


def _missing(tree: Tree, name: str) -> bool:
    try:
        return tree.lstat(tree.resolve(f"/{name}")) is None
    except OSError:
        return False  # a circle of symlinks, of which `_existing` speaks


def _existing(tree: Tree, name: str, source: str, where: str, hint: Callable[[str], str | None] | None) -> str:
    try:
        real = tree.resolve(f"/{name}")
    except OSError as error:
        raise ContextError(f"{source!r} in {where}: {error.strerror}") from None
    if tree.lstat(real) is not None:
        return real
    message = f"{source!r} not found in {where}"
    if real != f"/{name}":
        message += f": a symlink leads to {real!r} there"
    said = hint and hint(real)
    if tree.local and not said and _leads_out(source):
        said = f"what is outside of {where} can't be copied: '..' does not lead there"
    raise ContextError(message, hint=said or _similar(tree, real))


def _similar(tree: Tree, path: str) -> str | None:
    """Names that were perhaps meant, in the deepest directory of the path that exists."""
    # here, since only a mistake needs it
    from difflib import get_close_matches

    names = path.strip("/").split("/")
    parent = ""
    for name in names:
        here = f"{parent}/{name}"
        if tree.lstat(here) is None:
            if not stat.S_ISDIR(_mode(tree, parent or "/")):
                return f"{parent[1:]!r} is not a directory"
            close = get_close_matches(name, [entry for entry, _ in tree.entries(parent or "/")], n=3, cutoff=0.6)
            return "did you mean " + " or ".join(repr(f"{parent}/{other}"[1:]) for other in close) + "?" if close else None
        parent = here
    return None


def _mode(tree: Tree, path: str) -> int:
    status = tree.lstat(path)
    return status.mode if status else 0
