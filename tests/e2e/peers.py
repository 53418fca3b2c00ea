"""Others that read and write images, each with a storage of its own: Debian's docker-registry, skopeo, podman and buildah. And a tree as
values, so that what one of them unpacked can be compared with what another did."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest

from .harness import PATIENCE

_REGISTRY = """
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: '127.0.0.1:0'}}
"""


def needs(*programs: str) -> None:
    """Skip the test if one of them is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"needs the program {program}")


def run(*command: object, code: int | None = 0) -> str:
    """The output of a program that ends well."""
    done = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False, encoding="utf-8"
    )
    assert code is None or done.returncode == code, f"{command} ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def docker_registry(place: Path) -> Iterator[str]:
    """The authority of a docker-registry, which listens on a port that was free."""
    needs("docker-registry")
    place.mkdir()
    config = place / "registry.yml"
    config.write_text(_REGISTRY.format(root=place / "registry"))
    with subprocess.Popen(["docker-registry", "serve", config], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stderr is not None
            authority = next(match[1] for line in process.stderr if (match := re.search(r"listening on (127\.0\.0\.1:\d+)", line)))
            # What it says further is read and dropped: it would wait for a pipe that is full.
            drain = Thread(target=shutil.copyfileobj, args=(process.stderr, io.StringIO()), daemon=True)
            drain.start()
            yield authority
        finally:
            process.kill()
        drain.join()


def skopeo(*arguments: object) -> str:
    """skopeo, which asks nobody whether an image may be trusted."""
    needs("skopeo")
    return run("skopeo", "--insecure-policy", *arguments)


@dataclass(frozen=True)
class Podman:
    """podman, or buildah, with a storage in `place`. Its group is removed with it; its runroot has a short name, as it must."""

    place: Path
    short: Path

    def __call__(self, *arguments: object, code: int | None = 0) -> str:
        storage = ("--root", self.place / "root", "--runroot", self.short, "--storage-driver", "vfs")
        own = ("--tmpdir", self.short / "tmp", "--cgroup-manager", "cgroupfs", "--log-level", "error")
        return run("podman", *storage, *own, *arguments, code=code)

    def buildah(self, *arguments: object) -> str:
        """buildah on the same storage."""
        return run("buildah", "--root", self.place / "root", "--runroot", self.short, "--storage-driver", "vfs", *arguments)

    def run(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Run a container to its end, by whichever runtime there is: crun refuses hybrid control groups."""
        needs("runc")
        # The hard limits that podman sets by itself are above ours, and to raise them needs a right that root may lack.
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
        place = ("--network", "host", "--cgroup-parent", self._group)
        return self("--runtime", "runc", "run", "--rm", *place, *limits, *options, image, *command)

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The root file system of an image."""
        yield Path(self("image", "mount", image).strip())
        self("image", "umount", image)

    def remove(self) -> None:
        for group in Path("/sys/fs/cgroup").glob(f"**/{self._group.lstrip('/')}"):
            for below in sorted([group, *(path for path in group.rglob("*") if path.is_dir())], reverse=True):
                with suppress(OSError):
                    below.rmdir()

    @property
    def _group(self) -> str:
        return f"/peer-{self.short.name}"


@contextmanager
def podman(place: Path) -> Iterator[Podman]:
    """podman with an empty storage."""
    needs("podman")
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as short:  # podman takes no runroot of more than 50 characters
        peer = Podman(place, Path(short))
        try:
            yield peer
        finally:
            peer.buildah("rm", "--all")
            peer("rmi", "--all", "--force", code=None)
            peer.remove()


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """All that is below `root`, by path: kind and mode, owners, mtime, size and digest, link target, device, xattrs, names of one file."""
    found: dict[str, tuple[Any, ...]] = {}
    names: dict[tuple[int, int], list[str]] = {}
    top = os.fsencode(root)
    below = [os.path.join(at, name) for at, directories, files in os.walk(top) for name in directories + files]
    paths = [b".", *(os.path.relpath(path, top) for path in below)]
    for relative in sorted(paths):
        path = os.path.join(top, relative)
        status = os.lstat(path)
        content = b""
        if stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest().encode()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        device = status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0
        xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
        name = os.fsdecode(relative)
        if not stat.S_ISDIR(status.st_mode):
            names.setdefault((status.st_dev, status.st_ino), []).append(name)
        found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, int(status.st_mtime), content, device, xattrs)
    links = {name: tuple(together) for together in names.values() for name in together}
    return {name: (*entry, links.get(name, ())) for name, entry in found.items()}


def differences(one: dict[str, tuple[Any, ...]], other: dict[str, tuple[Any, ...]], *ignored: str) -> list[str]:
    """What differs between two trees, apart from paths that are ignored."""
    paths = sorted({*one, *other} - set(ignored))
    return [f"{path}: {one.get(path)} | {other.get(path)}" for path in paths if one.get(path) != other.get(path)]
