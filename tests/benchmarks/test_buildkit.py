"""What BuildKit is given and asked, with programs in its place that write down what they are called with."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import workloads
from benchmarks.buildkit import BuildKit, oci_layout

_DAEMON = "#!/bin/sh\ncp \"$2\" {directory}/settings\nexec sleep 1000\n"
_CLIENT = "#!/bin/sh\nprintf '%s\\n' \"$*\" >> {directory}/asked\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A root file system of one file."""
    (tmp_path / "file").write_text("content\n")
    with tarfile.open(tmp_path / "base.tar", "w") as archive:
        archive.add(tmp_path / "file", "etc/file")
    return tmp_path / "base.tar"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the client's arguments are written, a line a call."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("buildkitd", _DAEMON), ("buildctl", _CLIENT)):
        (programs / name).write_text(text.format(directory=tmp_path))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    yield tmp_path / "asked"


def test_what_it_is_asked(tmp_path: Path, base: Path, asked: Path) -> None:
    with contextlib.ExitStack() as stack:
        tool = BuildKit(tmp_path / "buildkit", stack)
        tool.load(base, "busybox")
        tool.fresh()
        pushed = tool.build(tmp_path / "one.Buildfile", tmp_path / "one", "", push="localhost:1/bench:1")[0].argv
        built = tool.build(tmp_path / "one.Buildfile", tmp_path / "one", "bench-one")[0].argv
        tool.save("bench-one", tmp_path / "saved.tar")
    digest = next((tmp_path / "buildkit/bases/busybox/blobs/sha256").glob("*")).name
    assert len(digest) == 64
    words = " ".join(built)
    assert f"--frontend dockerfile.v0 --local context={tmp_path}/one --local dockerfile={tmp_path} --opt filename=one.Buildfile" in words
    assert f"--oci-layout busybox={tmp_path}/buildkit/bases/busybox --opt context:busybox=oci-layout://busybox@sha256:" in words
    assert words.endswith("--output type=image,name=bench-one,compression=zstd,oci-mediatypes=true")
    assert pushed[-1].endswith(",push=true,registry.insecure=true")
    lines = [line.partition(" unix://")[2].partition(" ")[2] for line in asked.read_text().splitlines()]
    assert [line.split()[0] for line in lines] == ["debug", "build", "prune", "prune-histories", "build", "build"]
    assert lines[-1].endswith(f"name=bench-one,dest={tmp_path}/saved.tar")
    settings = (tmp_path / "settings").read_text()
    assert f'root = "{tmp_path}/buildkit/root"' in settings
    assert 'defaultCgroupParent = "/bench-of-imgbuild-' in settings


def test_a_base_is_an_image_that_can_be_loaded(base: Path, tmp_path: Path) -> None:
    digest = oci_layout(base, tmp_path / "layout")
    environment = {**os.environ, "IMGBUILD_ROOT": str(tmp_path / "store")}

    def imgbuild(*words: str) -> str:
        argv = [sys.executable, "-m", "imgbuild", *words]
        return subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    imgbuild("load", "-i", str(tmp_path / "layout"))
    assert digest in imgbuild("inspect", digest)


def test_who_has_no_containers_is_not_asked_to_run_any(tmp_path: Path) -> None:
    place = workloads.Place(tmp_path, tmp_path / "contexts")
    assert [row.name for row in workloads.rows(place) if row.launches] == ["run --rm true", "exec true"]
    assert not BuildKit.launches
