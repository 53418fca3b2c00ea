"""System calls, features and mounts, against the kernel that we have."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from imgbuild.linux import syscalls
from imgbuild.linux.features import SWITCHES, probe
from imgbuild.linux.mounts import Bind, Filesystem, Mount, attach, attach_root, open_mount, restrict
from imgbuild.linux.paths import Root

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def _in_mount_namespace(body: Callable[[], str]) -> str:
    """What `body` returns in a child with mounts of its own."""
    answer = os.memfd_create("answer")
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            text = body()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(answer, text.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    try:
        return os.pread(answer, 1 << 16, 0).decode()
    finally:
        os.close(answer)


def test_every_switch_switches_off() -> None:
    features = probe(SWITCHES)
    assert not any((
        features.new_mount_api, features.lowerdir_plus, features.mount_setattr, features.clone3, features.openat2, features.erofs,
    ))  # fmt: skip
    assert features.cgroup == "none"
    assert features.disabled == SWITCHES


def test_probe_is_repeatable() -> None:
    assert probe() == probe()
    assert probe().root == (os.geteuid() == 0)


def test_errors_name_call_and_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="umount2") as caught:
        syscalls.umount2(tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")
    with pytest.raises(OSError, match="setns"):
        syscalls.setns(-1, 0)


@ROOT
def test_the_kernels_words_are_in_the_error() -> None:
    context = syscalls.fsopen("overlay")
    try:
        with pytest.raises(OSError, match=r"nknown parameter 'nonsense'"):
            syscalls.fsconfig_set(context, "nonsense", "1")
    finally:
        os.close(context)


@pytest.mark.parametrize("name", ["clone3", "clone"])
def test_clone_gives_a_pidfd(name: str) -> None:
    pid, pidfd = getattr(syscalls, name)(0)
    if pid == 0:
        signal.pause()
        os._exit(0)
    syscalls.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        syscalls.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    with pytest.raises(OSError, match="pidfd_open"):
        syscalls.pidfd_open(pid)


def test_capabilities_can_only_be_dropped() -> None:
    effective, permitted, inheritable = syscalls.capget()
    assert effective & permitted == effective
    syscalls.capset(effective, permitted, inheritable)


@ROOT
def test_close_range() -> None:
    pid = os.fork()
    if pid == 0:
        for _ in range(20):
            os.dup(0)
        syscalls.close_range(3)
        os._exit(len(os.listdir("/proc/self/fd")))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4


@ROOT
@pytest.mark.parametrize("disabled", [frozenset(), frozenset({"newmount"})], ids=["new", "old"])
class TestMounts:
    def test_flags(self, tmp_path: Path, disabled: frozenset[str]) -> None:
        def body() -> str:
            with Root(attach_root(Filesystem("tmpfs", (("size", "1m"),), directory=str(tmp_path)), probe(disabled))) as root:
                os.mkdir("d", dir_fd=root.fd)
                attach(Mount(Bind(str(tmp_path)), "/d", read_only=True, nosuid=True, noexec=True), root, probe(disabled))
                with root.opened("d") as fd:
                    flags = os.fstatvfs(fd).f_flag
                restrict(root.fd, probe(disabled), read_only=True)
                try:
                    os.mkdir("e", dir_fd=root.fd)
                except OSError as error:
                    return f"{flags & (os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)} {error.errno} {os.getcwd()}"
            return "written"

        expected = os.ST_RDONLY | os.ST_NOSUID | os.ST_NOEXEC
        assert _in_mount_namespace(body) == f"{expected} {errno.EROFS} {os.getcwd()}"

    def test_error_names_the_target(self, tmp_path: Path, disabled: frozenset[str]) -> None:
        def body() -> str:
            with Root.open_path(tmp_path) as root:
                attach(Mount(Bind(str(tmp_path / "missing")), "/"), root, probe(disabled))
            return ""

        text = _in_mount_namespace(body)
        assert text.startswith("FileNotFoundError")
        assert "(for /)" in text


@ROOT
def test_detached_mount_vanishes(tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    fd = open_mount(Filesystem("tmpfs"), syscalls.MOUNT_ATTR_RDONLY)
    assert os.fstatvfs(fd).f_flag & os.ST_RDONLY
    os.close(fd)
    assert Path("/proc/self/mountinfo").read_text() == before
