"""What a RUN may be given of the machine beyond a sandbox: rights, devices, hosts, limits, and the command line's defaults for all RUNs."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from .harness import NEEDS_GROUPS, Bench


def test_security_insecure_has_all_rights_and_no_filter(bench: Bench) -> None:
    bench.build(
        """
FROM busybox
RUN --security=insecure grep -E '^(CapEff|Seccomp)' /proc/self/status > /open; [ -w /proc/sys/kernel/domainname ]
RUN --security=insecure mkdir /mnt && mount -t tmpfs none /mnt && touch /mnt/gone; mknod /tmp/full c 1 7 && ! echo > /tmp/full; rm /tmp/full
RUN --security=sandbox grep -E '^(CapEff|Seccomp):' /proc/self/status > /shut; ! mount -t tmpfs none /mnt 2> /dev/null
""",
        "--allow", "security.insecure",
    )  # fmt: skip
    files = bench.files()
    granted = int(files["open"].data.split()[1], 16)
    assert granted & 1 << 21, "SYS_ADMIN"
    assert b"Seccomp:\t0" in files["open"].data
    assert b"Seccomp:\t2" in files["shut"].data
    assert not int(files["shut"].data.split()[1], 16) & 1 << 21
    assert "mnt/gone" not in files
    assert not {"dev/fuse", "dev/loop0"} & set(files)
    bench.assert_whole()


def test_what_is_insecure_is_another_step(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN --security=insecure true\n", "--allow=security.insecure")
    done = bench.build("FROM busybox\nRUN true\n")
    assert list(done.steps.values()) == ["DONE"]


def test_insecure_needs_its_allowance_at_its_line(shared: Bench) -> None:
    said = shared.refused("FROM busybox\nRUN true\nRUN --security=insecure true\n", "--allow=network.host", code=10)
    assert "Buildfile:3" in said
    assert "--allow security.insecure" in said


def a_device() -> Path:
    """A device that sandboxes do not have."""
    for name in ("fuse", "kmsg", "hwrng", "loop-control"):
        path = Path("/dev", name)
        if path.exists() and stat.S_ISCHR(path.stat().st_mode):
            return path
    pytest.skip("needs a device that sandboxes do not have")


def test_a_device_that_is_allowed_can_be_opened(bench: Bench) -> None:
    device = a_device()
    status = device.stat()
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    text = f"""
FROM busybox
RUN --device={device} stat -c '%t %T' {device} > /numbers; sh -c ': < {device}' && echo yes > /opened; ! chmod 777 {device}
RUN [ ! -e {device} ] && mknod /tmp/d c {major} {minor} && ! sh -c ': < /tmp/d'; rm -f /tmp/d
"""
    bench.build(text, "--allow", f"device={device}")
    files = bench.files()
    assert files["numbers"].data.decode() == f"{major:x} {minor:x}\n"
    assert files["opened"].data == b"yes\n"
    assert f"dev/{device.name}" not in files
    bench.assert_whole()


def test_a_device_that_is_not_there(bench: Bench) -> None:
    done = bench.build("FROM busybox\nRUN --device=vendor.example/net=card0 true\n", "--allow", "device")
    assert any("no device vendor.example/net=card0" in line for line in done.output)
    for device in ("name=/dev/nothing,required", "vendor.example/net=card0,required=true"):
        said = bench.refused(f"FROM busybox\nRUN --device={device} true\n", "--allow", "device", code=10)
        assert "Buildfile:2" in said
        assert "this machine has no device" in said


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("/dev/fuse", "--allow device"),
        ("required", "names no device"),
        ("/etc/passwd", "no path of a device"),
        ("/dev/../etc/passwd", "no path of a device"),
        ("/dev/fuse,requird", "did you mean required?"),
        ("/dev/fuse,required=maybe", "maybe"),
    ],
)
def test_devices_that_are_refused(shared: Bench, flag: str, words: str) -> None:
    allow = () if flag == "/dev/fuse" else ("--allow", "device")
    said = shared.refused(f"FROM busybox\nRUN --device={flag} true\n", *allow, code=10)
    assert words in said
    assert "Buildfile:2" in said


def test_the_default_network(bench: Bench) -> None:
    text = """
FROM busybox
RUN ls /sys/class/net > /plain
RUN --network=default ls /sys/class/net > /default
RUN --network=host ls /sys/class/net > /host
"""
    bench.build(text, "--network", "none")
    files = bench.files()
    assert files["plain"].data == files["default"].data == b"lo\n"
    assert len(files["host"].data) >= len(b"lo\n")
    assert list(bench.build(text, "--network=none").steps.values()) == ["CACHED"] * 3
    assert next(iter(bench.build(text, "--network=host", "--allow=network.host").steps.values())) == "DONE"


def test_hosts_are_seen_and_their_addresses_are_in_no_key(bench: Bench) -> None:
    text = "FROM busybox\nRUN cat /etc/hosts > /hosts\n"
    bench.build(text, "--add-host", "one:10.1.2.3", "--add-host=two=2001:db8::1", "--add-host", "me:host-gateway")
    lines = bench.files()["hosts"].data.decode().splitlines()
    assert {"10.1.2.3\tone", "2001:db8::1\ttwo", "127.0.0.1\tme"} <= set(lines)
    assert "etc/hosts" not in bench.files()
    moved = bench.build(text, "--add-host", "one:10.9.9.9", "--add-host=two=2001:db8::2", "--add-host", "me:host-gateway")
    assert list(moved.steps.values()) == ["CACHED"]
    fewer = bench.build(text, "--add-host", "one:10.1.2.3")
    assert list(fewer.steps.values()) == ["DONE"]


def test_shared_memory_and_resource_limits(bench: Bench) -> None:
    text = """
