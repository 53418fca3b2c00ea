"""Mount points that a root lacks, proved on a real overlay: there, whatever the layers do, and nothing else changes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgbuild.errors import SandboxError
from imgbuild.linux.mounts import Filesystem, open_mount
from imgbuild.rootfs.stubs import StubShelf, StubTarget, make_stubs
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.union import UnionView

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for overlay mounts")


def layer(tmp_path: Path, name: str, *paths: str) -> Path:
    """A lower: names ending in "/" are directories, ``!x`` is a whiteout, ``x/*`` makes x opaque, ``a -> b`` a symlink."""
    top = tmp_path / name
    top.mkdir()
    for path in paths:
        word, arrow, link = path.partition(" -> ")
        entry = top / word.strip("!*/")
        entry.parent.mkdir(parents=True, exist_ok=True)
        if arrow:
            entry.symlink_to(link)
        elif word.startswith("!"):
            os.mknod(entry, stat.S_IFCHR, os.makedev(0, 0))
        elif word.endswith("/*"):
            entry.mkdir(exist_ok=True)
            os.setxattr(entry, "trusted.overlay.opaque", b"y")
        elif word.endswith("/"):
            entry.mkdir(exist_ok=True)
        else:
            entry.write_text(name)
    return top


def stack(*tops: Path) -> Lowers:
    return tuple(DirectoryLower(top) for top in tops)


@contextmanager
def mounted(lowers: Lowers, tmp_path: Path, name: str = "m") -> Iterator[Path]:
    upper, work = tmp_path / f"{name}-upper", tmp_path / f"{name}-work"
    upper.mkdir()
    work.mkdir()
    options: list[tuple[str, str | None]] = [
        ("lowerdir+", str(lower.path)) for lower in reversed(lowers) if isinstance(lower, DirectoryLower)
    ]
    options += [("upperdir", str(upper)), ("workdir", str(work)), ("index", "off"), ("redirect_dir", "off"), ("metacopy", "off")]
    fd = open_mount(Filesystem("overlay", tuple(options), source="overlay"))
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for directory, directories, files in os.walk(f"{root}/."):
        for name in [".", *directories, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            xattrs = tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in os.listxattr(path, follow_symlinks=False))
            words = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)
            found[os.path.normpath(os.path.relpath(path, root))] = words
    return found


CASES = {
    "plain": [["etc/", "bin/sh"]],
    "whiteout at the target": [["etc/resolv.conf", "data/old"], ["!etc/resolv.conf", "!data"]],
    "opaque parent": [["etc/resolv.conf", "etc/passwd", "data/"], ["etc/*", "etc/shadow"]],
    "opaque grandparent, made again": [["srv/a/b/c", "etc/"], ["srv/*"]],
    "file that became a directory": [["etc", "srv"], ["etc/x", "srv/"]],
    "symlinked file": [["etc/resolv.conf -> ../run/resolve/stub.conf", "etc/"]],
    "symlinked directory": [["etc/", "data -> /var/lib/data", "srv -> usr/srv", "var/"]],
    "link out of the root": [["etc -> /../../../../tmp/outside", "data -> ../../../../x"]],
    "whiteout and link": [["etc/resolv.conf", "var/run/x"], ["!etc/resolv.conf", "var/*", "data -> var/run"]],
}
TARGETS = (StubTarget("/proc"), StubTarget("/etc/resolv.conf", False), StubTarget("/data"), StubTarget("/srv/a/b"))


@pytest.mark.parametrize("case", CASES)
def test_targets_exist_and_nothing_else_changes(case: str, tmp_path: Path) -> None:
    tops = [layer(tmp_path, f"l{number}", *paths) for number, paths in enumerate(CASES[case])]
    for number, top in enumerate(tops):
        for directory, _, _ in os.walk(top):
            os.chmod(directory, 0o2750 + number)
            os.chown(directory, 7 + number, 8)
            os.setxattr(directory, "user.mark", b"%d" % number)
            os.utime(directory, (1, 1_000_000 + number))
    lowers = stack(*tops)
    with UnionView(lowers) as view:
        stubs = make_stubs(tmp_path / "stubs", view, TARGETS)
    with mounted(lowers, tmp_path, "plain") as plain, mounted(stubs.over(lowers), tmp_path, "stubbed") as stubbed:
        before, after = picture(plain), picture(stubbed)
        assert {path: after.get(path) for path in before if path != "."} == {path: words for path, words in before.items() if path != "."}
        for target, path in zip(TARGETS, stubs.targets, strict=True):
            status = os.lstat(f"{stubbed}{path}")
            assert stat.S_ISDIR(status.st_mode) == target.is_directory, path
        made = {path.lstrip("/") for target in stubs.targets for path in (target, *map(str, Path(target).parents))}
        assert set(after) - set(before) <= made
    assert not (tmp_path / "outside").exists()


def test_nothing_is_made_where_all_is_there(tmp_path: Path) -> None:
    lowers = stack(layer(tmp_path, "a", "proc/", "etc/hosts"))
    with UnionView(lowers) as view:
        stubs = make_stubs(tmp_path / "stubs", view, [StubTarget("/proc"), StubTarget("/etc/hosts", False)])
    assert stubs.targets == ("/proc", "/etc/hosts")
    assert stubs.over(lowers) == lowers
    assert not (tmp_path / "stubs").exists()


