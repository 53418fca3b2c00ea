"""A container's log, written and read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgbuild.runtime.logs import MAX_LINE, LogWriter, read_log

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
