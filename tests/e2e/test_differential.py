"""The same Buildfiles by imgbuild and by Debian's buildah: root file systems and configs, and in what they are known to differ."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .differential import CASES, Case, make_context
from .harness import EPOCH, Bench, base_tar, clean_environ
from .peers import Podman, podman, tree

_PROGRAMS = (
    "ash", "cat", "chmod", "chown", "dd", "echo", "false", "id", "ln", "mkdir", "mkfifo", "mv", "pwd", "rm", "seq", "sh", "touch", "true",
    "truncate",
)  # fmt: skip
_NOISE = ("Hostname", "Domainname", "Image")
"""What buildah says in a config and nobody asked for."""


@dataclass(frozen=True)
class Both:
    """Two stores that have the same base, and the context."""

    bench: Bench
    peer: Podman

    def ours(self, name: str, case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
        target = self.bench.place / "ours" / name
        output = f"type=local,dest={target}"
        self.bench.run("build", "-q", "-t", name, "--output", output, "-f", self._file(name), *case.arguments, self.bench.context)
        return _entries(target), self.bench.image(f"{name}:latest")

    def theirs(self, name: str, case: Case) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """None where buildah refuses."""
        file, target = self._file(name), self.bench.place / "theirs" / name
        ways = ("--isolation", "chroot", "--network", "host", "--format", "docker", "--pull-never", "--no-cache", "--identity-label=false")
        ignore = ("--ignorefile", f"{file}.dockerignore") if case.ignore else ()
        try:
            output = ("-t", name, "--output", f"type=local,dest={target}")
            self.peer.buildah("bud", "-q", *ways, *ignore, *case.arguments, *output, "-f", file, self.bench.context)
        except AssertionError:
            if case.refused:
                return None
            raise
        return _entries(target), json.loads(self.peer.buildah("inspect", "--type", "image", name))["Docker"]

    def _file(self, name: str) -> Path:
        return self.bench.place / "files" / name


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Once for each worker: the tests are spread over them."""
    bench = Bench(tmp_path_factory.mktemp("differential"), {})
    bench.environ.update(clean_environ(bench.place / "home"))
    bench.context.mkdir()
    (bench.place / "base.tar").write_bytes(_base())
    bench.run("import", bench.place / "base.tar", "busybox")
    make_context(bench.context)
    for place in ("files", "ours", "theirs"):
        (bench.place / place).mkdir()
    for name, case in CASES.items():
        (bench.place / "files" / name).write_text(case.text)
        if case.ignore:
            (bench.place / "files" / f"{name}.dockerignore").write_text(case.ignore)
    with podman(bench.place / "peer") as peer:
        bench.run("save", "--format", "docker", "-o", bench.place / "base.docker", "busybox")
        peer("load", "-q", "-i", bench.place / "base.docker")
        yield Both(bench, peer)


@pytest.mark.parametrize("name", CASES)
def test_as_buildah_builds_it(both: Both, name: str) -> None:
    case = CASES[name]
    with ThreadPoolExecutor(1) as beside:
        pending = beside.submit(both.theirs, name, case)
        ours, image = both.ours(name, case)
        answer = pending.result()
    if answer is None:
        return
    assert not case.refused, f"buildah builds it now: {case.refused}"
    theirs, other = answer
    found = {f"/{path}": f"{ours.get(path)} | {theirs.get(path)}" for path in {*ours, *theirs} if ours.get(path) != theirs.get(path)}
    mine, their = _config(image), _config(other)
    found |= {key: f"{mine.get(key)} | {their.get(key)}" for key in {*mine, *their} if mine.get(key) != their.get(key)}
    unlisted = [f"{key}: {found[key]}" for key in sorted(found) if key not in case.differs]
    assert not unlisted, "\n".join(unlisted)
    gone = sorted(set(case.differs) - set(found))
    assert not gone, f"listed differences that there are no more: {gone}"


def test_there_are_enough() -> None:
    assert sum(not case.refused for case in CASES.values()) >= 60
    assert all(reason for case in CASES.values() for reason in case.differs.values())


def _entries(root: Path) -> dict[str, Any]:
    """What is compared of a root file system: all but times, and but its top, which buildah's exporter makes as it likes."""
    found = {}
    for path, (mode, uid, gid, _, content, device, xattrs, links) in tree(root).items():
        if path != ".":
            found[path.removeprefix("./")] = (mode, uid, gid, content, device, xattrs, links)
    return found


def _config(image: dict[str, Any]) -> dict[str, Any]:
    """What is compared of a config: what means something, and lists that are sets in their order."""
    config = dict(image["config"])
    config["Author"] = image.get("author")
    return {key: value for key, value in config.items() if value and key not in _NOISE}


def _base() -> bytes:
    """A small root file system: busybox with the few names that the cases call, users, and what buildah makes in each image that it
    runs a step in, mount points of its own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(base_tar())) as whole, tarfile.open(fileobj=buffer, mode="w") as tar:
        for info in whole:
            if not info.issym() or info.name.removeprefix("bin/") in _PROGRAMS:
                tar.addfile(info, whole.extractfile(info) if info.isreg() else None)
        for name in ("run", "etc/hosts", "etc/hostname", "etc/resolv.conf"):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = (tarfile.DIRTYPE if name == "run" else tarfile.REGTYPE), 0o755, EPOCH
            tar.addfile(info)
    return buffer.getvalue()
