"""RUN --on-failure=save=PATH: what a failed step leaves for people to read."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .harness import Bench

STEP = """
FROM busybox
RUN mkdir -p /reports/old && echo kept > /reports/old/before && echo gone > /reports/gone
WORKDIR /work
ARG DIR=reports
RUN --on-failure=save=/$DIR --on-failure=save=log.txt --on-failure=save=/nothing \\
    rm /reports/gone; echo new > /reports/new; chmod 6711 /reports/new; chown ann /reports/new; echo line > log.txt; \\
    ln -s /etc/passwd /reports/link; ln -s /../../../../../../../../etc /reports/up; mkfifo /reports/pipe; echo said; false
"""


def test_what_is_named_is_saved(bench: Bench) -> None:
    saved = bench.place / "saved"
    done = bench.build(STEP, "--failure-dir", saved, code=1)
    assert "exit code 1" in done.err
    (directory,) = saved.iterdir()
    assert f"saved to {directory}" in done.err
    assert directory.name == "line-6"
    assert "the step left no /nothing" in done.err
    files = sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))
    assert files == [
        "reports", "reports/link", "reports/new", "reports/old", "reports/old/before", "reports/up", "work", "work/log.txt",
    ]  # fmt: skip
    assert (directory / "work/log.txt").read_text() == "line\n"
    assert (directory / "reports/old/before").read_text() == "kept\n"
    assert os.readlink(directory / "reports/link") == "/etc/passwd"
    status = (directory / "reports/new").stat()
    assert (status.st_mode & 0o7777, status.st_uid) == (0o755, os.getuid())
    bench.build(None, "--failure-dir", saved, code=1)
    assert sorted(path.name for path in saved.iterdir()) == ["line-6", "line-6.2"]


def test_the_store_is_where_it_goes_by_default_until_it_is_pruned(bench: Bench) -> None:
    done = bench.build("FROM busybox\nRUN --on-failure=save=/out echo x > /out; exit 3\n", code=1)
    (directory,) = (bench.root / "failed").glob("line-*")
    assert str(directory) in done.err
    assert (directory / "out").read_text() == "x\n"
    assert sorted(path.name for path in bench.context.iterdir()) == ["Buildfile"]
    bench.run("prune", "--all")
    assert list((bench.root / "failed").iterdir()) == []


def test_a_link_leads_nowhere_outside(bench: Bench) -> None:
    outside = bench.place / "secret"
    outside.write_text("of the host")
    saved = bench.place / "saved"
    text = f"FROM busybox\nRUN --on-failure=save=/a/secret --on-failure=save=/b ln -s {bench.place} /a; ln -s /etc/passwd /b; false\n"
    done = bench.build(text, "--failure-dir", saved, code=1)
    assert "the step left no /a/secret" in done.err
    (directory,) = saved.iterdir()
    assert "ann" in (directory / "b").read_text()


@pytest.mark.parametrize("second", ["/a/link/new", "/a/link"])
def test_a_link_that_was_saved_is_not_followed_by_what_is_saved_next(bench: Bench, second: str) -> None:
    outside, saved = bench.place / "outside", bench.place / "saved"
    outside.mkdir()
    flags = f"--on-failure=save=/a --on-failure=save={second}"
    text = f"FROM busybox\nRUN {flags} mkdir -p /a {outside}; ln -s {outside} /a/link; echo of the step > {outside}/new; false\n"
    done = bench.build(text, "--failure-dir", saved, code=1)
    assert list(outside.iterdir()) == []
    (directory,) = saved.iterdir()
    assert f"saved to {directory}" in done.err
    assert os.readlink(directory / "a/link") == str(outside)
    assert Path(f"{directory}{outside}/new").read_text() == "of the step\n"


def test_a_directory_is_saved_with_what_was_saved_of_it_before(bench: Bench) -> None:
    saved = bench.place / "saved"
    flags = "--on-failure=save=/a/b --on-failure=save=/a --on-failure=save=/a/c"
    bench.build(f"FROM busybox\nRUN {flags} mkdir -p /a/b; echo x > /a/b/f; echo y > /a/c; false\n", "--failure-dir", saved, code=1)
    (directory,) = saved.iterdir()
    assert (directory / "a/b/f").read_text() == "x\n"
    assert (directory / "a/c").read_text() == "y\n"


def test_only_the_last_attempt_is_saved_and_success_saves_nothing(bench: Bench) -> None:
    saved = bench.place / "saved"
    text = "FROM busybox\nRUN --retry=1 --on-failure=save=/n --mount=type=cache,target=/c echo x >> /c/n; cat /c/n > /n; false\n"
    bench.build(text, "--failure-dir", saved, code=1)
    (directory,) = saved.iterdir()
    assert (directory / "n").read_text() == "x\nx\n"
    bench.build("FROM busybox\nRUN --on-failure=save=/n --retry=1 echo > /n\n", "--failure-dir", bench.place / "none")
    assert not (bench.place / "none").exists()
    assert list(bench.build("FROM busybox\nRUN --retry=1 echo > /n\n").steps.values()) == ["CACHED"]


def test_a_place_that_can_not_be_written_to_does_not_hide_the_failure(bench: Bench) -> None:
    (bench.place / "file").write_text("")
    said = bench.refused("FROM busybox\nRUN --on-failure=save=/n false\n", "--failure-dir", Path(bench.place, "file", "x"), code=1)
    assert "exit code 1" in said


@pytest.mark.parametrize(
    ("flag", "words"), [("/x", "save=PATH"), ("save=", "save=PATH"), ("save=/", "other than '/'"), ("keep=/x", "save=PATH")]
)
def test_what_can_not_be_saved_is_refused(shared: Bench, flag: str, words: str) -> None:
    said = shared.refused(f"FROM busybox\nRUN --on-failure={flag} true\n", code=10)
    assert words in said
    assert "Buildfile:2" in said


def test_who_can_make_no_sandbox_builds_what_needs_none(bench: Bench) -> None:
    bench.write({"file": "1"})
    weak = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"]

    def build(text: str) -> tuple[int, str]:
        bench.write({"Buildfile": text})
        command = [*weak, *bench.command("build", "-t", "x", bench.context)]
        done = subprocess.run(command, capture_output=True, text=True, env=bench.environ, check=False)
        return done.returncode, done.stderr

    unneeded = "FROM scratch AS other\nRUN false\nFROM scratch\n"
    assert build(f"{unneeded}COPY file /\n")[0] == 0
    assert "unknown instruction COPYY" in build(f"{unneeded}COPYY file /\n")[1]
    code, said = build("FROM busybox\nRUN true\n")
    assert code == 20
    assert "namespaces can't be made" in said
