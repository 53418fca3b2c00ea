"""Layers as tars: what changed in an upperdir, as deterministic bytes, and back into a directory in overlay form.

`tar` reads foreign tars and writes our own; `diff` finds changes; `pack` writes them; `unpack` applies a tar; `compress` does
one pass over blocks with both digests. Image-spec: layer.md. Nothing ever holds a whole layer in memory.
Not here: where blobs and lowers are kept (store, snapshot).

The seam to what lies below a layer is `ParentView`: the merged tree of the lowers, read without mounting it.
"""

from __future__ import annotations

from imgbuild.hints import Mapping, Protocol, Sequence
from imgbuild.linux.node import Node

WHITEOUT = b".wh."
"""What the name of a mark of a deleted file begins with (image-spec: layer.md, "Whiteouts")."""

MAX_PATH = 16 << 10
"""The longest path in a layer, in bytes. Programs make longer ones than the kernel takes at once, step by step; with no bound at all, a
small hostile layer could ask for any amount of memory, since each directory on the way is remembered by its path."""


class ParentView(Protocol):
    """The merged tree below a layer, read only: whiteouts and opaque directories are already applied, overlay's own xattrs hidden.

    Paths are absolute, "/"-separated, with surrogateescape, and real: a symlink is never followed, neither on the way nor at
    the end. A name that is not there is None for `lstat`, and FileNotFoundError for the others.
    """

    def lstat(self, path: str) -> Node | None: ...

    def listdir(self, path: str) -> Sequence[str]: ...

    def readlink(self, path: str) -> str: ...

    def xattrs(self, path: str) -> Mapping[str, bytes]: ...

    def open(self, path: str) -> int:
        """A descriptor of a regular file, to be read and closed by the caller."""
        ...
