"""UnionView against the kernel's own overlay, and against hostile symlinks."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.linux import syscalls
from imgbuild.snapshot import DirectoryLower, IndexedTarLower, Lowers
from imgbuild.snapshot.union import UnionView

from .overlay_form import Content, describe, in_mount_namespace, make_lower, tree_of


def stack(root: Path, *layers: dict[str, Content]) -> Lowers:
    return tuple(DirectoryLower(make_lower(root / f"l{number}", layer)) for number, layer in enumerate(layers))


def seen_by_union(lowers: Lowers) -> dict[str, tuple[Any, ...]]:
    with UnionView(lowers) as view:

        def content(path: str) -> bytes:
            with os.fdopen(view.open(path), "rb") as file:
                return file.read()

        return {path: describe(node, partial(view.readlink, path), partial(content, path)) for path, node in view.walk() if path != "/"}


def seen_by_kernel(lowers: Lowers, merged: Path) -> dict[str, tuple[Any, ...]]:
    def look() -> dict[str, tuple[Any, ...]]:
        merged.mkdir(exist_ok=True)
        names = ":".join(str(lower.path) for lower in reversed(lowers) if isinstance(lower, DirectoryLower))
        syscalls.mount("overlay", merged, "overlay", 0, f"lowerdir={names},index=off,redirect_dir=off,metacopy=off,xino=off")
        return tree_of(merged)

    found: dict[str, tuple[Any, ...]] = in_mount_namespace(look)
    return found


NAMES = st.sampled_from(["a", "b", "c"])
CONTENTS: st.SearchStrategy[Content] = st.one_of(
    st.text("xyz", max_size=3),
    st.sampled_from([("dir", 0o755), ("dir", 0o1700), ("opaque",), ("whiteout",), ("symlink", "/a/b"), ("symlink", "../c"), ("fifo",)]),
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
LAYERS = st.lists(st.dictionaries(PATHS, CONTENTS, max_size=8), min_size=2, max_size=5)


def consistent(layer: dict[str, Content]) -> dict[str, Content]:
    """Without entries below what is not a directory in the same layer."""
    leaves = {path for path, content in layer.items() if isinstance(content, str) or content[0] not in ("dir", "opaque")}
    return {path: content for path, content in layer.items() if not any(path.startswith(f"{leaf}/") for leaf in leaves)}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(LAYERS)
def test_union_is_what_the_kernel_shows(tmp_path: Path, layers: list[dict[str, Content]]) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    lowers = stack(root, *(consistent(layer) for layer in layers))
    assert seen_by_union(lowers) == seen_by_kernel(lowers, root / "merged")
    shutil.rmtree(root)


def test_a_whiteout_hides_and_a_later_layer_brings_back_only_its_own(tmp_path: Path) -> None:
    lowers = stack(tmp_path, {"d/x": "1", "d/y": "1"}, {"d": ("whiteout",)}, {"d/z": "3"})
    with UnionView(lowers) as view:
        assert view.listdir("/d") == ("z",)
        assert view.lstat("/d/x") is None
    with UnionView(lowers[:2]) as view:
        assert view.lstat("/d") is None
        assert view.listdir("/") == ()


def test_userxattr_decides_which_opaque_mark_counts(tmp_path: Path) -> None:
    make_lower(tmp_path / "l0", {"d/x": "1"})
    make_lower(tmp_path / "l1", {"d": ("opaque",)}, userxattr=True)
    lowers = (DirectoryLower(tmp_path / "l0"), DirectoryLower(tmp_path / "l1"))
    with UnionView(lowers) as root_mode, UnionView(lowers, userxattr=True) as rootless:
        assert root_mode.listdir("/d") == ("x",)
        assert rootless.listdir("/d") == ()


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/etc/passwd", "/etc/passwd"),
        ("/abs", "/etc/passwd"),
        ("/rel/passwd", "/etc/passwd"),
        ("/up", "/etc/passwd"),
        ("/etc/../../../etc/passwd", "/etc/passwd"),
        ("/rel/..", "/"),
        ("/rel/../etc", "/etc"),
        ("/chain", "/etc/passwd"),
        ("/dangling", "/not/there"),
        ("/missing/../etc", "/etc"),
        ("/missing/deep/er", "/missing/deep/er"),
        ("/proc-link", "/proc/self/root/etc/shadow"),
    ],
)
def test_resolve_never_leaves_the_root(tmp_path: Path, path: str, real: str) -> None:
    layer: dict[str, Content] = {
        "etc/passwd": "root",
        "abs": ("symlink", "/etc/passwd"),
        "rel": ("symlink", "./etc/."),
        "up": ("symlink", "../../../../../../etc/passwd"),
        "chain": ("symlink", "abs"),
        "dangling": ("symlink", "/not/there"),
        "proc-link": ("symlink", "/proc/self/root/etc/shadow"),
    }
    with UnionView(stack(tmp_path, layer)) as view:
        assert view.resolve(path) == real
        assert view.read(path) == (b"root" if real == "/etc/passwd" else None)


def test_resolve_gives_up_on_circles(tmp_path: Path) -> None:
    layer: dict[str, Content] = {"a": ("symlink", "b"), "b": ("symlink", "a"), "n40": "end"}
    layer |= {f"n{number}": ("symlink", f"n{number + 1}") for number in range(40)}
    with UnionView(stack(tmp_path, layer)) as view:
        with pytest.raises(OSError) as caught:
            view.resolve("/a")
        assert caught.value.errno == errno.ELOOP
        assert view.resolve("/n0") == "/n40"
        assert view.resolve("/a", follow_last=False) == "/a"


def test_a_path_through_a_symlink_is_missing_unless_resolved(tmp_path: Path) -> None:
    with UnionView(stack(tmp_path, {"usr/bin/sh": "x", "bin": ("symlink", "usr/bin")}, {"usr/bin/ls": "y"})) as view:
        assert view.lstat("/bin/sh") is None
        assert view.stat("/bin/sh") is not None
        assert view.listdir(view.resolve("/bin")) == ("ls", "sh")


def test_hard_links_keep_their_identity_and_xattrs_lose_overlays_own(tmp_path: Path) -> None:
    lowers = stack(tmp_path, {"a": "x", "b": ("link", "a"), "d": ("opaque",)})
    os.setxattr(tmp_path / "l0/d", "user.note", b"1")
    os.setxattr(tmp_path / "l0/d", "user.overlay.origin", b"1")
    with UnionView(lowers) as view:
        first, second = view.lstat("/a"), view.lstat("/b")
        assert first is not None and second is not None and first.nlink == 2
        assert (first.dev, first.ino) == (second.dev, second.ino)
        assert view.xattrs("/d") == {"user.note": b"1"}


def test_names_that_are_not_utf8_and_their_order(tmp_path: Path) -> None:
    lower = tmp_path / "l0"
    lower.mkdir()
    raw = [b"\xff", b"\xe2\x82\xac", b"a", b"\xf0\x9f\x98\x80", b"\xee\x80\x80"]
    for name in raw:
        (lower / os.fsdecode(name)).write_bytes(name)
    with UnionView((DirectoryLower(lower),)) as view:
        assert [os.fsencode(name) for name in view.listdir("/")] == sorted(raw)
        assert view.read("/" + os.fsdecode(b"\xff")) == b"\xff"


def test_a_hundred_lowers(tmp_path: Path) -> None:
    layers: list[dict[str, Content]] = [{f"d/f{number}": str(number), "d/same": str(number)} for number in range(100)]
    with UnionView(stack(tmp_path, *layers)) as view:
        assert len(view.listdir("/d")) == 101
        assert view.read("/d/same") == b"99"
        assert view.read("/d/f0") == b"0"


def test_no_lowers_are_an_empty_root() -> None:
    with UnionView(()) as view:
        root = view.lstat("/")
        assert root is not None and root.mode == stat.S_IFDIR | 0o755
        assert view.listdir("/") == ()
        assert view.xattrs("/") == {}
        assert view.lstat("/etc") is None


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    with UnionView(stack(tmp_path, {"fifo": ("fifo",), "link": ("symlink", "/etc/passwd"), "d": ("dir",)})) as view:
        for name in ("/fifo", "/link", "/d", "/none"):
            with pytest.raises(OSError):
                view.open(name)


def test_an_index_that_is_none_is_an_error_and_leaves_nothing_open(tmp_path: Path) -> None:
    make_lower(tmp_path / "l0", {})
    for name in ("t", "i"):
        (tmp_path / name).write_bytes(bytes(4096))
    before = len(os.listdir("/proc/self/fd"))
    lowers = (DirectoryLower(tmp_path / "l0"), IndexedTarLower(tmp_path / "t", tmp_path / "i"))
    with UnionView(lowers) as view, pytest.raises(OSError, match="fsconfig"):
        view.lstat("/")
    assert len(os.listdir("/proc/self/fd")) == before
