"""ruff and mypy --strict find nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _run(*command: str, cwd: Path = ROOT) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    _run("ruff", "check", "imgbuild", "registry-mock", "tests", "Buildfile.examples")


@pytest.mark.parametrize(
    ("directory", "what"), [(".", ["-p", "imgbuild"]), ("registry-mock", ["."]), ("tests", ["demo", "architecture.py", "conftest.py"])]
)
def test_mypy(directory: str, what: list[str], tmp_path: Path) -> None:
    cache = f"--cache-dir={ROOT / '.mypy_cache' / directory}"
    _run("mypy", "--strict", f"--config-file={ROOT / 'pyproject.toml'}", cache, *what, cwd=ROOT / directory)


@pytest.mark.parametrize("script", [".ci/run", "tests/demo/setup.sh"])
def test_shell(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(ROOT / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
