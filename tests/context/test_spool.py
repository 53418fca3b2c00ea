"""What is filled into areas of a spool comes out of it, on a disk or in memory; and what can't be is lost, and nothing else."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.context.held import Room
from imgbuild.context.spool import Spool


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
    with spooled(str(tmp_path)) as spool:
        area = spool.filled_by_one()(100)
        assert area.view() is not None
        area.complete()
        first = area.part(0, 100)
        second = area.part(0, 100)
        assert first is not None and second is not None and len(spool._pieces) == 2
        part = second[10:20]
        del second
        assert area.part(0, 100) is not None and len(spool._pieces) == 3
        del first, part
        for _ in range(10):
            assert area.part(0, 100) is not None
        assert len(spool._pieces) == 3


def test_room(tmp_path: Path) -> None:
    with spooled(str(tmp_path)) as spool:
        left = spool.room.left
        assert left > 1 << 20 and spool.room.claim(100)
        spool.room.release(100)
        assert spool.room.left == left - 100, "a file is not made shorter by what was taken from it"
    for directory in (None, str(tmp_path / "nowhere"), "/proc"):
        with spooled(directory, 77) as spool:
            assert spool.room.left == 77


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
