"""What is filled into areas of a spool comes out of it, on a disk or in memory; and what can't be is lost, and nothing else."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.context import spool as spool_module
from imgbuild.context.held import Held, Room
from imgbuild.context.spool import Spool
from imgbuild.linux.node import Node


@contextmanager
def spooled(directory: str | None, memory: int = 1 << 20) -> Iterator[Spool]:
    spool = Spool(directory, Room(memory))
    try:
        yield spool
    finally:
        spool.close()


@pytest.mark.parametrize("disk", [True, False])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.binary(min_size=1, max_size=200_000), min_size=1, max_size=6), data=st.data())
def test_what_was_filled_is_read(tmp_path: Path, disk: bool, contents: list[bytes], data: st.DataObject) -> None:
    with spooled(str(tmp_path) if disk else None) as spool:
        make = spool.filled_by_one()
        areas = [make(len(content) + 5) for content in contents]
        for area, content in zip(areas, contents, strict=True):
            view = area.view()
            assert view is not None and bytes(view) == bytes(len(content) + 5)
            view[: len(content)] = content
            area.complete()
        seen: list[tuple[memoryview, bytes]] = []
        for _ in range(10):
            number = data.draw(st.integers(0, len(areas) - 1))
            whole = contents[number] + bytes(5)
            start = data.draw(st.integers(0, len(whole)))
            end = data.draw(st.integers(start, len(whole)))
            part = areas[number].part(start, end)
            assert part is not None
            part[:] = part.tobytes()
            seen.append((part, whole[start:end]))
            if data.draw(st.booleans()):
                seen.pop(0)
        assert all(part == wanted for part, wanted in seen)
    assert os.listdir(tmp_path) == []


def test_memory_is_used_again_once_it_is_not_seen(tmp_path: Path) -> None:
    third = 350_000  # of a piece, of which two have room
    with spooled(str(tmp_path)) as spool:
        area = spool.filled_by_one()(third)
        assert area.view() is not None
        area.complete()
        seen = [area.part(0, third) for _ in range(6)]
        assert len(spool._pieces) == 3
        first = seen[0]
        assert first is not None
        part = first[10:20]
        del first, seen[:2]
        seen.append(area.part(0, third))
        assert len(spool._pieces) == 4, "a part of the oldest piece is seen"
        del part
        for _ in range(20):
            seen.append(area.part(0, third))
            del seen[0]
        assert len(spool._pieces) <= 5
        assert all(view is not None and bytes(view) == bytes(third) for view in seen)


def test_many_small_views_share_a_piece(tmp_path: Path) -> None:
    with spooled(str(tmp_path)) as spool:
        area = spool.filled_by_one()(1000)
        assert area.view() is not None
        area.complete()
        views = [area.part(0, 1000) for _ in range(1000)]
        assert len(spool._pieces) == 1 and all(view == bytes(1000) for view in views)


@pytest.mark.parametrize("disk", [True, False])
def test_it_is_gone_when_all_is_taken(tmp_path: Path, disk: bool) -> None:
    held = Held(1 << 20, str(tmp_path) if disk else None)
    files = [(name, Node(0o100644, 0, 0, 100, 0, 0, 1, 0, 0, 0)) for name in "abc"]
    for _ in range(3):
        spool = held.spool()
        assert spool.left == (256 << 20 if disk else 1 << 20)
        assert spool.claim(3072) and not spool.claim(spool.left + 1)
        area = spool.filled_by_one()(3072)
        assert area.view() is not None
        area.complete()
        held.keep("/d", files, area, 0, 3072)
        taken = held.take("/d", files[:2])
        assert taken is not None and taken.data == bytes(2048) and held.spool() is spool
        assert held.take_one("/d", "c") == bytes(100)
        assert spool._file == -1 and held.spool() is not spool
    held.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        held.spool()


def test_one_area_at_a_time_is_read_as_a_whole(tmp_path: Path) -> None:
    with spooled(str(tmp_path)) as spool:
        make = spool.filled_by_one()
        areas = [make(300), make(300)]
        for number, area in enumerate(areas):
            view = area.view()
            assert view is not None
            view[:] = b"ab"[number : number + 1] * 300
            area.complete()
        wanted = [(0, 200, 300, True), (0, 0, 100, True), (1, 9, 10, True), (0, 100, 200, False), (1, 0, 9, True), (1, 10, 300, False)]
        for number, start, end, whole in wanted:
            part = areas[number].part(start, end)
            assert part is not None and bytes(part) == b"ab"[number : number + 1] * (end - start)
            assert (spool.open is areas[number]) == whole


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in (None, str(tmp_path / "nowhere"), "/proc"):
        with spooled(directory, 77) as spool:
            assert spool.left == 77
    monkeypatch.setattr(spool_module, "_SHARE_OF_DISK", 1 << 40)
    with spooled(str(tmp_path), 77) as spool:
        assert spool.left == 77, "there is less space than memory"


def test_after_its_end_nothing_is_written(tmp_path: Path) -> None:
    """Whoever still fills an area must not write to a file that is opened after that."""
    spool = Spool(str(tmp_path), Room(0))
    before, after = [spool.filled_by_one()(1000) for _ in range(2)]
    assert before.view() is not None and after.view() is not None
    before.complete()
    number = spool._file
    spool.close()
    spool.close()
    with (tmp_path / "precious").open("w+b") as other:
        assert other.fileno() == number
        after.complete()
        assert after.lost and before.part(0, 10) is None
        spool.release(0)
        assert os.fstat(number).st_size == 0


def test_what_there_is_no_space_for_is_lost(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with spooled(str(tmp_path)) as spool:
        make = spool.filled_by_one()
        areas = [make(1000), make(1000)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (1500, before[1]))
        try:
            for area in areas:
                assert area.view() is not None
                area.complete()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert [area.lost for area in areas] == [False, True]
        assert areas[0].part(0, 1000) == bytes(1000) and areas[1].part(0, 1000) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_did_not_get_to_the_disk_is_not_taken_for_zeros(tmp_path: Path) -> None:
    """A disk that is smaller than it says, as a thin volume is: the file system learns of it when it writes back."""
    if (mkfs := shutil.which("mkfs.ext4")) is None:
        pytest.skip("needs mkfs.ext4")
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    outer.mkdir()
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", outer], check=True)
    try:
        with (outer / "disk").open("wb") as disk:
            disk.truncate(200 << 20)
        subprocess.run([mkfs, "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1", outer / "disk"], check=True)
        subprocess.run(["mount", "-o", "loop", outer / "disk", inner], check=True)
        try:
            with spooled(str(inner), 0) as spool:
                make = spool.filled_by_one()
                areas = [make(1 << 20) for _ in range(40)]
                for area in areas:
                    view = area.view()
                    assert view is not None
                    view[:] = b"x" * (1 << 20)
                    area.complete()
                with contextlib.suppress(OSError):
                    # by a descriptor of its own, as the kernel's own writing back is
                    other = os.open(f"/proc/self/fd/{spool._file}", os.O_RDWR)
                    try:
                        os.fsync(other)
                    finally:
                        os.posix_fadvise(other, 0, 0, os.POSIX_FADV_DONTNEED)
                        os.close(other)
                found = [area.part(0, 1 << 20) for area in areas]
                assert None in found
                assert all(part is None or bytes(part) == b"x" * (1 << 20) for part in found)
        finally:
            subprocess.run(["umount", inner], check=True)
    finally:
        subprocess.run(["umount", outer], check=True)
