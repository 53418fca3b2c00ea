"""A second process in a running sandbox, from its own zygote and from another."""

from __future__ import annotations

import os

import pytest

from imgbuild.errors import SandboxError
from imgbuild.linux.features import Features, probe
from imgbuild.linux.mounts import Filesystem
from imgbuild.sandbox.spec import Identity, Limits, Process
from imgbuild.sandbox.zygote import Sandbox, Zygote
from sandbox.conftest import ROOT, spawn

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
