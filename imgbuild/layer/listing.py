"""What a layer's tar says, entry by entry, without its contents: paths, what is deleted, and sizes."""

from __future__ import annotations

from imgbuild.hints import Iterator, Literal
from imgbuild.layer import WHITEOUT
from imgbuild.layer.names import AUFS, OPAQUE, join, parts_of
from imgbuild.layer.tar import Stream, read_tar
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry. `kind` is "file", "dir" or "other" (links, devices), or "deleted": what was at `path` below, "emptied": all that was in
    it. `size` is of a file's content."""

    path: str
    kind: Literal["file", "dir", "other", "deleted", "emptied"]
    size: int = 0


def listed(stream: Stream) -> Iterator[Listed]:
    """The entries of a layer in their order; LayerError where it is malformed."""
    for entry, _ in read_tar(stream):
        *above, name = parts_of(entry.name) or [b""]
        directory = b"/".join(above)
        if name == OPAQUE:
            yield Listed(_text(directory), "emptied")
        elif name.startswith(AUFS):
            continue
        elif name.startswith(WHITEOUT):
            yield Listed(_text(join(directory, name[len(WHITEOUT) :])), "deleted")
        elif name:
            kind: Literal["file", "dir", "other"] = "file" if entry.kind == "file" else "dir" if entry.kind == "dir" else "other"
            yield Listed(_text(join(directory, name)), kind, entry.size if kind == "file" else 0)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
