"""Edits of random trees through a real overlay: what diff and pack make of them, unpacked again, is what the kernel showed."""

from __future__ import annotations

import io
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.errors import LayerError
from imgbuild.layer.diff import Change, changes, clamp
from imgbuild.layer.pack import pack
from imgbuild.layer.unpack import unpack
from tests.layer.trees import EPOCH, edit, seen_in, timeless, view

_NAMES = ("a", "b", "c\udcff")
_PATHS = [*_NAMES, *(f"{x}/{y}" for x in _NAMES for y in _NAMES), *(f"a/{x}/{y}" for x in _NAMES for y in _NAMES)]
_path = st.sampled_from(_PATHS)
_time = st.sampled_from([0, EPOCH - 5, EPOCH, EPOCH + 1000])
_edit = st.one_of(
    st.tuples(st.just("write"), _path, st.sampled_from([b"", b"one", b"two", b"x" * 5000])),
    st.tuples(st.just("mkdir"), _path, st.sampled_from([0o755, 0o700, 0o2755])),
    st.tuples(st.just("remove"), _path, st.none()),
    st.tuples(st.just("symlink"), _path, st.sampled_from(["a", "/b", "../c", "nothing"])),
    st.tuples(st.just("link"), _path, _path),
    st.tuples(st.just("rename"), _path, _path),
    st.tuples(st.just("chmod"), _path, st.sampled_from([0o644, 0o4755, 0o600])),
    st.tuples(st.just("chown"), _path, st.sampled_from([0, 1000])),
    st.tuples(st.just("touch"), _path, _time),
    st.tuples(st.just("xattr"), _path, st.sampled_from([b"", b"1", b"2"])),
    st.tuples(st.just("fifo"), _path, st.none()),
    st.tuples(st.just("copy-up"), _path, st.none()),
)


def _apply(root: str, edits: list[tuple[str, str, object]]) -> None:
    for verb, path, value in edits:
        full = f"{root}/{path}"
        try:
            _one(root, verb, full, value)
        except OSError:
            continue


def _one(root: str, verb: str, full: str, value: object) -> None:
    if verb == "write":
        # Not blocking: a FIFO may stand there, and nobody reads it.
        fd = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o644)
        with os.fdopen(fd, "wb") as file:
            file.write(value)  # type: ignore[arg-type]
    elif verb == "mkdir":
        os.mkdir(full)
        os.chmod(full, value)  # type: ignore[arg-type]
    elif verb == "remove":
        shutil.rmtree(full) if os.path.isdir(full) and not os.path.islink(full) else os.unlink(full)
    elif verb == "symlink":
        os.symlink(str(value), full)
    elif verb == "link":
        os.link(f"{root}/{value}", full, follow_symlinks=False)
    elif verb == "rename":
        os.rename(f"{root}/{value}", full)
    elif verb == "chmod":
        os.chmod(full, value)  # type: ignore[arg-type]
    elif verb == "chown":
        os.chown(full, value, value, follow_symlinks=False)  # type: ignore[arg-type]
    elif verb == "touch":
        os.utime(full, (value, value), follow_symlinks=False)  # type: ignore[arg-type]
    elif verb == "xattr":
        os.setxattr(full, "user.x", value)  # type: ignore[arg-type]
    elif verb == "fifo":
        os.mkfifo(full)
    else:
        os.close(os.open(full, os.O_RDWR | os.O_NONBLOCK))


def _tree(root: Path, edits: list[tuple[str, str, object]]) -> Path:
    """A lower: what some edits make of nothing, with the mtimes of another day."""
    root.mkdir()
    _apply(str(root), edits)
    for number, (top, directories, files) in enumerate(os.walk(root, topdown=False)):
        for name in [*files, *directories]:
            when = (EPOCH - 100 + 7 * number) * 10**9 + (number % 2) * 5
            os.utime(os.path.join(top, name), ns=(when, when), follow_symlinks=False)
    os.utime(root, (EPOCH - 1, EPOCH - 1))
    return root


