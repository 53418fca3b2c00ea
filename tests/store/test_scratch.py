"""Temporary directories, the trash, and the removal of difficult trees."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgbuild.errors import StoreError
from imgbuild.store.removal import remove_tree
from imgbuild.store.store import Store

from .made import run_child, start_child

_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10

HOLD = """
import sys
from pathlib import Path
from imgbuild.store.store import Store
with Store.open(Path(sys.argv[1])) as store, store.temporary("step") as directory, store.blobs.writer() as writer:
    (directory / "file").write_text("x")
    writer.write(b"partial")
    print(directory, writer.path, flush=True)
    sys.stdin.read()
"""


def test_a_temporary_directory_goes_with_its_context(store: Store) -> None:
    with store.temporary("step") as directory:
        assert directory.parent == store.root / "tmp"
        assert directory.name.startswith(f"step-{os.getpid()}-")
        (directory / "kept").mkdir()
        (directory / "lost").write_text("x")
        os.rename(directory / "kept", store.root / "snapshots" / "kept")
    assert not directory.exists()
    assert (store.root / "snapshots" / "kept").is_dir()
    assert len(os.listdir(store.root / "trash")) == 1
    with store.temporary("step") as directory:
        os.rename(directory, store.root / "snapshots" / "all")
    with pytest.raises(RuntimeError), store.temporary("step") as directory:
        raise RuntimeError
    assert not directory.exists()


def test_what_a_dead_process_left_is_swept_and_what_a_live_one_has_is_not(store: Store, root: Path) -> None:
    children = [start_child(HOLD, root) for _ in range(2)]
    paths = [Path(word) for child in children if child.stdout for word in child.stdout.readline().split()]
    children[0].kill()
    children[0].communicate()
    Store.open(root)
    assert [path.exists() for path in paths] == [False, False, True, True]
    children[1].send_signal(signal.SIGKILL)
    children[1].communicate()
    with Store.open(root) as opened:
        assert os.listdir(root / "tmp") == []
        opened.scratch.empty()
    assert os.listdir(root / "trash") == []


def test_sweeping_while_others_begin(store: Store) -> None:
    code = """
import sys
from pathlib import Path
from imgbuild.store.store import Store
with Store.open(Path(sys.argv[1])) as store:
    for number in range(100):
        with store.temporary("step") as directory:
            (directory / "file").touch()
        store.blobs.put(b"%d" % number)
        store.scratch.sweep()
"""
    children = [start_child(code, store.root) for _ in range(4)]
    for child in children:
        child.communicate()
        assert child.returncode == 0
    assert len(list(store.blobs)) == 100


def test_odd_things_in_tmp(store: Store) -> None:
    os.symlink("/", store.root / "tmp" / "link")
    os.mkfifo(store.root / "tmp" / "fifo")
    os.mkdir(store.root / "tmp" / "closed", 0)
    store.scratch.sweep()
    assert os.listdir(store.root / "tmp") == []
    assert os.path.isdir("/etc")


def test_discarding(store: Store) -> None:
    (store.root / "cache" / "a").mkdir()
    (store.root / "cache" / "a" / "b").write_text("x")
    (store.root / "cache" / "file").write_text("x")
    for name in ("a", "file", "absent"):
        store.discard(store.root / "cache" / name)
    assert os.listdir(store.root / "cache") == []
    assert store.scratch.empty() > 0
    assert os.listdir(store.root / "trash") == []


def test_closing_deletes_for_a_moment_only(store: Store) -> None:
    tree = store.root / "trash" / "big"
    for number in range(50):
        (tree / str(number)).mkdir(parents=True)
    store.scratch.empty(deadline=time.monotonic())
    assert tree.exists()
    store.scratch.empty()
    assert not tree.exists()


def test_a_tree_with_everything_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    tree = tmp_path / "tree"
    (tree / "dir").mkdir(parents=True)
    os.symlink(outside, tree / "dir" / "link")
    os.symlink("nowhere", tree / "dangling")
    os.link(outside / "kept", tree / "hard")
    os.mknod(tree / "whiteout", 0o600 | 0o020000, 0)
    os.mkfifo(tree / "fifo")
    (tree / "one").write_bytes(b"x" * 8192)
    os.link(tree / "one", tree / "two")
    (tree / b"\xff\n".decode("utf-8", "surrogateescape")).write_text("x")
    os.mkdir(tree / "closed", 0)
    freed, complete = remove_tree(tree)
    assert complete
    assert not tree.exists()
    assert (outside / "kept").read_text() == "x"
    assert freed >= 8192
    assert remove_tree(tree) == (0, True)
    os.symlink(outside, tree)
    remove_tree(tree)
    assert (outside / "kept").exists()


def test_a_very_deep_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tree)
        for _ in range(3000):
            os.mkdir("d" * 50)
            os.chdir("d" * 50)
    finally:
        os.fchdir(before)
        os.close(before)
    assert remove_tree(tree)[1]
    assert os.listdir(tmp_path) == []


def test_what_can_not_go_is_named_and_the_rest_goes(store: Store) -> None:
    tree = store.root / "trash" / "tree"
    for name in ("a", "m", "z"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").write_text("x")
    (store.root / "trash" / "zz").write_text("x")
    with _immutable(tree / "m" / "file"):
        with pytest.raises(StoreError, match=r"tree/m/file can't be removed") as caught:
            store.scratch.empty()
        assert "chattr -i" in (caught.value.hint or "")
        assert [path.name for path in tree.iterdir()] == ["m"]
        assert not (store.root / "trash" / "zz").exists()
    assert store.scratch.empty() > 0


def test_nothing_is_removed_through_a_mount(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("x")
    (tmp_path / "tree" / "a b").mkdir(parents=True)
    code = """
import os, sys
from pathlib import Path
from imgbuild.errors import StoreError
from imgbuild.linux.syscalls import MS_BIND, MS_PRIVATE, MS_REC, CLONE_NEWNS, mount, unshare
from imgbuild.store.removal import remove_tree
root = Path(sys.argv[1])
unshare(CLONE_NEWNS)
mount(None, "/", None, MS_REC | MS_PRIVATE)
mount(root / "outside", root / "tree" / "a b", None, MS_BIND)
try:
    remove_tree(root / "tree")
except StoreError as error:
    print(error.message)
"""
    assert f"{tmp_path}/tree/a b is a mount" in run_child(code, tmp_path)
    assert (tmp_path / "outside" / "kept").exists()
    assert remove_tree(tmp_path / "tree")[1]


def test_without_being_root() -> None:
    code = """
import os, sys
from pathlib import Path
from imgbuild.store.store import Store
import imgbuild.store.removal
root = Path(sys.argv[1])
os.chown(root, 65534, 65534)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with Store.open(root / "store") as store:
    with store.temporary("step") as directory:
        (directory / "work" / "inner").mkdir(parents=True)
        (directory / "work" / "inner" / "file").write_text("x")
        os.chmod(directory / "work" / "inner", 0o500)
        os.chmod(directory / "work", 0)
    store.scratch.empty()
    print(os.listdir(store.root / "trash"))
"""
    directory = tempfile.mkdtemp()
    try:
        assert run_child(code, directory) == "[]\n"
    finally:
        shutil.rmtree(directory)


@contextmanager
def _immutable(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flags = struct.unpack("i", fcntl.ioctl(descriptor, _GET_FLAGS, b"\0" * 4))[0]
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("i", flags | _IMMUTABLE))
        try:
            yield
        finally:
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("i", flags))
    finally:
        os.close(descriptor)
