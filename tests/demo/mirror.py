"""Registries on this machine: one that mirrors the default registry with the base images, and empty ones to push to."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from demo.cli import Imgbuild
from demo.rootfs import RootFilesystem

PROGRAM = Path(__file__).resolve().parents[2] / "registry-mock"

Say = Callable[[str], None]


@contextmanager
def registry(root: Path, *options: str) -> Iterator[str]:
    """A registry-mock that keeps everything in `root`; its URL. It ends with the block."""
    command = [sys.executable, str(PROGRAM), "--port", "0", "--root", str(root), *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise RuntimeError(f"registry-mock did not start: {line!r}")
            yield line.split()[-1]
        finally:
            process.terminate()


def host(url: str) -> str:
    """The name of the registry at `url`, as references write it."""
    return urlsplit(url).netloc


def write_settings(path: Path, mirror: str) -> None:
    """Settings that make the registry at `mirror` a mirror of the default one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'registries:\n  docker.io:\n    mirrors: ["{mirror}"]\n', encoding="utf-8")


def seed(imgbuild: Imgbuild, root: Path, bases: Iterable[RootFilesystem], say: Say) -> None:
    """Make base images and push them to a registry that keeps them in `root`. The store of `imgbuild` is used up."""
    with registry(root) as url:
        for base in bases:
            first, *others = (f"{host(url)}/library/{name}" for name in base.names)
            say(f"{base.description} becomes {', '.join(base.names)}")
            imgbuild("import", base.tar, first, "--change", f'CMD ["{base.command}"]', "--message", base.description)
            imgbuild("push", "--progress", "quiet", first)
            for other in others:
                imgbuild("push", "--progress", "quiet", first, other)
    shutil.rmtree(imgbuild.store)
