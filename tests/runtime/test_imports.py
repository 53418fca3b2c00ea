"""What the start of a container imports: that is most of the time that it takes."""

from __future__ import annotations

import subprocess
import sys

from .conftest import PATIENCE, SOURCE, Shop

# Not re, and what it imports: references are read by patterns.
UNUSED = (
    "asyncio", "base64", "click", "concurrent", "contextlib", "dataclasses", "datetime", "email", "fnmatch", "hashlib",
    "http", "inspect", "ipaddress", "isal", "json", "logging", "multiprocessing", "pathlib", "random",
    "requests", "rich", "ssl", "secrets", "selectors", "signal", "socket", "sqlite3", "subprocess", "tarfile", "tempfile",
    "threading", "typing", "urllib", "urllib3", "weakref", "yaml", "zstandard", "imgbuild.buildfile", "imgbuild.cli.failures",
    "imgbuild.cli.progress", "imgbuild.context", "imgbuild.engine.build", "imgbuild.engine.registries", "imgbuild.graph",
    "imgbuild.layer.compression", "imgbuild.layer.unpack", "imgbuild.registry", "imgbuild.rootfs.unpacking", "imgbuild.runtime.detach",
    "imgbuild.runtime.logs", "imgbuild.runtime.mounts", "imgbuild.runtime.volumes", "imgbuild.settings.load", "imgbuild.solve",
    "imgbuild.transfer.pull",
)  # fmt: skip


MOST_MODULES = 104
"""Of ours: each costs a tenth of a millisecond or more."""


def loaded(shop: Shop, *words: str) -> list[str]:
    """The modules that a command line has loaded when it ends."""
    program = f"""
import sys
sys.path.insert(0, {str(SOURCE)!r})
from imgbuild.cli.main import main
try:
    main({list(words)!r})
finally:
    print(*sys.modules)
"""
    # Without what a virtual environment brings in by itself.
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, env=shop.environ, capture_output=True, text=True, check=True, timeout=PATIENCE)
    return done.stdout.split()


def check(names: list[str]) -> None:
    assert "imgbuild.runtime.containers" in names
    assert [name for name in names if name.startswith(tuple(f"{unused}." for unused in UNUSED)) or name in UNUSED] == []
    assert sum(name.startswith("imgbuild") for name in names) <= MOST_MODULES


def test_running_imports_little(shop: Shop) -> None:
    shop.run("box", "true")
    check(loaded(shop, "run", "--rm", "box", "true"))


def test_entering_imports_little(shop: Shop) -> None:
    shop("run", "-d", "--name", "one", "box", "sleep", "1000")
    check(loaded(shop, "exec", "one", "true"))
