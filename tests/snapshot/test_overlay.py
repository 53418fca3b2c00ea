"""Overlays as values, and what the kernel makes of them."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from imgbuild.errors import StoreError
from imgbuild.linux import syscalls
from imgbuild.linux.features import probe
from imgbuild.linux.mounts import Bind, Filesystem
from imgbuild.snapshot import DirectoryLower, IndexedTarLower
from imgbuild.snapshot.overlay import clear_work, overlay_filesystem

from .overlay_form import in_mount_namespace, make_lower


@dataclass(frozen=True)
class Kernel:
    lowerdir_plus: bool = True
    rootless: bool = False


def mounted(filesystem: Filesystem | Bind, target: Path) -> None:
    """Mount by fsopen where the options need it, and else as an old kernel would have it: from a directory, with mount(2)."""
    assert isinstance(filesystem, Filesystem)
    target.mkdir(exist_ok=True)
    if not filesystem.directory:
        context = syscalls.fsopen(filesystem.fstype)
        for name, value in filesystem.options:
            syscalls.fsconfig_set(context, name, value)
        syscalls.fsconfig_create(context)
        mount = syscalls.fsmount(context)
        fd = os.open(target, os.O_PATH)
        syscalls.move_mount(mount, fd)
        return
    os.chdir(filesystem.directory)
    data = ",".join(name if value is None else f"{name}={value}" for name, value in filesystem.options)
    syscalls.mount(filesystem.source, target, filesystem.fstype, 0, data)


def test_the_options_in_full(tmp_path: Path) -> None:
    lowers = (DirectoryLower(Path("/s/1/fs")), DirectoryLower(Path("/s/2/fs")))
    made = overlay_filesystem(lowers, Path("/t/x/fs"), Path("/t/x/work"), features=Kernel())
    assert made == Filesystem(
        "overlay",
        (
            ("lowerdir+", "/s/2/fs"),
            ("lowerdir+", "/s/1/fs"),
            ("upperdir", "/t/x/fs"),
            ("workdir", "/t/x/work"),
            ("index", "off"),
            ("metacopy", "off"),
            ("xino", "off"),
            ("redirect_dir", "off"),
            ("volatile", None),
        ),
        source="overlay",
    )


def test_old_kernels_get_short_relative_paths() -> None:
    lowers = (DirectoryLower(Path("/store/snapshots/1/fs")), DirectoryLower(Path("/store/snapshots/a:b,c/fs")))
    kernel = Kernel(lowerdir_plus=False, rootless=True)
    made = overlay_filesystem(lowers, Path("/store/tmp/x/fs"), Path("/store/tmp/x/work"), features=kernel)
    options = dict(made.options)
    assert made.directory == "/store"
    assert options["lowerdir"] == "snapshots/a\\:b\\,c/fs:snapshots/1/fs"
    assert (options["upperdir"], options["workdir"]) == ("tmp/x/fs", "tmp/x/work")
    assert "userxattr" in options
    assert "redirect_dir" not in options


@pytest.mark.parametrize("kernel", [Kernel(), Kernel(lowerdir_plus=False)])
def test_the_kernel_takes_them(tmp_path: Path, kernel: Kernel) -> None:
    names = ("a:b", "c,d", "e f")
    lowers = tuple(DirectoryLower(make_lower(tmp_path / f"s/{name}", {f"d/{name}": name, "d/same": name})) for name in names)
    upper, work = tmp_path / "t/fs", tmp_path / "t/work"
    upper.mkdir(parents=True)
    work.mkdir()
    filesystem = overlay_filesystem(lowers, upper, work, features=kernel)

    def work_in_it() -> tuple[list[str], str]:
        mounted(filesystem, tmp_path / "merged")
        (tmp_path / "merged/d/a:b").unlink()
        (tmp_path / "merged/new").write_text("x")
        return sorted(os.listdir(tmp_path / "merged/d")), (tmp_path / "merged/d/same").read_text()

    assert in_mount_namespace(work_in_it) == (["c,d", "e f", "same"], "e f")
    assert (upper / "new").read_text() == "x"
    assert stat.S_ISCHR((upper / "d/a:b").lstat().st_mode)


def test_a_hundred_lowers_are_mounted(tmp_path: Path) -> None:
    lowers = tuple(DirectoryLower(make_lower(tmp_path / f"s/{number:064}/fs", {f"f{number}": "x"})) for number in range(100))

    def count() -> int:
        mounted(overlay_filesystem(lowers, None, None, features=Kernel()), tmp_path / "merged")
        return len(os.listdir(tmp_path / "merged"))

    assert in_mount_namespace(count) == 100


def test_tars_are_mounted_for_the_overlay(tmp_path: Path) -> None:
    tar, index = tmp_path / "layer.tar", tmp_path / "index.erofs"
    layer = Filesystem("erofs", (("device", str(tar)), ("device", "/more.tar"), ("ro", None)), source=str(index))
    lowers = (IndexedTarLower(tar, index, (Path("/more.tar"),)), DirectoryLower(tmp_path / "a"))
    made = overlay_filesystem(lowers, None, None, features=Kernel())
    assert made.options[:2] == (("lowerdir+", str(tmp_path / "a")), ("lowerdir+", layer))
    with pytest.raises(StoreError, match="not unpacked"):
        overlay_filesystem(lowers, None, None, features=Kernel(lowerdir_plus=False))


def test_what_can_not_be_is_said(tmp_path: Path) -> None:
    one = (DirectoryLower(tmp_path / "a"),)
    with pytest.raises(ValueError, match="too few"):
        overlay_filesystem(one, None, None, features=Kernel())
    with pytest.raises(ValueError, match="workdir"):
        overlay_filesystem(one, tmp_path, None, features=Kernel())
    with pytest.raises(StoreError, match="more than the kernel"):
        overlay_filesystem(one * 501, None, None, features=Kernel())
    with pytest.raises(StoreError, match="backslash"):
        overlay_filesystem(one, Path("/a\\b/fs"), Path("/a\\b/work"), features=Kernel())


def test_what_the_kernel_leaves_in_a_workdir_is_cleared(tmp_path: Path) -> None:
    lower, upper, work = (tmp_path / name for name in ("lower", "fs", "work"))
    for directory in (lower, upper, work):
        directory.mkdir()
    (lower / "gone").touch()
    filesystem = overlay_filesystem((DirectoryLower(lower),), upper, work, features=probe())

    def write() -> None:
        mounted(filesystem, tmp_path / "merged")
        (tmp_path / "merged/gone").unlink()

    in_mount_namespace(write)
    assert (work / "work").is_dir()
    clear_work(work)
    assert not work.exists()
    clear_work(work)
