"""Layers merged into one image show what an overlay of them shows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.layer.merge import merged
from imgbuild.layer.tar import TarEntry
from imgbuild.linux.features import probe
from imgbuild.linux.mounts import open_mount
from imgbuild.snapshot import DirectoryLower, IndexedTarLower, Lowers
from imgbuild.snapshot.overlay import overlay_filesystem
from imgbuild.snapshot.union import UnionView
from tests.layer.indexing import indexed, needs_erofs
from tests.layer.test_index import members
from tests.layer.test_unpack import member, tar_of
from tests.layer.trees import Seen, seen_at, seen_in

layers = st.lists(st.lists(members(), max_size=12), min_size=2, max_size=4)


def _stack(tars: list[bytes], directory: Path) -> tuple[Lowers, Lowers]:
    """The lowers of tars, and the one that they are merged."""
    images: list[bytes] = []
    paths = [directory / f"{number}.tar" for number in range(len(tars))]
    lowers = []
    for path, tar in zip(paths, tars, strict=True):
        image = indexed(tar)
        assert isinstance(image, bytes)
        images.append(image)
        path.write_bytes(tar)
        path.with_suffix(".erofs").write_bytes(image)
        lowers.append(IndexedTarLower(path, path.with_suffix(".erofs")))
    (directory / "merged.erofs").write_bytes(merged(images))
    return tuple(lowers), (IndexedTarLower(paths[0], directory / "merged.erofs", tuple(paths[1:])),)


@contextmanager
def _shown(lowers: Lowers, empty: Path) -> Iterator[str]:
    fd = open_mount(overlay_filesystem((*lowers, DirectoryLower(empty)), None, None, features=probe()))
    try:
        yield f"/proc/self/fd/{fd}/."
    finally:
        os.close(fd)


def _everything(lowers: Lowers, directory: Path) -> tuple[dict[str, Seen], dict[str, int], dict[str, Seen]]:
    """What the kernel shows, with the numbers of links, and what is read without a mount of the whole."""
    empty = directory / "empty"
    empty.mkdir(exist_ok=True)
    with _shown(lowers, empty) as root, UnionView(lowers) as view:
        tree = seen_at(root, overlay=True)
        return tree, {path: os.lstat(root + path).st_nlink for path in tree}, seen_in(view)


def _check(tars: list[bytes], directory: Path) -> None:
    stack, one = _stack(tars, directory)
    assert _everything(one, directory) == _everything(stack, directory)


def _whole(found: list[tuple[TarEntry, bytes]]) -> bytes:
    """A tar that is indexed, of these members as far as they are no hindrance, in directories that are named."""
    kept = [member(path, "dir") for path in ("a", "b", "c", "a/a", "a/b", "b/c")]
    for each in found:
        if isinstance(indexed(tar_of(*kept, each)), bytes):
            kept.append(each)
    return tar_of(*kept)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(layers)
def test_any_layers(tmp_path_factory: pytest.TempPathFactory, found: list[list[tuple[TarEntry, bytes]]]) -> None:
    needs_erofs()
    _check([_whole(each) for each in found], tmp_path_factory.mktemp("stack"))


def test_what_layers_do_to_each_other(tmp_path: Path) -> None:
    needs_erofs()
    note = ((b"user.note", b"1"),)
    _check(
        [
            tar_of(
                member("d", "dir", mode=0o700, xattrs=note),
                member("d/kept", content=b"k"),
                member("d/gone"),
                member("e", "dir"),
                member("e/old"),
                member("f", content=b"f" * 600),
                member("h", "hardlink", link="f"),
                member("i", "hardlink", link="f"),
                member("was", "dir"),
                member("was/in", "dir"),
                member("was/in/it"),
                member("l", "symlink", link="t" * 500),
                member("n", "char", major=1, minor=3),
            ),
            tar_of(
                member("d", "dir", mode=0o755),
                member("d/.wh.gone"),
                member("e", "dir"),
                member("e/.wh..wh..opq"),
                member("e/new", content=b"n"),
            ),
            tar_of(
                member(".wh.was"), member("h", content=b"other"), member("d", "dir", uid=7), member("d/gone", "dir"), member("l", "dir")
            ),
            tar_of(
                member(".", "dir", mode=0o711, mtime=9), member("was", "dir"), member("was/back"), member(".wh.nothing"), member("x", "dir")
            ),
        ],
        tmp_path,
    )


def test_many_layers(tmp_path: Path) -> None:
    needs_erofs()
    tars = [
        tar_of(
            member("d", "dir"),
            member(f"d/{number}", content=b"%d" % number),
            member("same", content=b"%d" % number),
            member(f".wh.{number - 1}"),
        )
        for number in range(130)
    ]
    _, one = _stack(tars, tmp_path)
    with UnionView(one) as view:
        assert len(view.listdir("/d")) == 130
        assert view.read("/same") == b"129"
        assert view.read("/d/77") == b"77"
        assert view.listdir("/") == ("d", "same")