FROM busybox
RUN df -k /dev/shm | tail -1 | awk '{print $2}' > /shm; ulimit -n > /soft; ulimit -Hn > /hard; ulimit -c > /core
"""
    bench.build(text, "--shm-size", "3m", "--ulimit", "nofile=100:200", "--ulimit=core=0")
    files = bench.files()
    assert files["shm"].data == b"3072\n"
    assert (files["soft"].data, files["hard"].data, files["core"].data) == (b"100\n", b"200\n", b"0\n")
    assert not any(name.startswith("dev/") for name in files if name != "dev/")
    assert list(bench.build(text, "--shm-size", "3m", "--ulimit", "nofile=100:200", "--ulimit=core=0").steps.values()) == ["CACHED"]
    assert list(bench.build(text).steps.values()) == ["DONE"]


@NEEDS_GROUPS
def test_memory_and_processors_for_all_steps(bench: Bench) -> None:
    hog = "tail /dev/zero"
    said = bench.refused(f"FROM busybox\nRUN {hog}\n", "-m", "20m", "--memory-swap", "20m", code=1)
    assert "limit 20.0 MiB" in said
    said = bench.refused(f"FROM busybox\nRUN --memory=30m --memory-swap=30m {hog}\n", "--memory=20m", "--memory-swap=20m", code=1)
    assert "limit 30.0 MiB" in said
    bench.build("FROM busybox\nRUN true\n", "--cpu-period", "50000", "--cpu-quota", "25000")
    assert list(bench.build("FROM busybox\nRUN true\n").steps.values()) == ["CACHED"]


@NEEDS_GROUPS
def test_a_group_for_the_groups_of_steps(bench: Bench) -> None:
    tops = [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")]
    top = next((path for path in tops if (path / "cgroup.procs").exists() and os.access(path, os.W_OK)), None)
    if top is None:
        pytest.skip("needs control groups")
    group = top / f"test-{os.getpid()}"
    group.mkdir()
    try:
        text = "FROM busybox\nRUN grep -c . /proc/self/cgroup && cat /proc/1/cgroup\n"
        bench.build(text, "--cgroup-parent", f"/{group.name}")
        assert [path for path in group.iterdir() if path.is_dir()] == []
        assert list(bench.build(text).steps.values()) == ["CACHED"]
    finally:
        group.rmdir()
    said = bench.refused(f"{text}RUN false\n", "--cgroup-parent", f"/{group.name}", code=20)
    assert f"/{group.name}" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--network", "bridge"], "it is one of default, none, host"),
        (["--network", "nnoe"], "did you mean none?"),
        (["--allow", "security.insecur"], "did you mean security.insecure?"),
        (["--allow", "device="], "did you mean device?"),
        (["--add-host", "name"], "--add-host"),
        (["--add-host", "name:nowhere"], "nowhere"),
        (["--shm-size", "lots"], "--shm-size"),
        (["--ulimit", "files=3"], "--ulimit"),
        (["--ulimit", "nofile=200:100"], "soft limit"),
        (["--cgroup-parent", "../up"], "upwards"),
        (["--memory", "much"], "--memory"),
        (["--memory-swap", "1g"], "needs --memory"),
        (["--memory", "1g", "--memory-swap", "1m"], "memory and swap together"),
        (["--cpu-quota", "few"], "--cpu-quota"),
        (["--cpu-period", "100000"], "needs --cpu-quota"),
    ],
)
def test_options_that_make_no_sense(shared: Bench, arguments: list[str], words: str) -> None:
    shared.write({"Buildfile": "FROM busybox\nRUN true\n"})
    done = shared.run("build", *arguments, ".", code=2)
    assert words in done.err
    assert len(done.errors) == 1


def test_limits_of_the_disk_are_held_or_said(bench: Bench) -> None:
    text = "FROM busybox\nRUN --io-read-bps=100m --io-write-bps=100m --io-read-iops=5000 --io-write-iops=5000 echo > /f; sync /f\n"
    done = bench.build(text, code=None)
    if done.code:
        # As in a container without rights over groups, or on a tmpfs: then it must be said.
        assert done.code == 20
        assert "can't be" in done.err
        assert "Buildfile:2" in done.err
    else:
        assert list(bench.build("FROM busybox\nRUN echo > /f; sync /f\n").steps.values()) == ["CACHED"]
    bench.assert_whole()


def test_a_weight_is_held_or_said(bench: Bench) -> None:
    done = bench.build("FROM busybox\nRUN --io-weight=300 true\n", code=None)
    assert done.code in (0, 20)
    assert done.code == 0 or "can't be" in done.err


@pytest.mark.parametrize(
    ("flag", "words"),
    [("--io-weight=5", "10 to 1000"), ("--io-weight=much", "much"), ("--io-read-bps=fast", "fast"), ("--io-write-iops=1.5", "1.5")],
)
def test_limits_of_the_disk_that_make_no_sense(shared: Bench, flag: str, words: str) -> None:
    said = shared.refused(f"FROM busybox\nRUN {flag} true\n", code=10)
    assert words in said
    assert "Buildfile:2" in said


def test_a_store_in_memory_has_no_disk_to_limit(bench: Bench) -> None:
    shm = Path("/dev/shm", f"imgbuild-{os.getpid()}")
    if shm.parent.stat().st_dev >> 8:
        pytest.skip("needs control groups")
    shutil.copytree(bench.root, shm, symlinks=True)
    try:
        done = bench.run(
            "--root", shm, "build", "-q", "-f", "-", ".", code=20, stdin=b"FROM busybox\nRUN --io-read-bps=1m true\n"
        )  # the second --root counts
        assert "the use of the disk can't be limited" in done.err
    finally:
        shutil.rmtree(shm)
