"""What the start of a container imports: that is most of the time that it takes."""

from __future__ import annotations

import json
import subprocess
import sys

from .conftest import PATIENCE, Shop

# Not datetime, ipaddress and urllib.parse: click and pathlib import them.
UNUSED = (
    "asyncio", "base64", "concurrent", "email", "http", "isal", "logging", "multiprocessing", "random", "requests", "rich", "ssl",
    "subprocess", "tarfile", "tempfile", "urllib.request", "urllib3", "yaml", "zstandard",
    "imgbuild.buildfile", "imgbuild.cli.failures", "imgbuild.cli.progress", "imgbuild.context", "imgbuild.engine.build",
    "imgbuild.engine.registries", "imgbuild.graph", "imgbuild.layer.compression", "imgbuild.layer.unpack", "imgbuild.registry",
    "imgbuild.rootfs.unpacking", "imgbuild.runtime.detach", "imgbuild.runtime.logs", "imgbuild.runtime.mounts", "imgbuild.runtime.volumes",
    "imgbuild.settings.load", "imgbuild.solve", "imgbuild.transfer.pull",
)  # fmt: skip


def test_running_imports_little(shop: Shop) -> None:
    shop.run("box", "true")
    program = """
import json, sys
from imgbuild.cli.main import main
try:
    main(["run", "--rm", "box", "true"])
finally:
    print(json.dumps(sorted(sys.modules)))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=shop.environ, capture_output=True, text=True, check=True, timeout=PATIENCE)
    loaded = json.loads(done.stdout)
    assert "imgbuild.runtime.containers" in loaded
    assert [name for name in loaded if name.startswith(tuple(f"{unused}." for unused in UNUSED)) or name in UNUSED] == []
