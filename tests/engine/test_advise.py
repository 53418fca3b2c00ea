"""What is said of a build whose Buildfile, or context, is not what it was."""

from __future__ import annotations

from pathlib import Path

from imgbuild.engine.advise import _unbuilt
from imgbuild.insight.builds import BuildRecord


def test_a_context_that_can_not_be_looked_at_any_more(tmp_path: Path) -> None:
    file = tmp_path / "Buildfile"
    file.write_text("FROM a AS one\nFROM one AS two\nFROM b\n")
    assert _unbuilt(BuildRecord(context=str(tmp_path), buildfile=str(file))) == {"one": ["two"]}
    assert _unbuilt(BuildRecord(context="x" * 5000, buildfile=str(file))) == {}
    file.write_bytes(b"\xff")
    assert _unbuilt(BuildRecord(context=str(tmp_path), buildfile=str(file))) == {}