def layer_of(upper: Path, parents: list[Path], epoch: int | None = EPOCH) -> bytes:
    """The tar of what an upper changes."""
    out = io.BytesIO()
    with view(*parents) as union:
        pack(changes(upper, union, epoch), upper, out.write)
    return out.getvalue()


def paths_of(upper: Path, parents: list[Path], epoch: int | None = EPOCH) -> list[tuple[str, str]]:
    with view(*parents) as union:
        return [(change.kind, os.fsdecode(change.path)) for change in changes(upper, union, epoch)]


def settled(upper: Path, parents: list[Path]) -> Path:
    with view(*parents) as union:
        clamp(upper, EPOCH, union)
    return upper


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_edit, max_size=12), st.lists(_edit, max_size=8), st.lists(_edit, max_size=12))
def test_what_is_packed_unpacks_to_what_the_kernel_showed(
    tmp_path_factory: pytest.TempPathFactory,
    lower_edits: list[tuple[str, str, object]],
    second_edits: list[tuple[str, str, object]],
    edits: list[tuple[str, str, object]],
) -> None:
    scratch = tmp_path_factory.mktemp("example")
    try:
        lower = _tree(scratch / "lower", lower_edits)
        second, _ = edit([lower], scratch / "second", lambda merged: _apply(merged, second_edits))
        parents = [lower, settled(second, [lower])]
        upper, shown = edit(parents, scratch / "third", lambda merged: _apply(merged, edits))
        with view(*parents, upper) as union:
            assert timeless(seen_in(union)) == timeless(shown)
        before = layer_of(upper, parents)
        settled(upper, parents)
        tar = layer_of(upper, parents)
        assert tar == before
        copy = scratch / "copy"
        copy.mkdir()
        with view(*parents) as union:
            unpacked = unpack(io.BytesIO(tar), copy, lowers_view=union)
        assert not unpacked.stacked
        with view(*parents, upper) as expected, view(*parents, copy) as got:
            wanted, found = seen_in(expected), seen_in(got)
            if tar == bytes(1024):
                wanted["/"] = wanted["/"]._replace(mtime_ns=found["/"].mtime_ns)
            assert found == wanted
        assert layer_of(copy, parents) == tar
    finally:
        shutil.rmtree(scratch)


@pytest.fixture
def lower(scratch: Path) -> Path:
    root = scratch / "lower"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_bytes(b"root")
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/tool").write_bytes(b"tool")
    (root / "bin").symlink_to("usr/bin")
    for top, directories, files in os.walk(root, topdown=False):
        for name in [*directories, *files]:
            os.utime(os.path.join(top, name), ns=((EPOCH + 50) * 10**9 + 7,) * 2, follow_symlinks=False)
    os.utime(root, (EPOCH, EPOCH))
    return root


def test_nothing_changed(scratch: Path, lower: Path) -> None:
    upper, _ = edit([lower], scratch / "s", lambda root: None)
    assert layer_of(upper, [lower]) == bytes(1024)


def test_copy_up_alone_is_no_change(scratch: Path, lower: Path) -> None:
    upper, _ = edit([lower], scratch / "s", lambda root: os.close(os.open(f"{root}/etc/passwd", os.O_RDWR)))
    assert (upper / "etc/passwd").exists()
    settled(upper, [lower])
    assert paths_of(upper, [lower]) == []
    assert (upper / "etc/passwd").stat().st_mtime_ns == (EPOCH + 50) * 10**9 + 7


def test_a_file_written_again_with_its_content_is_no_change_once_clamped(scratch: Path, lower: Path) -> None:
    os.utime(lower / "etc/passwd", (EPOCH, EPOCH))
    upper, _ = edit([lower], scratch / "s", lambda root: _one(root, "write", f"{root}/etc/passwd", b"root"))
    assert paths_of(upper, [lower]) == []


