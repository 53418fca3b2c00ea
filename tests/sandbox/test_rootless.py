"""The same, as a user without rights: with a range of ids, and with one id."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgbuild.linux import syscalls, userns
from imgbuild.linux.features import probe
from imgbuild.linux.mounts import Bind, Filesystem, Mount
from imgbuild.sandbox.spec import Identity, Limits, Process
from imgbuild.sandbox.zygote import Zygote
from sandbox.conftest import ROOT, Result, finish, spawn, spec_of

pytestmark = ROOT

UID = 12345
PLACE = "/mnt"


def _as_user(tmp_path: Path, lower: Path, ranged: bool, body: Callable[[], Any]) -> Any:
    """What `body` returns in a process of a user who exists only in its mount namespace, where tmp_path is /mnt."""
    shutil.copytree(lower, tmp_path / "lower", symlinks=True)
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.lchown(path, UID, UID)
    names = {"passwd": f"root:x:0:0::/:/bin/sh\nvisitor:x:{UID}:{UID}::/mnt:/bin/sh\n", "group": f"root:x:0:\nvisitor:x:{UID}:\n"}
    rows = f"other:1:5\nvisitor:300000:1000\n{UID}:400000:64536\n" if ranged else "other:1:5\n"
    names |= {"subuid": rows, "subgid": rows}
    for name, text in names.items():
        (tmp_path / f"etc-{name}").write_text(text)
    told = os.memfd_create("told")
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            for name in names:
                if os.path.exists(f"/etc/{name}"):
                    syscalls.mount(tmp_path / f"etc-{name}", f"/etc/{name}", None, syscalls.MS_BIND)
            syscalls.mount(tmp_path, PLACE, None, syscalls.MS_BIND)
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
            os.chdir("/")
            answer = json.dumps({"ok": body()})
        except BaseException:
            answer = json.dumps({"error": traceback.format_exc()})
        finally:
            os.write(told, answer.encode())
            os._exit(0)
    os.waitpid(pid, 0)
    result = json.loads(os.pread(told, 1 << 20, 0))
    os.close(told)
    assert "error" not in result, result["error"]
    return result["ok"]


def _root() -> Filesystem:
    options = (("lowerdir", f"{PLACE}/lower"), ("upperdir", f"{PLACE}/upper"), ("workdir", f"{PLACE}/work"), ("userxattr", None))
    return Filesystem("overlay", options, source="overlay")


def _told(result: Result) -> list[Any]:
    return [result.status.code, result.out, result.status.setup_error]


@pytest.mark.parametrize("disabled", ["", "newmount,clone3,openat2,cgroup"], ids=["all", "none"])
@pytest.mark.parametrize("network", ["host", "none"])
def test_with_one_id(tmp_path: Path, lower: Path, disabled: str, network: str) -> None:
    def body() -> Any:
        mapped = userns.enter()
        features = probe(frozenset(filter(None, disabled.split(","))))
        with Zygote.start(features) as zygote:
            script = "id -u; id -g; touch /made /dev/shm/x; head -c 2 /dev/zero | wc -c; ls /dev/pts; mount -t tmpfs n /mnt"
            first = finish(zygote, spec_of(_root(), ("sh", "-c", script), network=network))
            second = finish(zygote, spec_of(Bind(f"{PLACE}/lower"), ("true",), identity=Identity(1000, 1000)))
        return mapped.notice, features.rootless, _told(first), _told(second)

    notice, rootless, first, second = _as_user(tmp_path, lower, False, body)
    assert "no range for visitor" in notice
    assert rootless
    assert first[2] == ""
    assert first[1].splitlines()[:4] == ["0", "0", "2", "ptmx"]
    assert "denied" in first[1]
    assert (tmp_path / "upper/made").stat().st_uid == UID
    assert second[0] == 125
    assert "becoming user 1000:1000" in second[2]


@pytest.mark.skipif(shutil.which("newuidmap") is None, reason="needs newuidmap")
def test_with_ranges(tmp_path: Path, lower: Path) -> None:
    def body() -> Any:
        mapped = userns.enter()
        with Zygote.start(probe()) as zygote:
            script = "id -u; id -G; touch /tmp/mine; grep CapEff /proc/self/status"
            first = finish(zygote, spec_of(_root(), ("sh", "-c", script), identity=Identity(1000, 2000, (3000, 2000))))
            bind = Mount(Bind("/proc/sys", recursive=True), "/mnt/dir", read_only=True, nosuid=True)
            second = finish(zygote, spec_of(_root(), ("sh", "-c", "chown 65000:5 /tmp/mine; stat -c %u:%g /tmp/mine"), mounts=(bind,)))
            terminal = spawn(zygote, Bind(f"{PLACE}/lower"), "tty", terminal=True)
            assert terminal.terminal is not None
            name = os.read(terminal.terminal, 100).decode()
        return [[r.inside, r.outside, r.count] for r in mapped.uids], mapped.notice, _told(first), _told(second), name

    uids, notice, first, second, name = _as_user(tmp_path, lower, True, body)
    assert uids == [[0, UID, 1], [1, 300000, 1000], [1001, 400000, 64536]]
    assert notice == ""
    assert first == [0, "1000\n2000 3000\nCapEff:\t0000000000000000\n", ""]
    assert second == [0, "65000:5\n", ""]
    assert (tmp_path / "upper/tmp/mine").stat().st_uid == 400000 + 65000 - 1001
    assert name.startswith("/dev/pts/")


def test_limits_without_a_delegated_group(tmp_path: Path, lower: Path) -> None:
    def body() -> Any:
        userns.enter()
        with Zygote.start(probe()) as zygote:
            try:
                spawn(zygote, Bind(f"{PLACE}/lower"), "true", limits=Limits(pids=5))
            except Exception as error:
                return type(error).__name__, str(error)
        return None

    assert _as_user(tmp_path, lower, False, body)[0] == "SandboxError"


def test_entering_another_users_sandbox(tmp_path: Path, lower: Path) -> None:
    """As `imgbuild exec` does: another process of the same user joins the user namespace first."""

    def body() -> Any:
        ready, tell = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                userns.enter()
                zygote = Zygote.start(probe())
                sandbox = spawn(zygote, Bind(f"{PLACE}/lower"), "sleep", "1000", hostname="first")
                sandbox.wait_running()
                os.write(tell, str(sandbox.pid).encode())
                sandbox.wait()
            finally:
                os._exit(0)
        target = int(os.read(ready, 100))
        userns.join(target)
        with Zygote.start(probe(), enters_others=True) as zygote:
            out = os.memfd_create("out")
            status = zygote.enter(target, Process(("sh", "-c", "hostname; kill -9 -1"), ("PATH=/bin",)), out, out, out).wait()
            text = os.pread(out, 1000, 0).decode()
        os.kill(target, 9)
        os.waitpid(child, 0)
        return status.setup_error, text

    setup_error, text = _as_user(tmp_path, lower, False, body)
    assert setup_error == ""
    assert text.startswith("first\n")
