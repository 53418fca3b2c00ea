"""Which devices a sandbox can open: those of its /dev, and no other, wherever a node for one comes from."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from imgbuild.linux.features import probe
from imgbuild.linux.mounts import Bind, Filesystem, Mount
from imgbuild.sandbox import cgroup
from imgbuild.sandbox.group import join
from imgbuild.sandbox.zygote import Zygote
from sandbox.conftest import ROOT, Run, spawn

pytestmark = ROOT

NEEDS_V1 = pytest.mark.skipif(probe().cgroup == "none" or not cgroup.here().devices, reason="needs cgroup v1")

PLACES = ("/tmp", "/dev", "/dev/shm", "/mnt", "/mnt/dir")


def _mounts(tmp_path: Path) -> tuple[Mount, ...]:
    (tmp_path / "source/dir").mkdir(parents=True)
    return (Mount(Bind(str(tmp_path / "source")), "/mnt"), Mount(Filesystem("tmpfs"), "/mnt/dir"))


def test_a_node_can_be_made_and_not_opened(run: Run, tmp_path: Path) -> None:
    for number in ("1 3", "1 11"):
        script = f"for d in {' '.join(PLACES)}; do mknod $d/node c {number} && head -c 0 $d/node; rm $d/node; done"
        (tmp_path / number).mkdir()
        result = run("sh", "-c", script, mounts=_mounts(tmp_path / number))
        assert len(result.lines) == len(PLACES)
        assert all(line.endswith(("Permission denied", "Operation not permitted")) for line in result.lines)
    assert run("mknod", "/tmp/kept", "b", "7", "200").status.code == 0
    assert os.stat(tmp_path / "upper/tmp/kept").st_rdev == os.makedev(7, 200)


def test_a_node_that_comes_with_the_root_can_not_be_opened(run: Run, tmp_path: Path) -> None:
    os.mknod(tmp_path / "upper/node", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    assert "Permission denied" in run("cat", "/node").out


def test_a_recursive_bind_has_no_devices(run: Run) -> None:
    result = run("sh", "-c", "cat /mnt/dir/null; cat /proc/self/mounts", mounts=(Mount(Bind("/dev", recursive=True), "/mnt/dir"),))
    assert "Permission denied" in result.lines[0]
    # Of mounts at one point the last is seen.
    flags = {line.split()[1]: line.split()[3].split(",") for line in result.lines[1:] if line.split()[1].startswith("/mnt/dir")}
    points = {line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines() if line.split()[1].startswith("/dev/")}
    assert {point.replace("/dev", "/mnt/dir", 1) for point in points} <= set(flags)
    assert all("nodev" in each for each in flags.values())


def test_privileged_opens_any(run: Run) -> None:
    script = "mknod /tmp/node c 1 5 && head -c 2 /tmp/node | wc -c; mknod /dev/node c 1 5 && head -c 3 /dev/node | wc -c; rm /dev/null"
    assert run("sh", "-c", script, privileged=True).lines == ["2", "3"]


def test_the_hosts_nodes_are_out_of_reach(run: Run) -> None:
    host = os.stat("/dev/null")
    result = run("stat", "-c", "%d %i", "/dev/null", "/proc/kcore", "/proc/keys")
    assert f"{host.st_dev} {host.st_ino}" not in result.lines


def test_a_file_can_be_hidden_by_dev_null(run: Run) -> None:
    mounts = (Mount(Bind("/dev/null"), "/mnt/file"),)
    result = run("sh", "-c", "cat /mnt/file && echo hidden > /mnt/file && chown 0 /mnt/file", mounts=mounts)
    assert "Read-only" in result.out
    assert len(result.lines) == 1


@NEEDS_V1
def test_the_group_of_devices(plain_zygote: Zygote, root: Filesystem) -> None:
    sandbox, free = spawn(plain_zygote, root, "sleep", "1000"), spawn(plain_zygote, root, "sleep", "1000", privileged=True)
    assert (sandbox.wait_running(), free.wait_running()) == (None, None)
    (directory,) = Path(cgroup.here().devices).glob(f"{cgroup.PREFIX}{cgroup.owner_of(os.getpid())}-{plain_zygote._pid}.devices")
    assert (directory / "cgroup.procs").read_text().split() == [str(sandbox.pid)]
    allowed = set((directory / "devices.list").read_text().splitlines())
    assert {"c *:* m", "b *:* m", "c 1:3 rwm", "c 136:* rwm"} <= allowed
    assert not allowed & {"a *:* rwm", "c *:* rwm", "b *:* rwm"}
    plain_zygote.close()
    assert not directory.exists()


@NEEDS_V1
def test_the_group_of_devices_keeps_others_closed(tmp_path: Path) -> None:
    node = tmp_path / "node"
    os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 11))
    os.close(os.open(node, os.O_RDONLY | os.O_NONBLOCK))
    group = cgroup.create_devices(cgroup.here(), cgroup.owner_of(os.getpid()), "test")
    assert group is not None
    try:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for file in group.entries():
                    join(file)
                os.close(os.open("/dev/null", os.O_RDWR))
                os.mknod(tmp_path / "another", 0o666 | stat.S_IFBLK, os.makedev(7, 0))
                os.open(node, os.O_RDONLY | os.O_NONBLOCK)
            except PermissionError as error:
                code = 0 if error.filename == str(node) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        assert group.remove()
