"""What the start of a container imports: that is most of the time that it takes."""

from __future__ import annotations

import json
import subprocess
import sys

from .conftest import PATIENCE, Shop

# Not ipaddress and urllib.parse: pathlib imports them.
UNUSED = (
    "asyncio", "base64", "click", "concurrent", "dataclasses", "datetime", "email", "hashlib", "http", "inspect", "isal", "logging",
    "multiprocessing", "random", "requests", "rich", "ssl", "secrets", "selectors", "socket", "sqlite3", "subprocess", "tarfile",
    "tempfile", "typing", "urllib.request", "urllib3", "yaml", "zstandard", "imgbuild.buildfile", "imgbuild.cli.failures",
    "imgbuild.cli.progress", "imgbuild.context", "imgbuild.engine.build", "imgbuild.engine.registries", "imgbuild.graph",
    "imgbuild.layer.compression", "imgbuild.layer.unpack", "imgbuild.registry", "imgbuild.rootfs.unpacking", "imgbuild.runtime.detach",
    "imgbuild.runtime.logs", "imgbuild.runtime.mounts", "imgbuild.runtime.volumes", "imgbuild.settings.load", "imgbuild.solve",
    "imgbuild.transfer.pull",
)  # fmt: skip


MOST_MODULES = 100
"""Of ours: each costs a tenth of a millisecond or more."""


def loaded(shop: Shop, *words: str) -> list[str]:
    """The modules that a command line has loaded when it ends."""
    program = f"""
import json, sys
from imgbuild.cli.main import main
try:
    main({list(words)!r})
finally:
    print(json.dumps(sorted(sys.modules)))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=shop.environ, capture_output=True, text=True, check=True, timeout=PATIENCE)
    names: list[str] = json.loads(done.stdout)
    return names


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