def test_directories_above_a_change_are_written_with_clamped_times(scratch: Path, lower: Path) -> None:
    upper, _ = edit([lower], scratch / "s", lambda root: os.chmod(f"{root}/usr/bin/tool", 0o755))
    assert paths_of(upper, [lower]) == [("dir", ""), ("dir", "usr"), ("dir", "usr/bin"), ("file", "usr/bin/tool")]
    with view(lower) as union:
        assert {change.mtime for change in changes(upper, union, EPOCH)} == {EPOCH}
    settled(upper, [lower])
    assert (upper / "usr").stat().st_mtime_ns == EPOCH * 10**9


def test_whiteouts_come_first_and_only_where_there_is_something_to_hide(scratch: Path, lower: Path) -> None:
    def work(root: str) -> None:
        os.unlink(f"{root}/etc/passwd")
        Path(root, "etc/apple").write_bytes(b"")
        Path(root, "etc/gone").write_bytes(b"")
        os.unlink(f"{root}/etc/gone")

    upper, _ = edit([lower], scratch / "s", work)
    os.mknod(upper / "etc/never", stat.S_IFCHR)
    assert paths_of(upper, [lower])[1:] == [("dir", "etc"), ("whiteout", "etc/passwd"), ("file", "etc/apple")]


def test_opaque_only_where_the_parents_have_the_directory(scratch: Path, lower: Path) -> None:
    def work(root: str) -> None:
        shutil.rmtree(f"{root}/etc")
        os.mkdir(f"{root}/etc")
        os.mkdir(f"{root}/new")
        os.unlink(f"{root}/bin")
        os.mkdir(f"{root}/bin")

    upper, _ = edit([lower], scratch / "s", work)
    os.setxattr(upper / "new", "trusted.overlay.opaque", b"y")
    assert paths_of(upper, [lower]) == [("dir", ""), ("dir", "bin"), ("dir", "etc"), ("opaque", "etc"), ("dir", "new")]
    settled(upper, [lower])
    assert "trusted.overlay.opaque" not in os.listxattr(upper / "new")
    assert os.getxattr(upper / "etc", "trusted.overlay.opaque") == b"y"


def test_an_opaque_root_becomes_whiteouts_by_name(scratch: Path, lower: Path) -> None:
    upper = scratch / "upper"
    (upper / "etc").mkdir(parents=True)
    os.setxattr(upper, "trusted.overlay.opaque", b"y")
    assert paths_of(upper, [lower]) == [("dir", ""), ("whiteout", "bin"), ("whiteout", "usr"), ("dir", "etc"), ("opaque", "etc")]


def test_whiteouts_said_by_an_xattr(scratch: Path, lower: Path) -> None:
    upper = scratch / "upper"
    (upper / "etc").mkdir(parents=True)
    (upper / "etc/passwd").touch()
    os.setxattr(upper / "etc/passwd", "trusted.overlay.whiteout", b"")
    assert ("file", "etc/passwd") in paths_of(upper, [lower])
    os.setxattr(upper / "etc", "trusted.overlay.opaque", b"x")
    assert ("whiteout", "etc/passwd") in paths_of(upper, [lower])


def test_rootless_uppers_are_marked_in_the_user_namespace(scratch: Path, lower: Path) -> None:
    upper = scratch / "upper"
    (upper / "etc").mkdir(parents=True)
    os.setxattr(upper / "etc", "user.overlay.opaque", b"y")
    assert ("opaque", "etc") not in paths_of(upper, [lower])
    with view(lower) as union:
        found = list(changes(upper, union, EPOCH, rootless=True))
    assert [(change.kind, change.path) for change in found] == [("dir", b""), ("dir", b"etc"), ("opaque", b"etc")]
    assert not any(change.xattrs for change in found)


