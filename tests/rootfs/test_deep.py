"""Trees deeper than PATH_MAX, Python's stack and the limit of open files: captured, unpacked, exported, surveyed, removed."""

from __future__ import annotations

import io
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgbuild.errors import LayerError
from imgbuild.layer import MAX_PATH
from imgbuild.layer.compression import Compression
from imgbuild.layer.diff import changes, clamp
from imgbuild.layer.tar import TarEntry, read_tar
from imgbuild.layer.unpack import unpack
from imgbuild.linux.descent import Descent
from imgbuild.rootfs.capture import capture, settle
from imgbuild.rootfs.copy_plan import MakeDirectory, Metadata, Owner, PutData, Remove
from imgbuild.rootfs.copy_write import LayerWriter
from imgbuild.rootfs.export import export_tar, export_tree
from imgbuild.rootfs.materialize import materialize
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.union import UnionView
from imgbuild.store.fsck import check
from imgbuild.store.removal import remove_tree
from imgbuild.store.store import Store
from imgbuild.store.trees import physical, survey
from tests.layer.trees import EPOCH, in_child, seen_in
from tests.rootfs.images import file, tar_of

LEVELS, NAME = 1500, "name"
BOTTOM = f"/{NAME}" * LEVELS


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory that is emptied as pytest can't."""
    (tmp_path / "place").mkdir()
    yield tmp_path / "place"
    remove_tree(tmp_path / "place")
    assert os.listdir(tmp_path) == []


def make_deep(directory: Path, levels: int = LEVELS, content: bytes = b"bottom") -> None:
    """Directories in directories; at the bottom a file, another name of it, a symlink and a FIFO."""
    with Descent.open_path(directory) as here:
        for _ in range(levels):
            os.mkdir(NAME, dir_fd=here.fd)
            here.down(NAME)
        with open(os.open("file", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=here.fd), "wb") as stream:
            stream.write(content)
        os.link("file", "hard", src_dir_fd=here.fd, dst_dir_fd=here.fd)
        os.symlink("file", "link", dir_fd=here.fd)
        os.mkfifo("fifo", dir_fd=here.fd)


def under_limits(work: object) -> None:
    """Run in a child that may open few files only."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        work()  # type: ignore[operator]

    in_child(limited)


def test_a_deep_step_becomes_a_layer_and_comes_back(place: Path) -> None:
    def work() -> None:
        with Store.open(place / "store") as store, store.lease():
            directory = store.snapshot_path("step")
            directory.mkdir(parents=True)
            make_deep(directory)
            settle(directory, (), EPOCH)
            captured = capture(store, DirectoryLower(directory), (), EPOCH, Compression())
            assert captured.entries == LEVELS + 5
            assert captured.exact
            with UnionView((DirectoryLower(directory),)) as view:
                before = seen_in(view)
            assert stat.S_ISFIFO(before[BOTTOM + "/fifo"].mode)
            identity = survey(directory)
            assert identity.inodes == LEVELS + 4
            assert physical(directory, set()) > 0
            assert check(store) == ()
            store.index.forget(snapshots=["step"])
            store.discard(directory.parent)
            lowers = materialize(store, [captured.layer])
            with UnionView(lowers) as view:
                assert seen_in(view) == before
                export_tree(view, place / "exported")
                out = io.BytesIO()
                assert export_tar(view, out.write) == LEVELS + 5
                out.seek(0)
                assert BOTTOM[1:].encode() + b"/file" in [entry.name for entry, _ in read_tar(out)]
            with UnionView((DirectoryLower(place / "exported"),)) as view:
                assert seen_in(view) == before
            assert check(store) == ()
            store.scratch.empty()
            assert os.listdir(place / "store/trash") == []

    under_limits(work)


def test_what_changed_far_below(place: Path) -> None:
    def work() -> None:
        lower, upper = place / "lower", place / "upper"
        for directory, content in ((lower, b"old"), (upper, b"new")):
            directory.mkdir()
            make_deep(directory, content=content)
            clamp(directory, EPOCH)
        with UnionView((DirectoryLower(lower),)) as view:
            found = list(changes(upper, view, EPOCH))
            assert [change.path for change in found[-2:]] == [os.fsencode(BOTTOM[1:]) + b"/file", os.fsencode(BOTTOM[1:]) + b"/hard"]
            assert len(found) == LEVELS + 3
        with UnionView((DirectoryLower(lower), DirectoryLower(upper))) as view, os.fdopen(view.open(BOTTOM + "/file"), "rb") as stream:
            assert stream.read() == b"new"
        with UnionView((DirectoryLower(lower),)) as view:
            assert view.resolve(BOTTOM + "/link") == BOTTOM + "/file"
            assert view.read(BOTTOM + "/link") == b"old"

    under_limits(work)


def test_a_deep_directory_that_a_file_replaces(place: Path) -> None:
    deep = "d/" + f"{NAME}/" * 1000 + "file"
    under_limits(lambda: unpack(io.BytesIO(tar_of(file(deep, b"x"), file("d", b"y"))), place))
    assert (place / "d").read_bytes() == b"y"


def test_a_copy_that_is_deep_and_replaced(place: Path) -> None:
    metadata = Metadata(0o755, Owner(0, 0), EPOCH)

    def work() -> None:
        with LayerWriter(place, userxattr=False) as writer:
            paths = [f"/{NAME}" * level for level in range(1, LEVELS + 1)]
            writer.perform(MakeDirectory(path) for path in paths)
            writer.perform([PutData(BOTTOM + "/file", b"x", metadata)])
            writer.finish(dict.fromkeys(paths, metadata))
        assert os.stat(place / NAME).st_mtime == EPOCH
        with LayerWriter(place, userxattr=False) as writer:
            writer.perform([PutData(BOTTOM + "/again", b"x", metadata), Remove(f"/{NAME}"), PutData(f"/{NAME}", b"y", metadata)])

    under_limits(work)
    assert (place / NAME).read_bytes() == b"y"


def test_a_path_that_no_layer_holds(place: Path) -> None:
    levels = MAX_PATH // (len(NAME) + 1) + 1
    make_deep(place, levels)
    with pytest.raises(LayerError, match=f"more than the {MAX_PATH} bytes"):
        clamp(place, EPOCH)
    assert survey(place).inodes == levels + 4


def test_names_that_ask_for_much_memory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgbuild.layer.upper._MOST_NAMED", 1 << 20)
    members = [(TarEntry(b"%d/" % number + b"d/" * 500, "dir", 0o755), b"") for number in range(10)]
    with pytest.raises(LayerError, match="paths of more than 1 MiB in all"):
        unpack(io.BytesIO(tar_of(*members)), place)