def test_writing_beside_a_stub_copies_the_real_directory_up(tmp_path: Path) -> None:
    top = layer(tmp_path, "a", "etc/passwd")
    os.chmod(top / "etc", 0o711)
    os.chown(top / "etc", 3, 4)
    os.setxattr(top / "etc", "user.mark", b"etc")
    lowers = stack(top)
    with UnionView(lowers) as view:
        stubs = make_stubs(tmp_path / "stubs", view, [StubTarget("/etc/hosts", False)])
    with mounted(stubs.over(lowers), tmp_path) as root:
        (root / "etc/new").write_text("x")
    upper = tmp_path / "m-upper/etc"
    assert sorted(os.listdir(upper)) == ["new"]
    status = os.stat(upper)
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o711, 3, 4)
    assert os.getxattr(upper, "user.mark") == b"etc"


def test_root_directory_keeps_its_metadata_without_an_upper(tmp_path: Path) -> None:
    top = layer(tmp_path, "a", "etc/")
    os.chmod(top, 0o750)
    with UnionView(stack(top)) as view:
        stubs = make_stubs(tmp_path / "stubs", view, [StubTarget("/data")])
    with UnionView(stubs.over(stack(top))) as view:
        status = view.lstat("/")
        assert status is not None
        assert stat.S_IMODE(status.mode) == 0o750


def test_umask_does_not_matter(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with UnionView(stack(layer(tmp_path, "a", "etc/"))) as view:
            make_stubs(tmp_path / "stubs", view, [StubTarget("/data/x")])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "stubs/data/x").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("paths", "target", "words"),
    [
        (["etc/passwd"], StubTarget("/etc/passwd/x"), "not a directory"),
        (["etc/passwd"], StubTarget("/etc/passwd"), "not a directory"),
        (["etc/hosts/"], StubTarget("/etc/hosts", False), "is a directory"),
        (["a -> b", "b -> a"], StubTarget("/a/x"), "can't mount at /a/x"),
        (["link -> etc/passwd", "etc/passwd"], StubTarget("/link/y", False), "not a directory"),
        (["etc/"], StubTarget("/", False), "is a directory"),
    ],
)
def test_what_can_not_be_a_mount_point(paths: list[str], target: StubTarget, words: str, tmp_path: Path) -> None:
    with UnionView(stack(layer(tmp_path, "a", *paths))) as view, pytest.raises(SandboxError, match=words):
        make_stubs(tmp_path / "stubs", view, [target])
    assert not (tmp_path / "stubs").exists()


def test_targets_that_contradict_each_other(tmp_path: Path) -> None:
    with UnionView(stack(layer(tmp_path, "a", "etc/"))) as view:
        with pytest.raises(SandboxError, match="both a file and a directory"):
            make_stubs(tmp_path / "stubs", view, [StubTarget("/x"), StubTarget("/x", False)])
        with pytest.raises(SandboxError, match="below /x"):
            make_stubs(tmp_path / "stubs", view, [StubTarget("/x", False), StubTarget("/x/y")])
        same = make_stubs(tmp_path / "stubs", view, [StubTarget("/x"), StubTarget("/x/"), StubTarget("/x/y")])
        assert same.targets == ("/x", "/x", "/x/y")


def test_alike_stubs_are_made_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for lower in (first, second):
        (lower / "etc").mkdir(parents=True)
        os.utime(lower / "etc", ns=(5, 5))
        os.utime(lower, ns=(7, 7))
    made = []

    def place() -> Path:
        made.append(tmp_path / "shelf")
        return made[-1]

    shelf = StubShelf(place)
    targets = [StubTarget("/proc"), StubTarget("/etc/hosts", False)]
    with UnionView((DirectoryLower(first),)) as view:
        one = shelf.stubs(view, targets)
        assert shelf.stubs(view, [StubTarget("/etc")]).lower is None
    with UnionView((DirectoryLower(second),)) as view:
        assert shelf.stubs(view, targets) == one
        more = shelf.stubs(view, [*targets, StubTarget("/sys")])
    os.chmod(second / "etc", 0o700)
    with UnionView((DirectoryLower(second),)) as view:
        other = shelf.stubs(view, targets)
    assert one.lower is not None
    assert other.lower is not None
    assert more.lower is not None
    assert len({one.lower, other.lower, more.lower}) == 3
    assert (one.lower.path / "etc" / "hosts").is_file()
    assert stat.S_IMODE((one.lower.path / "etc").stat().st_mode) == 0o755
    assert stat.S_IMODE((other.lower.path / "etc").stat().st_mode) == 0o700
    assert (one.lower.path / "etc").stat().st_mtime_ns == 5


def test_what_was_left_half_done_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk in the middle; then the step is tried again."""
    shelf = StubShelf(lambda: tmp_path / "shelf")
    targets = [StubTarget("/proc"), StubTarget("/etc/hosts", False)]
    lower = DirectoryLower(layer(tmp_path, "base", "etc/"))
    utime = os.utime

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "utime", full)
    with UnionView((lower,)) as view, pytest.raises(OSError, match="No space"):
        shelf.stubs(view, targets)
    monkeypatch.setattr(os, "utime", utime)
    with UnionView((lower,)) as view:
        made = shelf.stubs(view, targets).lower
    assert made is not None
    assert (made.path / "etc/hosts").is_file()
