"""The README's feature table is complete, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from imgbuild.buildfile.flags import KNOWN
from imgbuild.buildfile.statements import _READERS as INSTRUCTIONS
from imgbuild.cli.build import build

TESTS = Path(__file__).parent
README = (TESTS.parent / "README.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ") for line in README.partition("\n## Features")[2].splitlines() if line.startswith("| ")][1:]


def test_every_row_names_tests_that_are_there() -> None:
    missing = []
    for feature, *proofs in ROWS:
        named = re.findall(r"`([\w/]+)::(\w+)`", " ".join(proofs))
        assert named, f"{feature} is proved by nothing"
        for path, name in named:
            file = TESTS / f"{path}.py"
            if not file.is_file() or not re.search(rf"^ *def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE):
                missing.append(f"{path}::{name}")
    assert not missing


def test_every_instruction_flag_and_option_has_a_row() -> None:
    said = set(re.findall(r"`([^`]+)`", " ".join(row[0] for row in ROWS)))
    words = {word.split(" ")[0] for word in said}
    assert set(INSTRUCTIONS) <= words
    like_run = {"TEST"}
    flags = {f"{name} --{flag}" for name, known in KNOWN.items() if name not in like_run for flag in known if flag != "mount"}
    assert flags <= said, flags - said
    assert {f"RUN --mount=type={kind}" for kind in ("bind", "cache", "tmpfs", "secret", "ssh")} <= said
    shown = [item for item in build.parameters if not item.positional and not item.attributes.get("hidden")]
    options = {f"build {max((word for word in item.declarations if word.startswith('-')), key=len)}" for item in shown}
    assert options <= said, options - said
