"""Sandboxes that were made before they were asked for are as fresh ones, are used where they fit, and leave nothing."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgbuild.linux import syscalls
from imgbuild.linux.features import probe
from imgbuild.linux.mounts import Bind, File, Filesystem, Mount
from imgbuild.sandbox import wire
from imgbuild.sandbox.spec import Limits
from imgbuild.sandbox.zygote import Zygote
from sandbox.conftest import ROOT, USER, finish, overlay, spawn, spec_of
from sandbox.test_death import _groups_of, _in_a_build, _until_dead

pytestmark = [ROOT, pytest.mark.skipif(not probe().spare, reason="needs the new mount API")]

ATTEMPTS = 20
"""Whoever else mounts something on this machine takes a spare away."""

WAYS = ("", "clone3", "openat2", "cgroup", "clone3,openat2,cgroup")


@pytest.fixture(params=WAYS, ids=lambda way: way or "all")
def zygote(request: pytest.FixtureRequest) -> Iterator[Zygote]:
    with Zygote.start(probe(frozenset(filter(None, request.param.split(","))))) as started:
        yield started


def _children(zygote: Zygote) -> set[int]:
    return set(map(int, Path(f"/proc/{zygote._pid}/task/{zygote._pid}/children").read_text().split()))


def _expect(zygote: Zygote, count: int = 1, width: int = 1) -> set[int]:
    """The spares that are made when so many are expected."""
    others = _children(zygote)
    zygote.expect(count, width)
    again, deadline = time.monotonic() + 1, time.monotonic() + 60
    while len(made := _children(zygote) - others) != min(count, width):
        assert time.monotonic() < deadline
        if time.monotonic() > again:  # somebody has mounted something, after which none are made
            zygote.expect(0, width)
            again += 1
        os.sched_yield()
    return made


LOOK = """
cat /proc/self/mountinfo; ls -l /dev /dev/ /proc/self/fd /; grep -e Cap -e Sec -e NoNew /proc/self/status; cat /proc/self/limits
cat /proc/self/cgroup; hostname; echo $$; ps; id; cat /mnt/file; head -c 1 /proc/kcore; echo 1 > /proc/sys/vm/swappiness; umask; pwd
"""
_NUMBERS = re.compile(
    r"^\d+ \d+ \d+:\d+|imgbuild-[0-9.-]+|[A-Z][a-z]{2} .\d .\d:\d\d|,?(upper|work|lower)dir[+]?=[^, ]*|(?<=^dr-xr-xr-x) +\d+", re.M
)


def _seen(zygote: Zygote, lower: Path, directory: Path, **changes: Any) -> str:
    mounts = (Mount(File(b"generated", mode=0o644), "/mnt/file"), Mount(Filesystem("tmpfs"), "/mnt/dir", nosuid=True))
    result = finish(zygote, spec_of(overlay(lower, directory), ("sh", "-c", LOOK), mounts=mounts, hostname="here", **changes))
    assert result.status.setup_error == ""
    lines = _NUMBERS.sub("", result.out).splitlines()
    assert lines[0].startswith(" / / ")  # the oldest mount
    listed = [line for line in lines if " - " in line]
    return "\n".join(sorted(listed) + [line for line in lines if " - " not in line])


@pytest.mark.parametrize("changes", [{}, {"identity": USER}, {"read_only_root": True}], ids=["plain", "user", "read-only"])
def test_it_is_as_a_fresh_one(zygote: Zygote, lower: Path, tmp_path: Path, changes: Any) -> None:
    fresh = _seen(zygote, lower, tmp_path / "fresh", **changes)
    (spare,) = _expect(zygote)
    assert _seen(zygote, lower, tmp_path / "spare", **changes) == fresh
    assert "here" in fresh
    assert "generated" in fresh
    assert spare not in _children(zygote)


def test_it_is_used(zygote: Zygote, root: Filesystem) -> None:
    for _ in range(ATTEMPTS):
        (spare,) = _expect(zygote)
        sandbox = spawn(zygote, root, "sleep", "1000")
        used = sandbox.pid == spare
        assert sandbox.wait_running() is None
        sandbox.kill()
        assert sandbox.wait().signal == signal.SIGKILL
        if used:
            return
    pytest.fail("none was used")


def test_one_that_was_foreseen_counts_once(plain_zygote: Zygote, root: Filesystem) -> None:
    requests = list[wire.Expected]()
    plain_zygote.foresee()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "send_request", lambda control, message, fds: requests.append(message))
        plain_zygote.expect(1)
        plain_zygote.expect(1)
        plain_zygote.foresee()
        plain_zygote.expect(3, 2)
    assert [(each.count, each.width) for each in requests] == [(1, 1), (1, 1), (2, 2)]
    assert finish(plain_zygote, spec_of(root, ("true",))).status.code == 0


def test_errors_are_as_of_a_fresh_one(zygote: Zygote, root: Filesystem) -> None:
    _expect(zygote, 2, 2)
    status = finish(zygote, spec_of(root, ("nothing",))).status
    assert (status.code, status.setup_error) == (127, "nothing: not found in $PATH")
    status = finish(zygote, spec_of(Bind("/nowhere"), ("true",))).status
    assert (status.code, status.setup_error) == (125, "mounting the root: open_tree: No such file or directory (/nowhere)")


@pytest.mark.parametrize(
    "changes",
    [
        {"network": "none"},
        {"privileged": True},
        {"capabilities": frozenset({"NET_ADMIN"})},
        {"rlimits": (("NOFILE", 100, 100),)},
        {"sysctl": (("kernel.msgmax", "4096"),)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_is_prepared_otherwise_gets_a_fresh_one(plain_zygote: Zygote, root: Filesystem, changes: Any) -> None:
    (spare,) = _expect(plain_zygote, 5)
    sandbox = spawn(plain_zygote, root, "sh", "-c", "exit 3", **changes)
    assert sandbox.pid != spare
    assert sandbox.wait().code == 3


@pytest.mark.skipif(probe().cgroup == "none", reason="needs control groups")
def test_limits_are_held(plain_zygote: Zygote, root: Filesystem) -> None:
    _expect(plain_zygote)
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 100 & done; wait"
    result = finish(plain_zygote, spec_of(root, ("sh", "-c", script), limits=Limits(pids=5, memory=64 << 20)))
    assert "can't fork" in result.out
    assert result.status.usage.peak_memory is not None
    assert _groups_of_ours() == _of_devices()


def _groups_of_ours() -> list[Path]:
    from imgbuild.sandbox import cgroup

    return _groups_of(cgroup.owner_of(os.getpid()))


def _of_devices() -> list[Path]:
    return [path for path in _groups_of_ours() if path.name.endswith(".devices")]


def test_mounts_that_came_later_are_seen(plain_zygote: Zygote, root: Filesystem, tmp_path: Path) -> None:
    (spare,) = _expect(plain_zygote, 5)
    (tmp_path / "disk").mkdir()
    syscalls.mount("tmpfs", str(tmp_path / "disk"), "tmpfs", 0, "mode=755")
    try:
        (tmp_path / "disk/file").write_text("late")
        mounts = (Mount(Bind(str(tmp_path / "disk")), "/mnt/dir"),)
        assert finish(plain_zygote, spec_of(root, ("cat", "/mnt/dir/file"), mounts=mounts)).out == "late"
        assert not Path(f"/proc/{spare}").exists()
    finally:
        syscalls.umount2(str(tmp_path / "disk"), 0)


def test_what_is_unmounted_is_not_held(plain_zygote: Zygote, root: Filesystem, tmp_path: Path) -> None:
    syscalls.mount("tmpfs", str(tmp_path), "tmpfs", 0, None)
    try:
        spares = [syscalls.pidfd_open(spare) for spare in _expect(plain_zygote, 2, 2)]
    finally:
        syscalls.umount2(str(tmp_path), 0)
    for pidfd in spares:
        _until_dead(pidfd)
    deadline = time.monotonic() + 60
    while _children(plain_zygote):  # dead, and not yet known to be
        assert time.monotonic() < deadline
        os.sched_yield()
    assert finish(plain_zygote, spec_of(root, ("true",))).status.code == 0


def test_as_many_as_are_expected_and_not_more_at_once(lower: Path) -> None:
    for _ in range(ATTEMPTS):
        with Zygote.start(probe()) as zygote:
            if _used(zygote, Bind(str(lower))) == 3:
                return
    pytest.fail("some were not used")


def _used(zygote: Zygote, root: Bind) -> int:
    """How many of three sandboxes were spares, of which there were two at most."""
    assert len(_expect(zygote, 3, 2)) == 2
    used = set()
    for left in (2, 1, 0):
        ready = _children(zygote)
        sandbox = spawn(zygote, root, "true")
        used |= {sandbox.pid} & ready
        assert sandbox.wait().code == 0
        deadline = time.monotonic() + 10
        while len(_children(zygote)) != left:
            if time.monotonic() > deadline:  # somebody has mounted something
                return 0
            os.sched_yield()
    return len(used)


def test_one_that_died_is_replaced(plain_zygote: Zygote, root: Filesystem) -> None:
    (spare,) = _expect(plain_zygote)
    pidfd = syscalls.pidfd_open(spare)
    os.kill(spare, signal.SIGKILL)
    _until_dead(pidfd)
    assert finish(plain_zygote, spec_of(root, ("true",))).status.code == 0
    assert _children(plain_zygote) == set()


def test_the_switch(root: Filesystem) -> None:
    with Zygote.start(probe(frozenset({"spare"}))) as zygote:
        zygote.expect(3, 3)
        assert finish(zygote, spec_of(root, ("true",))).status.code == 0
        assert _children(zygote) == set()


def test_the_end_of_the_zygote_is_theirs() -> None:
    with Zygote.start(probe()) as zygote:
        pidfds = [syscalls.pidfd_open(spare) for spare in _expect(zygote, 2, 2)]
    for pidfd in pidfds:
        _until_dead(pidfd)
    assert _groups_of_ours() == []


@pytest.mark.parametrize("whom", ["build", "zygote"])
def test_the_death_of_the_build_is_theirs(whom: str) -> None:
    def build(tell: int) -> None:
        zygote = Zygote.start(probe())
        (spare,) = _expect(zygote)
        os.write(tell, f"{zygote._pid} {spare}".encode())
        signal.pause()

    build_pid, read = _in_a_build(build)
    zygote_pid, spare = map(int, os.read(read, 100).split())
    os.close(read)
    pidfd = syscalls.pidfd_open(spare)
    os.kill(build_pid if whom == "build" else zygote_pid, signal.SIGKILL)
    _until_dead(pidfd)
    if whom == "zygote":
        os.kill(build_pid, signal.SIGKILL)
    os.waitpid(build_pid, 0)
