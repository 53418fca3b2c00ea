"""Floors, doors and the start-up of imgbuild are as they were laid out; and each rule can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from architecture import (
    FLOORS,
    RULES,
    Module,
    Rule,
    charters,
    doors,
    floors,
    frozen_values,
    lightness,
    lines,
    names,
    purity,
    read,
    sizes,
    vague_names,
)
from demo.cli import Imgbuild

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule: Rule) -> None:
    assert rule(read(ROOT / "imgbuild")) == []


def test_every_floor_is_built() -> None:
    rooms = {module.room for module in read(ROOT / "imgbuild") if not module.is_root}
    assert rooms == set().union(*FLOORS)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (floors, "oci/x.py", "from imgbuild.store.blobs import Blobs"),
        (floors, "store/x.py", "def f():\n    import imgbuild.layer.tar"),
        (floors, "store/x.py", "from imgbuild import layer"),
        (floors, "store/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from imgbuild.engine.build import x"),
        (floors, "store/x.py", "from ..registry import client"),
        (floors, "attic/x.py", ""),
        (purity, "graph/x.py", "import os"),
        (purity, "graph/x.py", "from os import path"),
        (purity, "buildfile/x.py", "import time"),
        (purity, "oci/x.py", "from pathlib import Path"),
        (purity, "oci/x.py", "from imgbuild.light.pathlib import Path"),
        (purity, "oci/x.py", "from imgbuild.light import threading"),
        (purity, "oci/x.py", "def f(name):\n    return open(name)"),
        (purity, "errors.py", "import subprocess"),
        (doors, "engine/x.py", "import click"),
        (doors, "engine/x.py", "def f():\n    from yaml import safe_load"),
        (doors, "transfer/x.py", "import requests.adapters"),
        (doors, "layer/tar.py", "import zstandard"),
        (doors, "layer/tar.py", "from isal import igzip"),
        (doors, "sandbox/x.py", "import ctypes"),
        (doors, "rootfs/x.py", "import sqlite3"),
        (doors, "engine/x.py", "from rich.console import Console"),
        (lightness, "solve/x.py", "import re"),
        (lightness, "cli/x.py", "def f():\n    from pathlib import Path"),
        (lightness, "store/x.py", "from collections import deque"),
        (lightness, "engine/x.py", "import json.decoder"),
        (lightness, "engine/x.py", "from imgbuild.hints import TYPE_CHECKING\nif TYPE_CHECKING:\n    import re\nelse:\n    import enum"),
        (doors, "cli/x.py", "import watchfiles"),
        (lines, "sandbox/x.py", "x = 'lowerdir=/a'"),
        (lines, "snapshot/x.py", "x = f'{1}lowerdir={2}'"),
        (lines, "rootfs/x.py", "x = b'.wh.gone'"),
        (lines, "registry/x.py", "x = 'application/vnd.oci.image.index.v1+json'"),
        (lines, "registry/x.py", "x = {'Authorization': 'y'}"),
        (lines, "runtime/x.py", "x = '/sys/fs/cgroup/memory'"),
        (lines, "store/x.py", "x = 'trusted.overlay.opaque'"),
        (names, "store/x.py", "import os\nx = os.environ['HOME']"),
        (names, "store/x.py", "import os\nx = os.getenv('HOME')"),
        (names, "store/x.py", "import sys\nx = sys.argv"),
        (names, "solve/x.py", "import sys\nsys.exit(1)"),
        (names, "solve/x.py", "print(1)"),
        (sizes, "store/x.py", "x = 1\n" * 401),
        (charters, "store/__init__.py", "x = 1"),
        (vague_names, "store/utils.py", ""),
        (vague_names, "helpers/x.py", ""),
        (frozen_values, "store/x.py", "cache = {}"),
        (frozen_values, "store/x.py", "seen: list[int] = []"),
    ],
)
def test_rule_can_fail(rule: Rule, path: str, text: str) -> None:
    assert len(rule((Module(path, text),))) == 1


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (floors, "engine/x.py", "from imgbuild.store.blobs import Blobs\nimport imgbuild.oci.digest\nfrom . import y"),
        (purity, "graph/x.py", "from imgbuild.light import json\nfrom imgbuild.oci.digest import Digest\nimport re"),
        (doors, "registry/x.py", "import requests"),
        (doors, "layer/compress.py", "import zstandard"),
        (lightness, "solve/x.py", "from imgbuild.light import re\nfrom collections.abc import Iterator\nimport retry"),
        (lightness, "solve/x.py", "if TYPE_CHECKING:\n    from pathlib import Path"),
        (lines, "snapshot/overlay.py", "x = 'lowerdir=/a'"),
        (lines, "oci/x.py", "'''Says .wh. and lowerdir= in words.'''\ndef f():\n    '''Authorization.'''"),
        (names, "cli/x.py", "import os\nprint(os.environ)"),
        (frozen_values, "store/x.py", "NAMES = {'a': 1}\nNONE = ()"),
    ],
)
def test_rule_can_pass(rule: Rule, path: str, text: str) -> None:
    assert rule((Module(path, text),)) == []


_LOADED = """
import json, os, sys
from imgbuild.cli.main import main
try:
    main(["build", "-t", "image", "--progress", "plain", sys.argv[1]])
finally:
    if os.getpid() == int(os.environ["MAIN"]):
        print(json.dumps(sorted(sys.modules)))
"""


def loaded_by_a_build(imgbuild: Imgbuild, context: Path) -> tuple[set[str], str]:
    """The modules that a build of a context loads, and what it says."""
    shell = 'MAIN=$$ exec "$@"'
    environ = {**imgbuild.environment(), "IMGBUILD_CONFIG": ""}
    done = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-c", _LOADED, str(context)],
        capture_output=True, text=True, check=False, env=environ, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1])), done.stderr


def test_all_cached_build_loads_little(imgbuild: Imgbuild, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Buildfile").write_text("FROM busybox\nCOPY Buildfile /\nRUN echo 1 > /file\n", encoding="utf-8")
    imgbuild("build", "-t", "image", tmp_path / "context")
    loaded, said = loaded_by_a_build(imgbuild, tmp_path / "context")
    assert said.count(" CACHED") == 2, said
    unwanted = {"requests", "urllib3", "yaml", "rich", "zstandard", "isal", "asyncio", "http.client", "ssl", "subprocess", "tarfile"}
    unwanted |= {"click", "dataclasses", "inspect", "typing", "difflib", "imgbuild.engine.explained", "imgbuild.store.evidence"}
    unwanted |= {f"imgbuild.engine.{name}" for name in ("diff", "blame", "bisect", "subjects", "performed")}
    unwanted |= {"watchfiles", "imgbuild.insight.compare", "imgbuild.snapshot.differing", "imgbuild.snapshot.traces"}
    assert loaded & unwanted == set()


def test_a_build_that_copies_a_file_loads_little_more(imgbuild: Imgbuild, tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Buildfile").write_text("FROM scratch\nCOPY file /\n", encoding="utf-8")
    for text in ("before", "after"):
        (tmp_path / "context" / "file").write_text(text, encoding="utf-8")
        loaded, said = loaded_by_a_build(imgbuild, tmp_path / "context")
        assert " CACHED" not in said
    unwanted = {"platform", "typing", "dataclasses", "secrets", "random", "concurrent.futures", "mmap", "zstandard", "isal", "requests"}
    unwanted |= {f"imgbuild.{name}" for name in ("solve.run", "rootfs.workdir", "rootfs.copy_unpack", "context.beside")}
    assert loaded & unwanted == set()
