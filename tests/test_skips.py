"""In CI, a skip that is not on the list makes the session fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ALLOWED_SKIPS

TESTS = Path(__file__).resolve().parent


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    ("ci", "disabled", "reason", "code"),
    [
        ("true", "", "needs luck", 1),
        ("true", "", "needs control groups", 0),
        ("", "", "needs luck", 0),
        ("true", "", "needs openat2", 1),
        ("true", "spare,openat2", "needs openat2", 0),
    ],
)
def test_skips_in_ci(tmp_path: Path, ci: str, disabled: str, reason: str, code: int, workers: str) -> None:
    (tmp_path / "test_it.py").write_text(f"import pytest\ndef test_it():\n    pytest.skip({reason!r})\ndef test_other(): pass\n")
    environ = {**os.environ, "CI": ci, "IMGBUILD_DISABLE": disabled, "PYTHONPATH": str(TESTS)}
    for name in [name for name in environ if name.startswith("PYTEST_")]:
        del environ[name]
    options = ["-p", "conftest", "-p", "no:cacheprovider", "-n", workers, f"--rootdir={tmp_path}"]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    verdict = "allowed" if reason in ALLOWED_SKIPS or reason.removeprefix("needs ") in disabled.split(",") else "NOT ALLOWED: fails in CI"
    assert f"{verdict}: {reason}\n" in done.stdout
    assert "1 passed, 1 skipped" in done.stdout.splitlines()[-1]
