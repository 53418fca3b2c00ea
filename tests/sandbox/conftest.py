"""Real sandboxes on a busybox root: an overlay of a lower made once, and a fresh upper for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from imgbuild.linux.features import Features, probe
from imgbuild.linux.mounts import Filesystem
from imgbuild.sandbox.spec import ExitStatus, Identity, Process, SandboxSpec
from imgbuild.sandbox.zygote import Sandbox, Zygote

APPLETS = (
    "sh", "true", "false", "cat", "echo", "id", "ls", "pwd", "env", "hostname", "kill", "sleep", "mount", "umount",
    "unshare", "touch", "mkdir", "chown", "stat", "tty", "stty", "ip", "head", "tail", "readlink", "grep", "dd", "ps",
    "find", "test", "mknod", "chroot", "date", "wc", "sort", "cut", "rm",
)  # fmt: skip

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="session")
def lower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    busybox = shutil.which("busybox") or pytest.skip("needs busybox-static")
    top = tmp_path_factory.mktemp("lower")
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp", "root", "mnt"):
        (top / name).mkdir()
    (top / "tmp").chmod(0o1777)
    shutil.copy(os.path.realpath(busybox), top / "bin/busybox")
    for name in APPLETS:
        (top / "bin" / name).symlink_to("busybox")
    (top / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (top / "bin/not-executable").write_text("#!/bin/sh\n")
    for name, text in (("no-interpreter", "#!/missing/sh\n"), ("no-format", "what is this\n"), ("empty", "")):
        (top / "bin" / name).write_text(text)
        (top / "bin" / name).chmod(0o755)
    foreign = bytearray((top / "bin/busybox").read_bytes()[:4096])
    foreign[18:20] = (22).to_bytes(2, "little")
    (top / "bin/foreign").write_bytes(foreign)
    (top / "bin/foreign").chmod(0o755)
    (top / "mnt/file").touch()
    (top / "mnt/dir").mkdir()
    return top


@pytest.fixture
def root(lower: Path, tmp_path: Path) -> Filesystem:
    return overlay(lower, tmp_path)


def overlay(lower: Path, directory: Path) -> Filesystem:
    """An overlay that is written to in a directory, which is made where it is missing."""
    for name in ("upper", "work"):
        (directory / name).mkdir(parents=True)
    options = (("lowerdir", str(lower)), ("upperdir", str(directory / "upper")), ("workdir", str(directory / "work")))
    return Filesystem("overlay", options, source="overlay")


WAYS = ("", "newmount", "clone3", "openat2", "cgroup", "newmount,clone3,openat2,cgroup")


@pytest.fixture(params=WAYS, ids=lambda way: way or "all")
def features(request: pytest.FixtureRequest) -> Features:
    return probe(frozenset(filter(None, request.param.split(","))))


@pytest.fixture
def zygote(features: Features) -> Iterator[Zygote]:
    with Zygote.start(features) as started:
        yield started


@pytest.fixture
def plain_zygote() -> Iterator[Zygote]:
    with Zygote.start(probe()) as started:
        yield started


@dataclass
class Result:
    status: ExitStatus
    out: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Result]


def spec_of(root: Any, argv: tuple[str, ...], **changes: Any) -> SandboxSpec:
    """A spec whose process has those of `changes` that are a process's."""
    process = Process(argv, ("PATH=/bin",))
    mine = {name: changes.pop(name) for name in tuple(changes) if name in Process.__slots__}
    return replace(SandboxSpec(root, replace(process, **mine)), **changes)


def finish(zygote: Zygote, spec: SandboxSpec) -> Result:
    out = os.memfd_create("out")
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        status = zygote.spawn(spec, null, out, out).wait()
        return Result(status, os.pread(out, 1 << 20, 0).decode(errors="replace"))
    finally:
        os.close(out)
        os.close(null)


@pytest.fixture
def run(zygote: Zygote, root: Filesystem) -> Run:
    def perform(*argv: str, **changes: Any) -> Result:
        return finish(zygote, spec_of(root, argv, **changes))

    return perform


@pytest.fixture
def plain(plain_zygote: Zygote, root: Filesystem) -> Run:
    def perform(*argv: str, **changes: Any) -> Result:
        return finish(plain_zygote, spec_of(root, argv, **changes))

    return perform


def spawn(zygote: Zygote, root: Any, *argv: str, **changes: Any) -> Sandbox:
    """A sandbox whose output goes nowhere."""
    null = os.open("/dev/null", os.O_RDWR)
    try:
        return zygote.spawn(spec_of(root, argv, **changes), null, null, null)
    finally:
        os.close(null)


USER = Identity(1000, 1000, (1000, 2000), "/home/user")
