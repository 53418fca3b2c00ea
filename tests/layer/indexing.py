"""Both forms of one layer, made from one tar and held against each other."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from imgbuild.errors import ImgbuildError
from imgbuild.layer.index import NotIndexable, TarIndex
from imgbuild.layer.runs import index_stream
from imgbuild.layer.unpack import unpack
from imgbuild.linux.features import probe
from imgbuild.linux.mounts import open_mount
from imgbuild.linux.node import Node
from imgbuild.snapshot import IndexedTarLower
from imgbuild.snapshot.overlay import lower_mount
from tests.layer.trees import Seen, seen_at


class AsksLowersError(Exception):
    """A layer asks what is below it."""


class Unknown:
    """What is below a layer, while that is not to be known."""

    def lstat(self, path: str) -> Node | None:
        if path == "/":
            return None
        raise AsksLowersError

    def listdir(self, path: str) -> Sequence[str]:
        raise AsksLowersError

    def readlink(self, path: str) -> str:
        raise AsksLowersError

    def xattrs(self, path: str) -> Mapping[str, bytes]:
        raise AsksLowersError

    def open(self, path: str) -> int:
        raise AsksLowersError


@cache
def mountable() -> bool:
    """Whether this machine mounts such images at all."""
    if not probe().erofs:
        return False
    with tempfile.TemporaryDirectory() as directory, mounted(bytes(1024), TarIndex().image(1024), Path(directory)):
        return True


def needs_erofs() -> None:
    """Skip a test on a machine without."""
    if not mountable():
        pytest.skip("needs file-backed EROFS")


@contextmanager
def mounted(tar: bytes, image: bytes, directory: Path) -> Iterator[str]:
    """A path of the mount that an image over a tar makes."""
    lower = IndexedTarLower(directory / "layer.tar", directory / "index.erofs")
    lower.tar.write_bytes(tar)
    lower.index.write_bytes(image)
    fd = open_mount(lower_mount(lower))
    try:
        yield f"/proc/self/fd/{fd}/."
    finally:
        os.close(fd)
        lower.tar.unlink()
        lower.index.unlink()


def indexed(tar: bytes) -> bytes | str | None:
    """The image of a tar; the words of the error that refuses it; None where only unpacking can do it."""
    try:
        index = TarIndex()
        index_stream(io.BytesIO(tar), index)
        return index.image(len(tar))
    except NotIndexable:
        return None
    except ImgbuildError as error:
        return error.message


def unpacked(tar: bytes, directory: Path) -> str | None:
    """The words of the error that a tar is refused with, None where it asks what is below it, else "" and it is unpacked."""
    try:
        unpack(io.BytesIO(tar), directory, lowers_view=Unknown())
        return ""
    except AsksLowersError:
        return None
    except ImgbuildError as error:
        return error.message


def agree(tar: bytes, directory: Path) -> bool | None:
    """Make both forms, and check that they are one. None where the tar is not indexed, False where both refuse it."""
    directory.mkdir()
    (directory / "fs").mkdir()
    image, words = indexed(tar), unpacked(tar, directory / "fs")
    if image is None:
        return None
    if isinstance(image, str):
        assert words == image
        return False
    assert words == ""
    if mountable():
        with mounted(tar, image, directory) as path:
            assert without_marks(seen_at(path)) == without_marks(seen_at(str(directory / "fs")))
    return True


def without_marks(tree: dict[str, Seen]) -> dict[str, Seen]:
    """A tree with nothing of whiteouts but that they are there."""
    whiteouts = [path for path, seen in tree.items() if stat.S_ISCHR(seen.mode) and not seen.content]
    return tree | {path: tree[path]._replace(mtime_ns=0, mode=0) for path in whiteouts}
