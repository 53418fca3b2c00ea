"""A second process in a running sandbox, from its own zygote and from another."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from imgbuild.errors import SandboxError
from imgbuild.linux import syscalls
from imgbuild.linux.features import Features, probe
from imgbuild.linux.mounts import Filesystem
from imgbuild.sandbox import child, wire
from imgbuild.sandbox.spec import Identity, Limits, Process
from imgbuild.sandbox.zygote import Sandbox, Zygote
from sandbox.conftest import ROOT, overlay, spawn

pytestmark = ROOT


def _enter(zygote: Zygote, sandbox: Sandbox, process: Process) -> tuple[int, str]:
    out = os.memfd_create("out")
    try:
        status = zygote.enter(sandbox.pid, process, out, out, out).wait()
        return status.code, os.pread(out, 1 << 16, 0).decode() + status.setup_error
    finally:
        os.close(out)


def _sh(script: str, **changes: object) -> Process:
    return Process(("sh", "-c", script), ("PATH=/bin",), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("other", [False, True], ids=["own", "other"])
def test_enter(features: Features, root: Filesystem, other: bool) -> None:
    with Zygote.start(features) as zygote, Zygote.start(features, enters_others=other) as second:
        sandbox = spawn(zygote, root, "sh", "-c", "echo marker > /tmp/f; sleep 1000", hostname="inside", network="none")
        assert sandbox.wait_running() is None
        enterer = second if other else zygote
        compare = "for n in mnt pid uts ipc cgroup net; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done"
        code, out = _enter(enterer, sandbox, _sh(compare))
        assert (code, out) == (0, "")
        script = "hostname; pwd; id -u; while ! test -s /tmp/f; do :; done; cat /tmp/f; grep -E 'CapEff|Seccomp:' /proc/self/status; exit 9"
        code, out = _enter(enterer, sandbox, _sh(script, cwd="/etc", identity=Identity(1000, 1000)))
        assert code == 9
        assert out.split() == ["inside", "/etc", "1000", "marker", "CapEff:", "0000000000000000", "Seccomp:", "2"]
        code, out = _enter(enterer, sandbox, Process(("nothing",), ("PATH=/bin",)))
        assert (code, out) == (127, "nothing: not found in $PATH")
        sandbox.kill()
        assert sandbox.wait().signal == 9


@pytest.mark.skipif(probe().cgroup == "none", reason="needs control groups")
def test_entered_process_is_limited_too(root: Filesystem) -> None:
    with Zygote.start(probe()) as zygote:
        sandbox = spawn(zygote, root, "sleep", "1000", limits=Limits(pids=4))
        assert sandbox.wait_running() is None
        code, out = _enter(zygote, sandbox, _sh("for i in 1 2 3 4 5 6; do sleep 1000 & done; wait"))
        assert code != 0
        assert "can't fork" in out
        sandbox.kill()
        sandbox.wait()


def test_entered_process_dies_with_the_sandbox(root: Filesystem) -> None:
    with Zygote.start(probe()) as zygote:
        sandbox = spawn(zygote, root, "sleep", "1000")
        assert sandbox.wait_running() is None
        null = os.open("/dev/null", os.O_RDWR)
        entered = zygote.enter(sandbox.pid, _sh("sleep 1000"), null, null, null)
        os.close(null)
        assert entered.wait_running() is None
        sandbox.kill()
        assert entered.wait().signal == 9


def test_no_such_sandbox(root: Filesystem) -> None:
    with Zygote.start(probe()) as zygote:
        sandbox = spawn(zygote, root, "true")
        sandbox.wait()
        with pytest.raises(SandboxError, match="there is no process"):
            zygote.enter(sandbox.pid, _sh("true"), 0, 1, 2)


NAMESPACES = ("mnt", "pid", "uts", "ipc", "cgroup", "net")


def _state() -> dict[str, Any]:
    links = {name: os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES}
    return {"links": links, "dumpable": syscalls.prctl(syscalls.PR_GET_DUMPABLE), "fds": len(os.listdir("/proc/self/fd")) - 1}


def test_who_enters_is_born_inside(features: Features, lower: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process of the sandbox could see of it, as soon as it could, and just before it is the command."""
    enter, execute = child.enter, child.command.execute

    def spied(*arguments: Any) -> None:
        os.write(arguments[-1].stdio[1], json.dumps(_state()).encode() + b"\n")
        enter(*arguments)

    def late(process: Process) -> None:
        if process.argv != ("sleep", "1000"):
            os.write(1, json.dumps(_state()).encode() + b"\n")
        execute(process)

    monkeypatch.setattr(child, "enter", spied)
    monkeypatch.setattr(child.command, "execute", late)
    with Zygote.start(features) as zygote:
        # Each with an overlay of its own: two mounts of one workdir at the same moment take it from under each other.
        others = [spawn(zygote, overlay(lower, tmp_path / str(n)), "sleep", "1000", network="none") for n in range(3)]
        for each in others:
            assert each.wait_running() is None
        expected = {name: os.readlink(f"/proc/{others[0].pid}/ns/{name}") for name in NAMESPACES}
        code, out = _enter(zygote, others[0], _sh("grep -c . /proc/self/comm"))
        assert code == 0
        born, ready, _ = out.splitlines()
        # The standard three, the report and the status; the zygote's own standard three are no one's secret.
        assert json.loads(born) == {"links": expected, "dumpable": 0, "fds": 8}
        assert json.loads(ready) == {"links": expected, "dumpable": 0, "fds": 4}


def test_the_command_is_dumpable_again(plain_zygote: Zygote, root: Filesystem) -> None:
    sandbox = spawn(plain_zygote, root, "sleep", "1000")
    assert sandbox.wait_running() is None
    assert _enter(plain_zygote, sandbox, _sh("readlink /proc/1/exe")) == (0, "/bin/busybox\n")


@pytest.mark.parametrize("data", [b"", b"\0", b"\x7f\0\0\0", b"\xff" * 9000, b"\0\0\0\0x", b"\x7e\0\0\0\xff\n"])
def test_a_report_may_be_anything(data: bytes) -> None:
    failure = wire.unpack_failure(data)
    assert failure.code in (125, 126, 127)
    assert 0 < len(failure.message) <= wire.FAILURE


def test_a_report_fits_a_pipe() -> None:
    assert wire.unpack_failure(wire.pack_failure(126, "why not")) == wire.Failure(126, "why not")
    data = wire.pack_failure(127, "\udcff\u20ac" * 5000)
    assert len(data) == wire.FAILURE
    assert wire.unpack_failure(data).message.startswith("\\udcff\u20ac")


def test_a_name_that_is_no_text_is_in_the_words(plain_zygote: Zygote, root: Filesystem) -> None:
    status = spawn(plain_zygote, root, "/bin/\udcff" * 2000).wait()
    assert status.code in (126, 127)
    assert "udcff" in status.setup_error
