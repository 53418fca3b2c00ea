"""Containers of a user without rights, who has a range of ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgbuild.linux import syscalls

from .conftest import BUSYBOX, Shop, close

UID, PLACE, SYSTEM_PYTHON = 12345, "/mnt", "/usr/bin/python3"


def interpreter() -> str:
    """A Python that any user may run, of the version whose packages we have."""
    parents = Path(sys.executable).resolve().parents
    if all(parent.stat().st_mode & 0o001 for parent in parents):
        return sys.executable
    version = subprocess.run([SYSTEM_PYTHON, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False)
    if version.stdout.split() != [str(number) for number in sys.version_info[:2]]:
        pytest.skip("needs a user namespace for an unprivileged user, and a Python that one can run")
    return SYSTEM_PYTHON


@pytest.fixture
def visitor(tmp_path: Path) -> Iterator[Shop]:
    """A shop whose command line runs as a user, who exists only in the mount namespaces of its processes."""
    if not BUSYBOX or os.geteuid() != 0:
        pytest.skip("needs root and busybox")
    shop = Shop(tmp_path)
    names = {
        "passwd": f"root:x:0:0::/:/bin/sh\nvisitor:x:{UID}:{UID}::{PLACE}:/bin/sh\n",
        "group": f"root:x:0:\nvisitor:x:{UID}:\n",
        "subuid": f"visitor:{UID + 1000000}:65536\n",
        "subgid": f"visitor:{UID + 1000000}:65536\n",
    }
    for name, text in names.items():
        (tmp_path / f"etc-{name}").write_text(text)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.lchown(path, UID, UID)
    binds = [(str(tmp_path / f"etc-{name}"), f"/etc/{name}") for name in names if Path(f"/etc/{name}").exists()]
    binds.append((str(tmp_path), PLACE))

    def become() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        for source, target in binds:
            syscalls.mount(source, target, None, syscalls.MS_BIND)
        os.chdir("/")
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)

    shop.before = become
    shop.command = (interpreter(), "-m", "imgbuild")
    packages = sysconfig.get_paths()["purelib"]
    shop.environ |= {"IMGBUILD_ROOT": f"{PLACE}/store", "HOME": PLACE, "PYTHONPATH": f"{shop.environ['PYTHONPATH']}:{packages}"}
    shop.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    probe = shop("run", "--rm", "box", "true", check=False)
    if probe.returncode == 125 and "namespace" in probe.stderr:
        pytest.skip(f"needs a user namespace for an unprivileged user: {probe.stderr}")
    yield shop
    close(shop)


def test_runs(visitor: Shop) -> None:
    assert visitor.run("box", "sh", "-c", "id -u; echo x > /new; chown 1000:50 /new; stat -c '%u %g' /new /srv", check=True).stdout == (
        "0\n1000 50\n1000 50\n"
    )
    assert visitor.run("-u", "ann", "-v", "data:/srv", "box", "sh", "-c", "id -un; cat /srv/seed").stdout == "ann\nfrom the image\n"
    assert visitor.run("--network", "none", "--read-only", "box", "touch", "/x", check=False).returncode == 1
    assert visitor.run("box", "no-such", check=False).returncode == 127


def test_a_life(visitor: Shop) -> None:
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 1 & wait $!; done"
    visitor("run", "-d", "--name", "life", "-u", "ann", "box", "sh", "-c", script)
    with visitor.start("logs", "-f", "life", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    assert visitor("exec", "life", "id", "-un").stdout == "ann\n"
    assert visitor("exec", "-u", "0", "life", "sh", "-c", "id -un; echo > /root/file; cat /proc/1/comm").stdout == "root\nsh\n"
    assert visitor("exec", "life", "no-such", check=False).returncode == 127
    rows = visitor("ps", "--format", "json").stdout.splitlines()
    assert [json.loads(row)["State"] for row in rows] == ["running"]
    visitor("stop", "life")
    assert visitor("wait", "life").stdout == "9\n"
    visitor("run", "-d", "--name", "killed", "-u", "ann", "box", "sleep", "1000")
    visitor("kill", "killed")
    assert visitor("wait", "killed").stdout == "137\n"
    visitor("run", "-d", "--name", "forced", "-u", "ann", "box", "sh", "-c", "echo > /tmp/x; sleep 1000")
    visitor("rm", "-f", "forced", "killed", "life")
    assert visitor("ps", "-aq").stdout == ""
