"""Who takes part: imgbuild, and those of the others that are installed."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import tools
from benchmarks.buildkit import BuildKit
from benchmarks.measure import CommandFailed


def installed(directory: Path, wanted: Sequence[str], stack: contextlib.ExitStack) -> list[Any]:
    """Imgbuild, and those of its peers that can be had; who can't take part is said."""
    found: list[Any] = [tools.Imgbuild(directory / "imgbuild")]
    offers: dict[str, tuple[tuple[str, ...], Callable[[], Any]]] = {
        "docker": (("dockerd", "runc"), lambda: tools.Docker(directory / "docker", stack)),
        "buildah": (("buildah", "podman", "runc"), lambda: tools.Buildah(directory / "buildah", stack)),
        "buildkit": (("buildkitd", "buildctl"), lambda: BuildKit(directory / "buildkit", stack)),
        "crun": (("crun",), lambda: tools.Crun(directory / "crun")),
    }
    for name, (programs, make) in offers.items():
        if name not in wanted:
            continue
        lacking = [program for program in programs if shutil.which(program) is None]
        try:
            if lacking:
                raise CommandFailed(f"{', '.join(lacking)} is not installed")
            found.append(make())
        except CommandFailed as error:
            print(f"{name} does not take part: {error}", file=sys.stderr)
    for tool in found:
        if not tool.daemons():
            stack.callback(tool.account.close)
    return found
