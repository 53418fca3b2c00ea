"""What every snapshotter must do. A test class derives from `SnapshotterSuite` and provides the fixture `snapshotter`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgbuild.errors import ConflictError
from imgbuild.linux.mounts import open_mount
from imgbuild.snapshot import IndexedTarLower, Lowers
from imgbuild.snapshot.snapshotter import Snapshotter
from imgbuild.snapshot.union import UnionView
from tests.layer.indexing import indexed, needs_erofs
from tests.layer.test_unpack import member, tar_of


def committed(snapshotter: Snapshotter, lowers: Lowers, identity: str, files: dict[str, str]) -> Lowers:
    """One more lower above `lowers`, that holds these files."""
    with snapshotter.prepare(lowers, "test") as active:
        for name, text in files.items():
            (active.upper / name).write_text(text)
        return (*lowers, snapshotter.commit(active, identity))


class SnapshotterSuite:
    def test_what_is_committed_is_a_lower(self, snapshotter: Snapshotter) -> None:
        lowers = committed(snapshotter, (), "one", {"a": "1", "b": "1"})
        lowers = committed(snapshotter, lowers, "two", {"b": "2"})
        with UnionView(lowers) as view:
            assert view.listdir("/") == ("a", "b")
            assert view.read("/b") == b"2"

    def test_leaving_an_active_snapshot_discards_it(self, snapshotter: Snapshotter) -> None:
        with snapshotter.prepare((), "test") as active:
            (active.upper / "file").write_text("x")
            directory = active.directory
        assert not directory.exists()

    def test_an_exception_discards_too(self, snapshotter: Snapshotter) -> None:
        with pytest.raises(KeyError), snapshotter.prepare((), "test") as active:
            raise KeyError
        assert not active.directory.exists()

    def test_discard_ends_it_and_twice_is_fine(self, snapshotter: Snapshotter) -> None:
        active = snapshotter.prepare((), "test")
        snapshotter.discard(active)
        snapshotter.discard(active)
        assert not active.directory.exists()

    def test_an_ended_snapshot_can_not_be_committed(self, snapshotter: Snapshotter) -> None:
        active = snapshotter.prepare((), "test")
        snapshotter.discard(active)
        with pytest.raises(ValueError, match="not active"):
            snapshotter.commit(active, "late")

    def test_an_identity_is_committed_once(self, snapshotter: Snapshotter) -> None:
        first = committed(snapshotter, (), "same", {"a": "1"})
        with snapshotter.prepare((), "test") as active:
            (active.upper / "a").write_text("2")
            with pytest.raises(ConflictError):
                snapshotter.commit(active, "same")
            assert (active.upper / "a").read_text() == "2"
        with UnionView(first) as view:
            assert view.read("/a") == b"1"

    def test_after_a_commit_nothing_else_is_left(self, snapshotter: Snapshotter) -> None:
        with snapshotter.prepare((), "test") as active:
            (active.directory / "log").write_text("of the step")
            lower = snapshotter.commit(active, "one")
        assert not active.directory.exists()
        assert sorted(path.name for path in lower.path.parent.iterdir()) == ["fs"]

    def test_tars_are_lowers_like_others(self, snapshotter: Snapshotter, tmp_path: Path) -> None:
        needs_erofs()
        tar = tar_of(member(".", "dir", mode=0o1711, uid=7, mtime=5), member("a", content=b"1"), member("b", content=b"1"))
        image = indexed(tar)
        assert isinstance(image, bytes)
        base = IndexedTarLower(tmp_path / "layer.tar", tmp_path / "index.erofs")
        base.tar.write_bytes(tar)
        base.index.write_bytes(image)
        with snapshotter.prepare((base,), "test") as active:
            status = os.stat(active.upper)
            assert (status.st_mode & 0o7777, status.st_uid, status.st_mtime) == (0o1711, 7, 5)
            (active.upper / "b").write_text("2")
            lowers = (base, snapshotter.commit(active, "above"))
        with UnionView(lowers) as view:
            assert (view.read("/a"), view.read("/b")) == (b"1", b"2")
        for stack, seen in (((base,), b"1"), (lowers, b"2")):
            mount = open_mount(snapshotter.view(stack))
            try:
                with open(os.open("b", os.O_RDONLY, dir_fd=mount), "rb") as file:
                    assert file.read() == seen
            finally:
                os.close(mount)

    def test_active_snapshots_do_not_see_each_other(self, snapshotter: Snapshotter) -> None:
        with snapshotter.prepare((), "same") as first, snapshotter.prepare((), "same") as second:
            (first.upper / "a").write_text("x")
            assert os.listdir(second.upper) == []
            assert first.work != second.work

    def test_the_root_directory_keeps_its_metadata(self, snapshotter: Snapshotter, tmp_path: Path) -> None:
        with snapshotter.prepare((), "test") as active:
            os.chmod(active.upper, 0o1751)
            os.chown(active.upper, 7, 8)
            os.utime(active.upper, (5, 5))
            lower = snapshotter.commit(active, "root")
        with snapshotter.prepare((lower,), "test") as active:
            status = os.stat(active.upper)
            assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime) == (0o1751, 7, 8, 5)
