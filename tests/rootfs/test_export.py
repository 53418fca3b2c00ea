"""A merged root file system as a directory and as a tar."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from pathlib import Path

import pytest

from imgbuild.layer.tar import TarEntry, read_tar
from imgbuild.layer.unpack import unpack
from imgbuild.rootfs.export import export_tar, export_tree
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.union import UnionView
from tests.layer.trees import in_child, seen_at, seen_in
from tests.rootfs.images import file, tar_of


@pytest.fixture
def view(tmp_path: Path) -> UnionView:
    """Two layers with some of everything."""
    lowers = (tmp_path / "lower", tmp_path / "upper")
    tars = (
        tar_of(
            (TarEntry(b".", "dir", 0o751, mtime=3), b""),
            (TarEntry(b"d", "dir", 0o1777, 5, 6, mtime=7), b""),
            file("d/gone"),
            (TarEntry(b"d/set", "file", 0o4755, 7, 8, 3, 9, xattrs=((b"user.x", b"1"),)), b"abc"),
            (TarEntry(b"d/null", "char", 0o666, major=1, minor=3), b""),
        ),
        tar_of(
            (TarEntry(b".", "dir", 0o751, mtime=4), b""),
            (TarEntry(b"d", "dir", 0o1777, 5, 6, mtime=8), b""),
            file("d/.wh.gone"),
            (TarEntry(b"d/\xff", "file", size=2), b"ff"),
            (TarEntry(b"h", "hardlink", link=b"d/\xff"), b""),
            (TarEntry(b"link", "symlink", 0o777, 9, 9, link=b"/d"), b""),
            (TarEntry(b"fifo", "fifo"), b""),
        ),
    )
    for lower, tar in zip(lowers, tars, strict=True):
        lower.mkdir()
        unpack(io.BytesIO(tar), lower)
    with open(lowers[1] / "sparse", "wb") as sparse:
        sparse.seek(10 << 20)
        sparse.write(b"end")
        sparse.truncate(20 << 20)
    os.utime(lowers[1] / "sparse", (1, 1))
    os.utime(lowers[1], (4, 4))
    return UnionView(tuple(DirectoryLower(lower) for lower in lowers))


def test_a_new_directory(view: UnionView, tmp_path: Path) -> None:
    exported = export_tree(view, tmp_path / "out/deep")
    assert seen_at(str(tmp_path / "out/deep")) == seen_in(view)
    assert exported.placeholders == 0
    assert os.stat(tmp_path / "out/deep/sparse").st_blocks * 512 < 1 << 20


def test_an_existing_directory_is_written_to_safely(view: UnionView, tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    out.mkdir(mode=0o700)
    (out / "d").symlink_to(outside)
    (out / "h").symlink_to(outside / "precious")
    (out / "kept").write_bytes(b"kept")
    (out / "link").mkdir()
    (out / "link/in").touch()
    export_tree(view, out)
    assert os.listdir(outside) == ["precious"]
    assert (outside / "precious").read_bytes() == b"precious"
    found = seen_at(str(out))
    expected = seen_in(view)
    kept = found.pop("/kept")
    assert kept.content == b"kept"
    assert stat.S_IMODE(found.pop("/").mode) == 0o700
    del expected["/"]
    assert found == expected
    export_tree(view, out)
    assert set(seen_at(str(out))) == {*expected, "/", "/kept"}


def test_what_only_root_may_do_is_counted(view: UnionView, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    os.chown(out, 1234, 1234)
    for directory in (tmp_path / "lower", tmp_path / "upper", tmp_path, *tmp_path.parents):
        if directory.stat().st_mode & 0o5 != 0o5:
            directory.chmod(0o755)

    def work() -> None:
        os.setgroups([])
        os.setgid(1234)
        os.setuid(1234)
        with UnionView(view.lowers) as own:
            assert export_tree(own, out, unprivileged=True).placeholders > 3

    in_child(work)
    assert (out / "d/set").read_bytes() == b"abc"
    assert (out / "d/null").is_file()


def test_a_tar(view: UnionView, tmp_path: Path) -> None:
    first, second = io.BytesIO(), io.BytesIO()
    assert export_tar(view, first.write) == export_tar(view, second.write)
    assert first.getvalue() == second.getvalue()
    entries = {entry.name: entry for entry, _ in read_tar(io.BytesIO(first.getvalue()))}
    assert next(iter(entries)) == b"./"
    assert (entries[b"h"].kind, entries[b"h"].link) == ("hardlink", b"d/\xff")
    assert not any(b".wh." in name for name in entries)
    again = tmp_path / "again"
    again.mkdir()
    unpack(io.BytesIO(first.getvalue()), again)
    with UnionView((DirectoryLower(again),)) as unpacked:
        assert seen_in(unpacked) == seen_in(view)
    out = tmp_path / "gnu"
    out.mkdir()
    command = ["tar", "--xattrs", "--numeric-owner", "-C", str(out), "-xpf", "-"]
    subprocess.run(command, input=first.getvalue(), check=True)
    assert seen_at(str(out)) == seen_in(view)


def test_nothing(tmp_path: Path) -> None:
    with UnionView(()) as view:
        out = io.BytesIO()
        assert export_tar(view, out.write) == 1
        export_tree(view, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []
