"""Limits that the kernel holds, and what is left of groups afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgbuild.errors import SandboxError
from imgbuild.linux.features import probe
from imgbuild.linux.mounts import Filesystem
from imgbuild.sandbox import cgroup
from imgbuild.sandbox.spec import Limits
from imgbuild.sandbox.zygote import Zygote
from sandbox.conftest import ROOT, Run, finish, spawn, spec_of

pytestmark = [ROOT, pytest.mark.skipif(probe().cgroup == "none", reason="needs control groups")]


def ours() -> set[str]:
    place = cgroup.here()
    owner = cgroup.owner_of(os.getpid())
    found = set()
    for directory in {*place.controllers.values(), place.unified} - {""}:
        found |= {f"{directory}/{name}" for name in os.listdir(directory) if name.startswith(f"{cgroup.PREFIX}{owner}-")}
    return found


def test_pids(plain: Run) -> None:
    result = plain("sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 100 & done; wait", limits=Limits(pids=5))
    assert result.status.code != 0
    assert "can't fork" in result.out
    assert ours() == set()


def test_memory(plain: Run) -> None:
    result = plain("sh", "-c", "head -c 200m /dev/zero | tail; true", limits=Limits(memory=32 << 20))
    assert result.status.oom
    assert result.status.usage.peak_memory is not None
    assert 16 << 20 < result.status.usage.peak_memory <= 32 << 20
    assert result.status.usage.oom_kills
    assert ours() == set()


def test_throttled(plain: Run) -> None:
    usage = plain("sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done", limits=Limits(cpus=0.2)).status.usage
    assert usage.throttled
    assert usage.throttled_seconds


def test_enough_memory(plain: Run) -> None:
    result = plain("sh", "-c", "head -c 8m /dev/zero | tail | wc -c", limits=Limits(memory=64 << 20, memory_swap=-1, cpus=0.5, pids=100))
    assert (result.status.code, result.out, result.status.oom) == (0, f"{8 << 20}\n", False)


def test_limits_are_written(plain_zygote: Zygote, root: Filesystem) -> None:
    sandbox = spawn(plain_zygote, root, "sleep", "100", limits=Limits(memory=64 << 20, cpus=1.5, pids=7), cgroup_name="mine")
    assert sandbox.wait_running() is None
    place = cgroup.here()
    name = f"{cgroup.PREFIX}{cgroup.owner_of(os.getpid())}-mine"
    if place.controllers:
        assert Path(place.controllers["pids"], name, "pids.max").read_text() == "7\n"
        assert Path(place.controllers["memory"], name, "memory.limit_in_bytes").read_text() == f"{64 << 20}\n"
        assert Path(place.controllers["cpu"], name, "cpu.cfs_quota_us").read_text() == "150000\n"
        assert Path(place.controllers["memory"], name, "cgroup.procs").read_text().split() == [str(sandbox.pid)]
    assert ours() != set()
    sandbox.kill()
    sandbox.wait()
    assert ours() == set()


def test_impossible_limit_is_an_error(plain_zygote: Zygote, root: Filesystem) -> None:
    with pytest.raises(SandboxError, match="limits can't be set"):
        spawn(plain_zygote, root, "true", limits=Limits(memory=-5))
    assert ours() == set()
    assert spawn(plain_zygote, root, "true").wait().code == 0


def test_limit_without_groups_is_an_error(root: Filesystem) -> None:
    with Zygote.start(probe(frozenset({"cgroup"}))) as zygote:
        with pytest.raises(SandboxError, match="control groups are not available"):
            spawn(zygote, root, "true", limits=Limits(pids=10))
        assert finish(zygote, spec_of(root, ("true",))).status.code == 0


def test_sweep_leaves_living_owners(plain_zygote: Zygote, root: Filesystem) -> None:
    place = cgroup.here()
    top = next(iter({**place.controllers, "": place.unified}.values()))
    dead = Path(top, f"{cgroup.PREFIX}{2**22 - 1}-1-dead")
    dead.mkdir()
    sandbox = spawn(plain_zygote, root, "sleep", "100")
    assert sandbox.wait_running() is None
    before = ours()
    cgroup.sweep(place)
    assert not dead.exists()
    assert ours() == before
    sandbox.kill()
    sandbox.wait()
