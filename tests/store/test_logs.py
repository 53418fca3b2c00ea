"""What steps write is kept as it came, within its bound."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.store.logs import StepLog, has_log, log_name, log_path, read_log

WRITES = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(min_size=1, max_size=300)), max_size=40)


def _write(root: Path, writes: list[tuple[int, bytes]], most: int, *, settle: bool) -> str:
    name = log_name("b", len(list(root.rglob("*"))) + 1)
    path = log_path(root, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = StepLog(path, most)
    for stream, data in writes:
        log.write(stream, data)
    log.close()
    if settle:
        log.settle()
    return name


@given(writes=WRITES, settle=st.booleans())
def test_all_of_it_comes_back(tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bytes]], settle: bool) -> None:
    root = tmp_path_factory.mktemp("root")
    name = _write(root, writes, 1 << 20, settle=settle)
    assert [(stream, data) for _, stream, data in read_log(root, name)] == writes
    assert has_log(root, name) == bool(writes)


@given(writes=WRITES, most=st.integers(100, 4000), settle=st.booleans())
def test_of_too_much_the_beginning_and_the_end_are_kept(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bytes]], most: int, settle: bool
) -> None:
    root = tmp_path_factory.mktemp("root")
    name = _write(root, writes, most, settle=settle)
    whole = b"".join(data for _, data in writes)
    read = b"".join(data for _, _, data in read_log(root, name))
    before, cut, after = read.partition(b"\nimgbuild: ")
    if not cut:
        assert read == whole
        return
    words, _, after = after.partition(b" bytes of output are left out here\n")
    assert whole.startswith(before)
    assert whole.endswith(after)
    assert int(words) == len(whole) - len(before) - len(after)
    assert len(before) + len(after) <= most


def test_a_large_one_is_compressed_and_bounded(tmp_path: Path) -> None:
    name = _write(tmp_path, [(1, b"%060d\n" % number) for number in range(50_000)], 1 << 20, settle=True)
    (file,) = log_path(tmp_path, name).parent.iterdir()
    assert file.suffix == ".z"
    assert file.stat().st_size < 1 << 18
    lines = b"".join(data for _, _, data in read_log(tmp_path, name)).splitlines()
    assert (lines[0], lines[-1]) == (b"%060d" % 0, b"%060d" % 49_999)
    assert sum(b"left out here" in line for line in lines) == 1


def test_a_torn_one_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    name = _write(tmp_path, [(1, b"one\n"), (2, b"two\n")], 1 << 20, settle=False)
    path = log_path(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-2])
    assert [data for _, _, data in read_log(tmp_path, name)] == [b"one\n"]
    path.unlink()
    assert list(read_log(tmp_path, name)) == []
    assert not has_log(tmp_path, name)


def test_nothing_fails_for_a_log_that_can_not_be_written(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "nowhere" / "1.log")
    log.write(1, b"x")
    log.close()
    log.settle()
