"""Names in foreign tars: what they are made of, and what they must not be."""

from __future__ import annotations

from imgbuild.errors import LayerError
from imgbuild.layer import MAX_PATH
from imgbuild.layer.headers import show

OPAQUE = b".wh..wh..opq"
AUFS = b".wh..wh."
"""What aufs' own names begin with."""
MAX_TARGET = 4095
"""The longest target of a symlink, in bytes."""
MAX_LINKS = 40
"""The most symlinks that are followed on the way to one name."""
_MAX_NAME = 255


def parts_of(name: bytes) -> list[bytes]:
    """The components of a name of the tar."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise LayerError(f"a name of the tar leads out of it: {show(name)}")
    if b"\0" in name:
        raise LayerError(f"a null byte in a name of the tar: {show(name)}")
    if len(name) > _MAX_NAME and (len(name) > MAX_PATH or any(len(part) > _MAX_NAME for part in parts)):
        raise LayerError(f"a name of the tar is too long: {show(name)}", hint=f"a name has {_MAX_NAME} bytes at most, a path {MAX_PATH}")
    return parts


def join(directory: bytes, name: bytes) -> bytes:
    """The path of a name in a directory, "" being the root."""
    return directory + b"/" + name if directory else name
