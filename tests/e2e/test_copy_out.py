"""``imgbuild cp``: files out of images, containers, builds and failed steps, as `docker cp` places them."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from .harness import Bench

TREE = r"""
FROM busybox
RUN mkdir -p /d/sub /d/empty; echo one > /d/one; echo two > /d/sub/two; ln /d/one /d/again; ln -s one /d/link; ln -s /d /door; \
    ln -s /etc/passwd /d/out; chown -R ann /d; chmod 4755 /d/one; mkfifo /d/pipe; touch -d '2001-02-03 04:05:06' /d/sub/two
RUN rm /d/again; echo three > /d/three; false
"""


@pytest.fixture(scope="module")
def filled(shared: Bench) -> Bench:
    shared.build(TREE, code=1)
    shared.build("FROM busybox\nCOPY --chmod=640 Buildfile /f\n")
    return shared


def tree(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


WHOLE = ["empty", "link", "one", "out", "pipe", "sub", "sub/two", "three"]


def test_places_of_directories(filled: Bench, tmp_path: Path) -> None:
    filled.run("cp", "failed:last:/d", tmp_path / "new")
    assert tree(tmp_path / "new") == WHOLE
    (tmp_path / "there").mkdir()
    filled.run("cp", "failed:last:/d", tmp_path / "there")
    assert tree(tmp_path / "there" / "d") == WHOLE
    (tmp_path / "contents").mkdir()
    (tmp_path / "contents" / "three").write_text("old")
    (tmp_path / "contents" / "own").write_text("stays")
    filled.run("cp", "failed:last:/d/.", tmp_path / "contents")
    assert tree(tmp_path / "contents") == sorted([*WHOLE, "own"])
    assert (tmp_path / "contents" / "three").read_text() == "three\n"
    filled.run("cp", "failed:last:/door/.", tmp_path / "made")
    assert tree(tmp_path / "made") == WHOLE


def test_places_of_files(filled: Bench, tmp_path: Path) -> None:
    filled.run("cp", "failed:last:/d/sub/two", tmp_path / "two")
    assert (tmp_path / "two").read_text() == "two\n"
    assert int((tmp_path / "two").stat().st_mtime) == 981173106
    filled.run("cp", "failed:last:/d/three", tmp_path)
    filled.run("cp", "failed:last:/d/three", tmp_path / "two")
    assert (tmp_path / "two").read_text() == (tmp_path / "three").read_text() == "three\n"
    filled.run("cp", "x:/f", ".", cwd=tmp_path)
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o640


def test_owners_modes_and_links(filled: Bench, tmp_path: Path) -> None:
    filled.run("cp", "failed:last:/d", tmp_path / "plain")
    status = (tmp_path / "plain" / "one").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.getuid(), 0o755)
    assert os.readlink(tmp_path / "plain" / "link") == "one"
    assert os.readlink(tmp_path / "plain" / "out") == "/etc/passwd"
    filled.run("cp", "-a", "failed:last:/d", tmp_path / "archive")
    status = (tmp_path / "archive" / "one").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (1000, 0o4755)
    filled.run("cp", "failed:last:/d/link", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    filled.run("cp", "-L", "failed:last:/d/link", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "one\n"
    filled.run("cp", "-L", "failed:last:/d/out", tmp_path / "passwd")
    assert "ann" in (tmp_path / "passwd").read_text()


def test_a_tar(filled: Bench) -> None:
    command = filled.command("cp", "failed:last:/d", "-")
    done = subprocess.run(command, capture_output=True, env=filled.environ, cwd=filled.context, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = {member.name: member for member in archive}
    assert sorted(members) == ["d", *(f"d/{name}" for name in WHOLE)]
    assert members["d/one"].uid == 1000
    done = subprocess.run(filled.command("cp", "x:/f", "-"), capture_output=True, env=filled.environ, cwd=filled.context, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert archive.getnames() == ["f"]


def test_out_of_everything_that_has_files(bench: Bench, tmp_path: Path) -> None:
    bench.build("FROM busybox\nRUN echo first > /f\nRUN echo second > /f\n")
    bench.run("run", "--name", "box", "x", "sh", "-c", "echo third > /f")
    for number, word in enumerate(("x", "x:latest", "build:last", "build:last/1", "box", "container:box")):
        bench.run("cp", f"{word}:/f", tmp_path / str(number))
    assert [(tmp_path / str(number)).read_text() for number in range(6)] == [
        "second\n", "second\n", "second\n", "first\n", "third\n", "third\n",
    ]  # fmt: skip
    bench.assert_whole()


def test_nothing_leads_out_of_the_destination(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    bench.build(f"FROM busybox\nRUN mkdir -p /a/s /b; echo x > /a/s/f; ln -s {outside} /b/s; ln -s {outside} /up; false\n", code=1)
    destination = tmp_path / "to"
    bench.run("cp", "failed:last:/b", destination)
    done = bench.run("cp", "failed:last:/a/.", destination, code=2)
    assert f"{destination}/s is no directory here" in done.err
    assert list(outside.iterdir()) == []
    done = bench.run("cp", f"failed:last:/up{outside}", destination, code=13)
    (outside / "secret").write_text("of the host")
    assert "there is no /up" in bench.run("cp", "failed:last:/up/secret", destination, code=13).err


@pytest.mark.parametrize(
    ("source", "destination", "code", "words"),
    [
        ("failed:last:/nothing", "x", 13, "there is no /nothing"),
        ("failed:last:/d/tree", "x", 13, "did you mean /d/three?"),
        ("failed:last:/d/three/.", "x", 2, "is not a directory"),
        ("failed:last:/d", "file", 2, "which is a file"),
        ("failed:last:/d/three", "none/x", 13, "there is no directory none"),
        ("failed:last:/d/three", "none/", 2, "there is no directory none/"),
        ("failed:nothing:/d", "x", 13, "no failed step"),
        ("failed:last", "x", 2, "NAME:/PATH"),
        ("no-such-image:/d", "x", 13, "no-such-image"),
        ("file", "box:/x", 2, "COPY"),
        ("failed:last:/d/three", "full", 2, "a directory here"),
    ],
)
def test_refused(filled: Bench, tmp_path: Path, source: str, destination: str, code: int, words: str) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "full" / "three").mkdir(parents=True)
    done = filled.run("cp", source, destination, code=code, cwd=tmp_path)
    assert words in done.err
    assert tree(tmp_path) == ["file", "full", "full/three"]
    assert (tmp_path / "file").read_text() == "kept"
