"""Paths below a hostile root: both walkers agree, and neither leaves it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.linux.features import probe
from imgbuild.linux.paths import Root

NEEDS_OPENAT2 = pytest.mark.skipif(not probe().openat2, reason="needs openat2")
WAYS = [pytest.param(True, id="openat2", marks=NEEDS_OPENAT2), pytest.param(False, id="walk")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "outside").write_text("outside")
    top = tmp_path / "root"
    (top / "a/b").mkdir(parents=True)
    (top / "a/b/file").write_text("file")
    (top / "outside").write_text("inside")
    for name, target in {
        "absolute": "/a/b", "relative": "a/b", "up": "../../../../outside", "dangling": "/new/dir", "loop": "loop", "a/back": "../absolute",
        "chain": "a/back", "slash": "/", "host": "/etc/passwd", "file-link": "/a/b/file", "dangling-file": "/a/made",
    }.items():  # fmt: skip
        (top / name).symlink_to(target)
    return top


def _read(fd: int) -> str:
    try:
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)


@pytest.mark.parametrize("openat2", WAYS)
class TestBothWays:
    @pytest.mark.parametrize("path", [
        "a/b/file", "/a/b/file", "absolute/file", "relative/file", "chain/file", "slash/slash/a/b/file", "file-link", "a/../a/./b//file",
        "../../a/b/file", "a/b/../../chain/file",
    ])  # fmt: skip
    def test_opens_inside(self, tree: Path, openat2: bool, path: str) -> None:
        with Root.open_path(tree, openat2=openat2) as root:
            assert _read(root.open(path)) == "file"

    @pytest.mark.parametrize("path", ["up", "../outside", "a/../../outside", "/../../outside", "slash/../outside"])
    def test_never_leaves(self, tree: Path, openat2: bool, path: str) -> None:
        with Root.open_path(tree, openat2=openat2) as root:
            assert _read(root.open(path)) == "inside"

    @pytest.mark.parametrize(("path", "kind"), [
        ("host", FileNotFoundError), ("loop", OSError), ("a/b/file/x", NotADirectoryError), ("missing/x", FileNotFoundError),
        ("dangling", OSError),
    ])  # fmt: skip
    def test_errors(self, tree: Path, openat2: bool, path: str, kind: type[OSError]) -> None:
        with Root.open_path(tree, openat2=openat2) as root, pytest.raises(kind):
            root.open(path)

    def test_nofollow(self, tree: Path, openat2: bool) -> None:
        with Root.open_path(tree, openat2=openat2) as root:
            with pytest.raises(OSError, match="symbolic"):
                root.open("file-link", os.O_RDONLY | os.O_NOFOLLOW)
            assert os.path.stat.S_ISLNK(root.lstat("file-link").st_mode)  # type: ignore[attr-defined]
            assert root.exists("dangling", follow=False)
            assert not root.exists("dangling")

    def test_creates_inside_through_a_dangling_symlink(self, tree: Path, openat2: bool) -> None:
        with Root.open_path(tree, openat2=openat2) as root:
            os.close(root.open("dangling-file", os.O_WRONLY | os.O_CREAT, 0o600))
            assert (tree / "a/made").stat().st_size == 0
            with pytest.raises(FileExistsError):
                root.open("file-link", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def test_open_parent(self, tree: Path, openat2: bool) -> None:
        with Root.open_path(tree, openat2=openat2) as root:
            fd, name = root.open_parent(b"/chain/file")
            assert (name, os.stat(name, dir_fd=fd).st_size) == (b"file", 4)
            assert root.open_parent("/chain/other")[0] == fd
            fd, name = root.open_parent("dangling/deep/er/x/", create=True)
            os.mkdir(name, dir_fd=fd)
            assert (tree / "new/dir/deep/er/x").is_dir()
            for bad in ("/", "", "..", "a/..", "."):
                with pytest.raises(ValueError, match="no name"):
                    root.open_parent(bad)
            with pytest.raises(ValueError, match="null"):
                root.open_parent("a\0b")

    def test_makedirs(self, tree: Path, openat2: bool) -> None:
        with Root.open_path(tree, openat2=openat2) as root:
            os.close(root.makedirs("a/../slash/one/../two/./three", 0o700))
            assert (tree / "two/three").is_dir()
            os.close(root.makedirs("dangling/x"))
            assert (tree / "new/dir/x").is_dir()
            for bad, kind in (("a/b/file/x", NotADirectoryError), ("loop/x", OSError)):
                with pytest.raises(kind):
                    root.makedirs(bad)
        assert sorted(os.listdir(tree.parent)) == ["outside", "root"]

    def test_cache_is_bounded(self, tree: Path, openat2: bool) -> None:
        with Root(os.open(tree, os.O_PATH), openat2=openat2, cache=2) as root:
            before = len(os.listdir("/proc/self/fd"))
            for number in range(10):
                root.open_parent(f"many/{number}/x", create=True)
            assert len(os.listdir("/proc/self/fd")) == before + 2
            root.forget()
            assert len(os.listdir("/proc/self/fd")) == before


NAMES = st.sampled_from(["a", "b", "c", "..", ".", "x", ""])
PATHS = st.lists(NAMES, max_size=5).map("/".join)


@NEEDS_OPENAT2
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(links=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "/"]), PATHS), max_size=4), path=PATHS)
def test_both_walkers_agree(tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, str, str]], path: str) -> None:
    top = tmp_path_factory.mktemp("tree")
    (top / "x/a").mkdir(parents=True)
    (top / "x/a/b").touch()
    for name, start, target in links:
        if not os.path.lexists(top / name) and start + target:
            (top / name).symlink_to(start + target)
    answers = []
    for openat2 in (True, False):
        with Root.open_path(top, openat2=openat2) as root:
            try:
                with root.opened(path, os.O_PATH) as fd:
                    answers.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError as error:
                answers.append(str(error.errno))
    assert answers[0] == answers[1]
    assert answers[0].isdigit() or (answers[0] + "/").startswith(f"{top}/")