def test_hard_links_name_the_first_of_the_layer(scratch: Path, lower: Path) -> None:
    upper, _ = edit([lower], scratch / "s", lambda root: os.link(f"{root}/usr/bin/tool", f"{root}/etc/also"))
    with view(lower) as union:
        found = {change.path: change for change in changes(upper, union, EPOCH)}
    assert found[b"etc/also"].kind == "file"
    assert (found[b"usr/bin/tool"].kind, found[b"usr/bin/tool"].link) == ("hardlink", b"etc/also")


def test_which_xattrs_are_kept(scratch: Path, lower: Path) -> None:
    upper = scratch / "upper"
    upper.mkdir()
    file = upper / "f"
    file.write_bytes(b"")
    version_3 = bytes.fromhex("0100000300200000000000000000000000000000") + (1000).to_bytes(4, "little")
    os.setxattr(file, "security.capability", version_3)
    for name in ("user.kept", "user.overlay.origin", "trusted.mine", "trusted.overlay.origin"):
        os.setxattr(file, name, b"v")
    with view(lower) as union:
        (found,) = [change for change in changes(upper, union, EPOCH) if change.path == b"f"]
    assert found.xattrs == (
        (b"security.capability", bytes.fromhex("0100000200200000000000000000000000000000")),
        (b"user.kept", b"v"),
    )


def test_sockets_are_left_out_and_said_so(scratch: Path, lower: Path) -> None:
    upper = scratch / "upper"
    upper.mkdir()
    os.mknod(upper / "socket", stat.S_IFSOCK | 0o600)
    left_out: list[bytes] = []
    with view(lower) as union:
        assert list(changes(upper, union, EPOCH, on_left_out=left_out.append)) == []
    assert left_out == [b"socket"]


@pytest.mark.parametrize("name", ["redirect", "metacopy"])
def test_uppers_of_other_mounts_are_refused(scratch: Path, lower: Path, name: str) -> None:
    upper = scratch / "upper"
    (upper / "d").mkdir(parents=True)
    (upper / "f").touch()
    os.setxattr(upper / ("d" if name == "redirect" else "f"), f"trusted.overlay.{name}", b"/x")
    with pytest.raises(LayerError, match=name), view(lower) as union:
        list(changes(upper, union, EPOCH))


def test_the_order_of_creation_is_not_seen(scratch: Path, lower: Path) -> None:
    names = [f"n{number:03}" for number in range(40)]

    def work(order: list[str]) -> Path:
        def create(root: str) -> None:
            for name in order:
                os.makedirs(f"{root}/etc/{name}")
                Path(root, "etc", name, "f").write_bytes(name.encode())
            os.unlink(f"{root}/etc/passwd")

        return edit([lower], scratch / order[0], create)[0]

    assert layer_of(work(names), [lower]) == layer_of(work(names[::-1]), [lower])


def test_deep_trees(scratch: Path, lower: Path) -> None:
    upper = scratch / "upper"
    upper.mkdir()
    deep = "/".join(["d"] * 700)
    os.makedirs(upper / deep)
    (upper / deep / "f").write_bytes(b"deep")
    assert len(paths_of(upper, [lower])) == 702


def test_a_file_that_shrinks_meanwhile(scratch: Path, lower: Path) -> None:
    upper = scratch / "upper"
    upper.mkdir()
    (upper / "f").write_bytes(b"12345")
    lie = Change(b"f", "file", size=10)
    with pytest.raises(LayerError, match="changed while"):
        pack([lie], upper, lambda data: None)


def test_names_that_layers_cannot_say(scratch: Path, lower: Path) -> None:
    upper = scratch / "upper"
    upper.mkdir()
    (upper / ".wh.x").touch()
    with pytest.raises(LayerError, match=r"\.wh\.x"):
        layer_of(upper, [lower])


def test_holes_are_zeros(scratch: Path, lower: Path) -> None:
    upper = scratch / "upper"
    upper.mkdir()
    with open(upper / "f", "wb") as file:
        file.seek(3 << 20)
        file.write(b"middle")
        file.truncate(7 << 20)
    tar = layer_of(upper, [lower])
    assert (upper / "f").read_bytes() in tar
