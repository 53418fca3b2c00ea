"""The memory that is left, of the machine and within groups: the least of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgbuild.sandbox import cgroup
from imgbuild.sandbox.available import available_memory
from imgbuild.sandbox.group import Place


@pytest.fixture
def meminfo(tmp_path: Path) -> str:
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:       8000 kB\nMemAvailable:   4000 kB\n")
    return str(path)


def _group(path: Path, **files: str) -> str:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name.replace("_", ".", 1)).write_text(text)
    return str(path)


def test_of_the_machine(meminfo: str) -> None:
    assert available_memory(Place(), meminfo) == 4000 << 10
    assert available_memory(Place(), "/nonexistent") is None


def test_v1(tmp_path: Path, meminfo: str) -> None:
    stat = "total_cache 500000\ntotal_shmem 100000\nhierarchical_memory_limit {}\n"
    limited = _group(tmp_path / "a", memory_stat=stat.format(2000000), memory_usage_in_bytes="900000\n")
    assert available_memory(Place(controllers={"memory": limited}), meminfo) == 1500000
    unlimited = _group(tmp_path / "b", memory_stat=stat.format(9223372036854771712), memory_usage_in_bytes="900000\n")
    assert available_memory(Place(controllers={"memory": unlimited}), meminfo) == 4000 << 10


def test_v2_the_least_of_all_above(tmp_path: Path, meminfo: str) -> None:
    stat = "file 500000\nshmem 100000\n"
    top = _group(tmp_path / "top", memory_stat=stat, memory_current="900000", memory_max="max")
    _group(tmp_path / "top" / "a", memory_stat=stat, memory_current="900000", memory_max="1000000")
    own = _group(tmp_path / "top" / "a" / "b", memory_stat=stat, memory_current="500000", memory_max="3000000")
    assert available_memory(Place(own, top), meminfo) == 500000
    assert available_memory(Place(top, top), meminfo) == 4000 << 10


def test_here() -> None:
    found = available_memory(cgroup.here())
    assert found is not None
    assert found > 1 << 20
