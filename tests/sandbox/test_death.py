"""Whoever dies, and in whatever way: no process, group or mount is left, and nobody waits for ever."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from imgbuild.errors import SandboxError
from imgbuild.linux import syscalls
from imgbuild.linux.features import probe
from imgbuild.linux.mounts import Bind, Filesystem
from imgbuild.sandbox import cgroup
from imgbuild.sandbox.zygote import Zygote
from sandbox.conftest import ROOT, Run, finish, spawn, spec_of

pytestmark = ROOT


def _in_a_build(body: Callable[[int], None]) -> tuple[int, int]:
    """Run `body` in a child process, with a pipe to tell us of; returns the child and the pipe's end."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            body(write)
        finally:
            os._exit(1)
    os.close(write)
    return pid, read


def _groups_of(owner: str) -> list[Path]:
    place = cgroup.here()
    tops = {*place.controllers.values(), place.devices, place.unified} - {""}
    return [path for top in tops for path in Path(top).glob(f"{cgroup.PREFIX}{owner}-*")]


@pytest.mark.parametrize("both", [False, True], ids=["build", "build and zygote"])
def test_killed_build(root: Filesystem, both: bool) -> None:
    def build(tell: int) -> None:
        zygote = Zygote.start(probe())
        sandboxes = [spawn(zygote, root, "sh", "-c", "sleep 1000 & sleep 1000")]
        assert sandboxes[0].wait_running() is None
        os.write(tell, f"{zygote._pid} {sandboxes[0].pid}".encode())
        signal.pause()

    build_pid, read = _in_a_build(build)
    owner = cgroup.owner_of(build_pid)
    zygote_pid, sandbox_pid = map(int, os.read(read, 100).split())
    os.close(read)
    watched = [syscalls.pidfd_open(zygote_pid), syscalls.pidfd_open(sandbox_pid)]
    if both:
        os.kill(zygote_pid, signal.SIGSTOP)
    os.kill(build_pid, signal.SIGKILL)
    if both:
        os.kill(zygote_pid, signal.SIGKILL)
    os.waitpid(build_pid, 0)
    for pidfd in reversed(watched):
        _until_dead(pidfd)
    assert str(root.options[1][1]) not in Path("/proc/self/mountinfo").read_text()
    if both:
        cgroup.sweep(cgroup.here())
    assert _groups_of(owner) == []


def _until_dead(pidfd: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(60_000), "still alive"
    os.close(pidfd)


def test_killed_zygote_is_an_error_for_all(root: Filesystem) -> None:
    zygote = Zygote.start(probe())
    sandboxes = [spawn(zygote, root, "sleep", "1000") for _ in range(3)]
    watched = [syscalls.pidfd_open(sandbox.pid) for sandbox in sandboxes]
    errors: list[SandboxError] = []

    def wait(index: int) -> None:
        try:
            sandboxes[index].wait()
        except SandboxError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    os.kill(zygote._pid, signal.SIGKILL)
    for thread in threads:
        thread.join(60)
    assert ["the zygote died" in error.message for error in errors] == [True] * 3
    for pidfd in watched:
        _until_dead(pidfd)
    with pytest.raises(SandboxError, match="zygote"):
        spawn(zygote, root, "true")
    zygote.close()
    _remove(lambda: _groups_of(cgroup.owner_of(os.getpid())))


def _remove(groups: Callable[[], list[Path]]) -> None:
    """Remove groups, which are busy until the last of their processes is out."""
    deadline = time.monotonic() + 60
    while left := groups():
        assert time.monotonic() < deadline, left
        for path in left:
            with suppress(OSError):
                os.rmdir(path)


def test_dropped_sandbox_is_killed(plain_zygote: Zygote, root: Filesystem) -> None:
    sandbox = spawn(plain_zygote, root, "sleep", "1000")
    pidfd = syscalls.pidfd_open(sandbox.pid)
    del sandbox
    _until_dead(pidfd)


def test_close_kills(root: Filesystem) -> None:
    with Zygote.start(probe()) as zygote:
        sandbox = spawn(zygote, root, "sh", "-c", "trap '' TERM INT HUP; sleep 1000 & wait")
        pidfd = syscalls.pidfd_open(sandbox.pid)
    _until_dead(pidfd)
    assert sandbox.wait().signal == signal.SIGKILL
    zygote.close()


def test_descendants_die_with_init(plain_zygote: Zygote, root: Filesystem) -> None:
    read, write = os.pipe()
    try:
        null = os.open("/dev/null", os.O_RDONLY)
        argv = ("sh", "-c", "(trap '' HUP TERM; sleep 1000) & exit 3")
        assert plain_zygote.spawn(spec_of(root, argv), null, write, write).wait().code == 3
        os.close(null)
        os.close(write)
        assert os.read(read, 10) == b""  # nobody holds the other end
    finally:
        os.close(read)


def test_many_at_once(plain_zygote: Zygote, lower: Path) -> None:
    results: dict[int, int] = {}
    def work(number: int) -> None:
        for _ in range(5):
            result = finish(plain_zygote, spec_of(Bind(str(lower)), ("sh", "-c", f"echo {number}; exit {number}")))
            assert result.out == f"{number}\n"
            results[number] = results.get(number, 0) + result.status.code

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: 5 * i for i in range(8)}


def test_zygote_holds_nothing_of_the_build() -> None:
    read, write = os.pipe()
    with Zygote.start(probe()) as zygote:
        os.close(write)
        assert os.read(read, 1) == b""
        kept, ours = dict(_descriptors(zygote._pid)), dict(_descriptors(os.getpid()))
        assert [kept[name] for name in "012"] == ["/dev/null"] * 3
        # It may have more open for a moment, as it looks for groups of the dead, but nothing of ours.
        assert set(kept.values()) & set(ours.values()) <= {"/dev/null"}
    os.close(read)


def _descriptors(pid: int) -> Iterator[tuple[str, str]]:
    """The open descriptors of a process and what they are, without those that it closed meanwhile."""
    directory = f"/proc/{pid}/fd"
    for name in os.listdir(directory):
        with suppress(FileNotFoundError):
            yield name, os.readlink(f"{directory}/{name}")


def test_one_failure_does_not_hurt_the_next(plain: Run) -> None:
    assert plain("nothing").status.code == 127
    assert plain("true").status.code == 0
