"""What a layer says, entry by entry."""

from __future__ import annotations

import io
import tarfile

import pytest

from imgbuild.errors import LayerError
from imgbuild.layer.listing import Listed, listed


def _tar(*names: str) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name.rstrip("/@"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.SYMTYPE if name.endswith("@") else tarfile.REGTYPE
            info.size = 3 if info.isreg() and ".wh." not in name else 0
            archive.addfile(info, io.BytesIO(b"abc") if info.size else None)
    return io.BytesIO(stream.getvalue())


def test_every_kind() -> None:
    names = ("./", "d/", "./d/f", "d/l@", "d/.wh.gone", ".wh.old", "e/.wh..wh..opq", ".wh..wh.plnk", ".wh..wh..opq")
    assert list(listed(_tar(*names))) == [
        Listed("d", "dir"), Listed("d/f", "file", 3), Listed("d/l", "other"), Listed("d/gone", "deleted"), Listed("old", "deleted"),
        Listed("e", "emptied"), Listed("", "emptied"),
    ]  # fmt: skip


def test_what_is_no_layer() -> None:
    with pytest.raises(LayerError):
        list(listed(io.BytesIO(b"no tar" * 200)))
    with pytest.raises(LayerError):
        list(listed(_tar("../out")))
