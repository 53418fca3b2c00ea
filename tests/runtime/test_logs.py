"""A container's log, written and read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgbuild.runtime.logs import MAX_LINE, LogWriter, read_log

from .conftest import SOURCE

NOW = 1_700_000_000_123_456_789


def texts(path: Path, tail: int | None = None) -> list[tuple[str, bytes]]:
    return [(entry.stream, entry.data) for entry in read_log(path, tail=tail)]


def test_lines_of_two_streams(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with LogWriter(path, lambda: NOW) as log:
        log.write("stdout", b"one\ntw")
        log.write("stderr", b"oops\n")
        log.write("stdout", b"o\n\nrest \xff\xc3")
        assert texts(path) == [("stdout", b"one\n"), ("stderr", b"oops\n"), ("stdout", b"two\n"), ("stdout", b"\n")]
    assert texts(path)[-1] == ("stdout", b"rest \xff\xc3")
    assert texts(path, 2) == [("stdout", b"\n"), ("stdout", b"rest \xff\xc3")]
    assert texts(path, 0) == []
    assert next(read_log(path)).time == "2023-11-14T22:13:20.123456789Z"


def test_long_lines_are_parted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with LogWriter(path, lambda: NOW) as log:
        log.write("stdout", b"x" * (2 * MAX_LINE) + b"y\n")
    assert [len(data) for _, data in texts(path)] == [MAX_LINE, MAX_LINE, 2]
    assert b"".join(data for _, data in texts(path)) == b"x" * (2 * MAX_LINE) + b"y\n"


def test_a_torn_or_foreign_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with LogWriter(path, lambda: NOW) as log:
        log.write("stdout", b"good\n")
    with path.open("ab") as file:
        file.write(b'nonsense\n{"data": 1}\n{"data": "torn", "str')
    assert texts(path) == [("stdout", b"good\n")]
    assert list(read_log(tmp_path / "missing")) == []


@pytest.mark.parametrize("tail", [None, 1])
def test_following_ends_with_what_was_written_before_the_end(tmp_path: Path, tail: int | None) -> None:
    path = tmp_path / "log"
    read_end, write_end = os.pipe()
    with LogWriter(path, lambda: NOW) as log:
        log.write("stdout", b"zero\none\n")
        entries = read_log(path, tail=tail, follow=lambda: read_end)
        found = [next(entries).data] if tail else [next(entries).data, next(entries).data]
        assert found[-1] == b"one\n"
        log.write("stdout", b"two\n")
        assert next(entries).data == b"two\n"
        log.write("stdout", b"three\n")
        os.close(write_end)
        assert [entry.data for entry in entries] == [b"three\n"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(read_end)


def test_a_full_file_makes_room_for_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with LogWriter(path, lambda: NOW, limit=2000) as log:
        for number in range(100):
            log.write("stdout", b"%d\n" % number)
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    assert all((tmp_path / name).stat().st_size <= 2000 for name in os.listdir(tmp_path))
    kept = [int(data) for _, data in texts(path)]
    assert 20 < len(kept) < 60
    assert kept == list(range(100))[-len(kept) :]
    assert texts(path, 30) == texts(path)[-30:]
    with LogWriter(path, lambda: NOW, limit=2000) as log:
        log.write("stdout", b"again\n")
    assert texts(path)[-2:] == [("stdout", b"99\n"), ("stdout", b"again\n")]


def test_following_over_full_files(tmp_path: Path) -> None:
    path = tmp_path / "log"
    read_end, write_end = os.pipe()
    with LogWriter(path, lambda: NOW, limit=500) as log:
        log.write("stdout", b"0\n")
        entries = read_log(path, follow=lambda: read_end)
        found = [next(entries).data]
        written = 1
        while len(found) < 40:
            for _ in range(5):  # less than a file
                log.write("stdout", b"%d\n" % written)
                written += 1
            while len(found) < written:
                found.append(next(entries).data)
        log.write("stdout", b"%d\n" % written)
        os.close(write_end)
        found += [entry.data for entry in entries]
    assert found == [b"%d\n" % number for number in range(written + 1)]


@pytest.mark.parametrize("limit", [1 << 20, 300])
def test_a_log_that_can_not_be_written(tmp_path: Path, limit: int) -> None:
    """Beyond its limit of size (RLIMIT_FSIZE) a file takes a part of a line, and then nothing."""
    script = f"""
import resource, signal, sys
from pathlib import Path
from imgbuild.runtime.logs import LogWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with LogWriter(Path(sys.argv[1]), lambda: {NOW}, lambda error: print(error.strerror), limit={limit}) as log:
    log.write("stdout", b"before\\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 10000))
    for _ in range(9):
        log.write("stdout", b"lost" * 50 + b"\\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))
    log.write("stdout", b"after\\n")
    log.write("stdout", b"half")
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 10000))
"""
    path = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=60, env={"PYTHONPATH": str(SOURCE)}
    )
    assert done.stdout == "File too large\n"
    assert texts(path) == [("stdout", b"before\n"), ("stdout", b"after\n")]
