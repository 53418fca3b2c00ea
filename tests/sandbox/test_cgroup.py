"""Control groups on trees of plain files: v2 can't be had on every machine that tests run on, and its files can be imitated."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgbuild.errors import SandboxError
from imgbuild.sandbox import cgroup, group_making
from imgbuild.sandbox.group import Figures, Group, Place, join
from imgbuild.sandbox.spec import Limits


def _group(path: Path, controllers: str, enabled: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text(controllers)
    (path / "cgroup.subtree_control").write_text(enabled)
    (path / "cgroup.procs").touch()
    return path


@pytest.fixture
def new_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new directory is filled with files, as the kernel would."""
    mkdir = os.mkdir

    def filled(path: str, mode: int = 0o777) -> None:
        mkdir(path, mode)
        for name in ("memory.max", "memory.swap.max", "cpu.max", "pids.max", "cgroup.procs"):
            Path(path, name).touch()

    monkeypatch.setattr(os, "mkdir", filled)


LIMITS = Limits(memory=1 << 20, memory_swap=3 << 20, cpus=0.5, pids=10)


def _content(group: Group, *names: str) -> list[str]:
    return [Path(group.directories[""], name).read_text() for name in names]


def test_v2_below_our_own_group(tmp_path: Path, new_groups: None) -> None:
    own = _group(tmp_path / "own", "cpu memory pids", "")
    group = cgroup.create(Place(str(own), str(tmp_path)), "1-2", "x", LIMITS)
    assert group is not None
    assert group.directories == {"": f"{own}/imgbuild-1-2-x"}
    assert (own / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert _content(group, "memory.max", "memory.swap.max", "cpu.max", "pids.max") == [str(1 << 20), str(2 << 20), "50000 100000", "10"]


def test_v2_beside_our_own_group(tmp_path: Path, new_groups: None) -> None:
    _group(tmp_path, "cpu memory pids", "cpu memory pids")
    own = _group(tmp_path / "own", "", "")
    group = cgroup.create(Place(str(own), str(tmp_path)), "1-2", "x", Limits(memory=1 << 20, memory_swap=-1))
    assert group is not None
    assert group.directories == {"": f"{tmp_path}/imgbuild-1-2-x"}
    assert (tmp_path / "cgroup.subtree_control").read_text() == "cpu memory pids"
    assert _content(group, "memory.max", "memory.swap.max", "cpu.max") == [str(1 << 20), "max", ""]


def test_v2_that_cannot_be_limited(tmp_path: Path, new_groups: None) -> None:
    own = _group(tmp_path / "own", "pids", "pids")
    _group(tmp_path, "cpu memory pids", "pids")
    place = Place(str(own), str(tmp_path))
    with pytest.raises(SandboxError, match=r"limits can't be set: the controller 'cpu' is not available") as caught:
        cgroup.create(place, "1-2", "x", LIMITS)
    assert "Delegate=yes" in (caught.value.hint or "")
    assert not list(tmp_path.glob("**/imgbuild-*"))
    assert cgroup.create(place, "1-2", "x", Limits()) is not None


def test_no_groups_at_all() -> None:
    assert cgroup.create(Place(), "1-2", "x", Limits()) is None
    with pytest.raises(SandboxError, match="no cgroup file system"):
        cgroup.create(Place(), "1-2", "x", LIMITS)


def test_v2_figures(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_throttled 2\nthrottled_usec 250000\n")
    (tmp_path / "memory.peak").write_text("4096\n")
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n")
    (tmp_path / "memory.stat").write_text("anon 0\nfile 2000\nshmem 500\n")
    (tmp_path / "io.stat").write_text("8:0 rbytes=100 wbytes=20 rios=3\n8:16 rbytes=1 wbytes=2 rios=3\n")
    assert Group({"": str(tmp_path)}).figures() == Figures(4096, 1.5, 1, 2596, 1.0, 0.5, 101, 22, 2, 0.25)
    assert Group({"": str(tmp_path / "missing")}).figures() == Figures()


def test_v1_figures(tmp_path: Path) -> None:
    files = {
        "memory.max_usage_in_bytes": "4096\n", "memory.stat": "cache 1\ntotal_cache 2000\ntotal_shmem 500\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "cpuacct.usage": "1500000000\n",
        "cpuacct.usage_user": "1000000000\n", "cpuacct.usage_sys": "500000000\n", "cpu.stat": "nr_throttled 2\nthrottled_time 250000000\n",
        "blkio.throttle.io_service_bytes": "8:0 Read 100\n8:0 Write 20\n8:0 Total 120\nTotal 120\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    every = dict.fromkeys(("memory", "cpuacct", "cpu", "blkio"), str(tmp_path))
    assert Group(every).figures() == Figures(4096, 1.5, 3, 2596, 1.0, 0.5, 100, 20, 2, 0.25)
    assert Group({"pids": str(tmp_path / "missing")}).figures() == Figures()


def test_v2_kill(tmp_path: Path) -> None:
    (tmp_path / "cgroup.kill").touch()
    Group({"": str(tmp_path)}).kill()
    assert (tmp_path / "cgroup.kill").read_text() == "1"


MOUNTS = """\
22 1 0:20 / /sys rw - sysfs sysfs rw
30 22 0:30 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
"""
HYBRID = """\
31 22 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_where_we_are(tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    (tmp_path / "membership").write_text("0::/user.slice/a b.scope\n")
    place = cgroup.here(str(tmp_path / "mounts"), str(tmp_path / "membership"))
    assert place == Place("/sys/fs/cgroup/user.slice/a b.scope", "/sys/fs/cgroup", {})
    (tmp_path / "mounts").write_text(HYBRID)
    (tmp_path / "membership").write_text("5:cpu,cpuacct:/x\n4:memory:/docker/abc/y\n1:name=systemd:/\n0::/\n")
    place = cgroup.here(str(tmp_path / "mounts"), str(tmp_path / "membership"))
    both = "/sys/fs/cgroup/cpu,cpuacct/x"
    assert place.controllers == {"memory": "/sys/fs/cgroup/memory/y", "cpu": both, "cpuacct": both}


def test_v1_with_one_hierarchy_for_cpu(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    both = str(tmp_path / "cpu")
    with pytest.raises(SandboxError, match="limits can't be set"):  # plain directories have no files to write to
        cgroup.create(Place(controllers={"cpu": both, "cpuacct": both}), "1-2", "x", Limits(cpus=1))
    assert os.listdir(both) == []
    group = cgroup.create(Place(controllers={"cpu": both, "cpuacct": both}), "1-2", "x", Limits())
    assert group is not None
    assert group.directories == {"cpuacct": f"{both}/imgbuild-1-2-x"}
    assert group.remove()


def test_v1_lacks_a_controller(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no pids cgroup controller"):
        cgroup.create(Place(controllers={"memory": str(tmp_path)}), "1-2", "x", Limits(pids=3))
    assert os.listdir(tmp_path) == []


def test_sweep(tmp_path: Path) -> None:
    mine = f"imgbuild-{cgroup.owner_of(os.getpid())}-1"
    reused = f"imgbuild-{os.getpid()}-1-1"
    for name in (mine, reused, "imgbuild-self", "system.slice", f"imgbuild-{2**22 - 1}-5-1"):
        (tmp_path / name).mkdir()
    assert cgroup.sweep(Place(controllers={"memory": str(tmp_path)})) == 2
    assert sorted(os.listdir(tmp_path)) == sorted([mine, "imgbuild-self", "system.slice"])


IO = Limits(io_read_bps=1 << 20, io_write_iops=7, io_device="254:0")


def test_v1_limits_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "blkio.throttle.read_bps_device").touch()
    (tmp_path / "blkio.throttle.write_iops_device").touch()
    group_making._limit_v1({"blkio": str(tmp_path)}, IO)
    assert (tmp_path / "blkio.throttle.read_bps_device").read_text() == "254:0 1048576"
    assert (tmp_path / "blkio.throttle.write_iops_device").read_text() == "254:0 7"
    with pytest.raises(SandboxError, match="io-weight can't be held"):
        group_making._limit_v1({"blkio": str(tmp_path)}, Limits(io_weight=500))
    (tmp_path / "blkio.bfq.weight").touch()
    group_making._limit_v1({"blkio": str(tmp_path)}, Limits(io_weight=500))
    assert (tmp_path / "blkio.bfq.weight").read_text() == "500"


def test_v2_limits_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "io.max").touch()
    group_making._limit_v2(str(tmp_path), IO)
    assert (tmp_path / "io.max").read_text() == "254:0 rbps=1048576 wiops=7"
    with pytest.raises(SandboxError, match="io-weight can't be held"):
        group_making._limit_v2(str(tmp_path), Limits(io_weight=10))
    for weight, written in ((10, "default 1"), (1000, "default 10000")):
        (tmp_path / "io.weight").write_text("")
        group_making._limit_v2(str(tmp_path), Limits(io_weight=weight))
        assert (tmp_path / "io.weight").read_text() == written


def test_a_parent_is_a_group_of_those_hierarchies_that_have_it(tmp_path: Path) -> None:
    top = tmp_path / "top"
    for name in ("memory/ours", "cpu"):
        (top / name).mkdir(parents=True)
    lines = [f"{number} 1 0:{number} / {top}/{name} rw - cgroup cgroup rw,{name}" for number, name in enumerate(("memory", "cpu"), 32)]
    (tmp_path / "mounts").write_text("\n".join(lines) + "\n")
    (tmp_path / "membership").write_text("4:memory:/elsewhere\n3:cpu:/\n")
    files = str(tmp_path / "mounts"), str(tmp_path / "membership")
    assert cgroup.within("/ours", *files) == Place(controllers={"memory": f"{top}/memory/ours"})
    assert cgroup.within("ours/", *files) == cgroup.within("/ours", *files)
    with pytest.raises(SandboxError, match="no control group /others"):
        cgroup.within("/others", *files)


def test_entries_are_the_cheap_ones_of_each_kind(tmp_path: Path) -> None:
    first, second = Group({"memory": "/m/x", "pids": "/p/x"}), Group({"": f"{tmp_path}"})
    assert first.entries() == ("/m/x/tasks", "/p/x/tasks")
    assert second.entries() == (f"{tmp_path}/cgroup.procs",)
    (tmp_path / "cgroup.procs").touch()
    join(second.entries()[0])
    assert (tmp_path / "cgroup.procs").read_text() == "0"
