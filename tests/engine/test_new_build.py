"""Whether a build is one that a RUN will most likely be performed for: then its zygote is started before all else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgbuild.engine.replay import Question, is_new, look_up


def _question(tmp_path: Path, file: str | None = None) -> Question:
    return Question("words", str(tmp_path), str(tmp_path / "note"), file)


@pytest.mark.parametrize(
    ("text", "new"),
    [("FROM a\nRUN b", True), ("FROM a\n  run b", False), ("from a\nrun b", True), ("FROM a\nCOPY . .\n", False), ("", False)],
)
def test_a_buildfile_has_run(tmp_path: Path, text: str, new: bool) -> None:
    (tmp_path / "Containerfile").write_text(text)
    assert is_new(_question(tmp_path), str(tmp_path)) is new


def test_the_first_usual_name_counts(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM a\nRUN b\n")
    assert is_new(_question(tmp_path), str(tmp_path))
    (tmp_path / "Buildfile").write_text("FROM a\n")
    assert not is_new(_question(tmp_path), str(tmp_path))


def test_a_named_one_is_here_or_in_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, here = tmp_path / "context", tmp_path / "here"
    context.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    (context / "f").write_text("FROM a\nRUN b\n")
    assert is_new(_question(tmp_path, "f"), str(context))
    (here / "f").write_text("FROM a\n")
    assert not is_new(_question(tmp_path, "f"), str(context))


@pytest.mark.parametrize("age", [-10, 10])
def test_after_a_build_it_is_none_until_it_is_written_again(tmp_path: Path, age: int) -> None:
    (tmp_path / "history").mkdir()
    (tmp_path / "history/journal").write_bytes(b"")
    (tmp_path / "Buildfile").write_text("FROM a\nRUN b\n")
    at = (tmp_path / "history/journal").stat().st_mtime + age
    os.utime(tmp_path / "Buildfile", (at, at))
    assert is_new(_question(tmp_path), str(tmp_path)) is (age > 0)


def test_of_a_pipe_nothing_is_taken(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"FROM a\nRUN b\n")
    os.close(write)
    assert not is_new(_question(tmp_path, f"/dev/fd/{read}"), str(tmp_path))
    assert os.read(read, 100) == b"FROM a\nRUN b\n"
    os.close(read)


def test_nothing_to_read_is_none(tmp_path: Path) -> None:
    assert not is_new(_question(tmp_path), str(tmp_path))
    assert not is_new(_question(tmp_path, "nowhere"), str(tmp_path))


def test_of_a_pipe_in_the_place_of_a_note_nothing_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "note")
    assert look_up(_question(tmp_path), {}) is None
