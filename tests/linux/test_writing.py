"""Files on their way to the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from imgbuild.linux import writing
from imgbuild.linux.writing import Syncing, begin_writeback


def test_many_files_and_a_directory_are_brought_to_disk(tmp_path: Path) -> None:
    descriptors = []
    for number in range(40):
        descriptors.append(os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT))
        os.write(descriptors[-1], b"x" * number)
        begin_writeback(descriptors[-1])
    descriptors.append(os.open(tmp_path, os.O_RDONLY))
    assert Syncing(descriptors).wait() == [None] * 41
    for descriptor in descriptors:
        os.close(descriptor)


def test_what_fails_is_told_of_each_file(tmp_path: Path) -> None:
    good = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    read_end, write_end = os.pipe()
    first, second, third = Syncing([good, write_end, good]).wait()
    assert first is None and third is None
    assert isinstance(second, OSError) and second.errno in (errno.EINVAL, errno.EBADF)
    for descriptor in (good, read_end, write_end):
        os.close(descriptor)


def test_without_threads_it_is_done_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def __getattr__(self, name: str) -> object:
            return (lambda *given: -1) if name == "aio_fsync" else getattr(libc, name)

    libc = writing._libc
    monkeypatch.setattr(writing, "_libc", Refusing())
    good = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    read_end, write_end = os.pipe()
    first, second = Syncing([good, write_end]).wait()
    assert first is None
    assert isinstance(second, OSError) and second.errno == errno.EINVAL
    for descriptor in (good, read_end, write_end):
        os.close(descriptor)


def test_who_is_interrupted_leaves_what_is_under_way_its_memory_and_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting:
        def __getattr__(self, name: str) -> object:
            return interrupted if name == "aio_suspend" else under_way if name == "aio_error" else getattr(libc, name)

    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    def under_way(address: object) -> int:
        return errno.EINPROGRESS

    libc = writing._libc
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    with monkeypatch.context() as patch:
        patch.setattr(writing, "_libc", Waiting())
        with pytest.raises(KeyboardInterrupt):
            Syncing([file, file]).wait()
    os.close(file)
    kept = _opened(tmp_path / "file")
    assert len(kept) == 2
    for descriptor in kept:
        os.close(descriptor)


def test_nothing_stays_open(tmp_path: Path) -> None:
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for _ in range(50):
        assert Syncing([file] * 5).wait() == [None] * 5
    assert _opened(tmp_path / "file") == [file]
    os.close(file)


def _opened(path: Path) -> list[int]:
    """Our descriptors of a file."""
    names = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    return [int(name) for name in names if os.readlink(f"/proc/self/fd/{name}") == str(path)]
