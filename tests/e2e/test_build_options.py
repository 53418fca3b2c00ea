"""The options of `imgbuild build`, and how progress is shown."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from imgbuild.store.temporary import Scratch

from .harness import PATIENCE, Bench


def test_which_file_is_built(bench: Bench) -> None:
    bench.write({"dockerfile": "FROM busybox\nLABEL file=small\n"})
    bench.run("build", "-t", "x", ".")
    assert bench.config()["Labels"] == {"file": "small"}
    bench.write({"Containerfile": "FROM busybox\nLABEL file=container\n"})
    bench.run("build", "-t", "x", ".")
    assert bench.config()["Labels"] == {"file": "container"}
    bench.write({"Dockerfile": "FROM busybox\nLABEL file=docker\n"})
    bench.run("build", "-t", "x", bench.context, cwd=Path("/"))
    assert bench.config()["Labels"] == {"file": "docker"}
    bench.build("FROM busybox\nLABEL file=build\n")
    assert bench.config()["Labels"] == {"file": "build"}
    bench.write({"sub/My.file": "FROM busybox\nCOPY mine /\nLABEL file=mine\n", "mine": "", "sub/My.file.dockerignore": ""})
    bench.build(None, "-f", "sub/My.file")
    assert bench.config()["Labels"] == {"file": "mine"}
    bench.build(None, "-f", bench.context / "sub/My.file")
    bench.build(None, "-f", "-", stdin=b"FROM busybox\nCOPY mine /\nLABEL file=stdin\n")
    assert bench.config()["Labels"] == {"file": "stdin"}
    assert "mine" in bench.files()


def test_files_that_say_what_was_built(bench: Bench) -> None:
    iid, metadata = bench.place / "iid", bench.place / "metadata.json"
    done = bench.build("FROM busybox\nRUN true\n", "--iidfile", iid, "--metadata-file", metadata, "-t", "y:2")
    image = bench.inspect()
    assert iid.read_text() == image["Id"]
    facts = json.loads(metadata.read_text())
    assert facts["containerimage.digest"] == image["Digest"]
    assert facts["containerimage.config.digest"] == image["Id"]
    assert facts["containerimage.descriptor"]["digest"] == image["Digest"]
    assert facts["image.name"].split(",") == ["docker.io/library/x:latest", "docker.io/library/y:2"]
    assert image["Digest"] in done.err
    assert sorted(image["RepoTags"]) == ["x:latest", "y:2"]


def test_progress_goes_to_stderr_and_results_to_stdout(bench: Bench) -> None:
    text = "FROM busybox\nRUN printf 'one\\ntwo\\rthree\\n\\033[31mred\\033[0m\\n'; printf unfinished\n"
    done = bench.build(text)
    assert done.out == ""
    assert done.output[:2] == ["one", "three"]
    assert done.output[-1] == "unfinished"
    done = bench.run("build", "-q", "--no-cache", ".")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.out)
    assert done.err == ""
    done = bench.run("build", "--progress=quiet", "-t", "x", ".")
    assert done.out.strip() == bench.inspect()["Id"]


def test_json_is_one_object_a_line(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo out; echo err >&2\nRUN exit 4\n"})
    done = bench.run("build", "--progress=json", ".", code=1)
    events = [json.loads(line) for line in done.out.splitlines()]
    assert all(isinstance(event["time"], float) for event in events)
    started = [event for event in events if event["event"] == "StepStarted"]
    assert [(event["name"], event["line"]) for event in started] == [("[1/2] RUN echo out; echo err >&2", 2), ("[2/2] RUN exit 4", 3)]
    assert {(event["stream"], event["data"]) for event in events if event["event"] == "StepOutput"} == {(1, "out\n"), (2, "err\n")}
    assert [event["outcome"] for event in events if event["event"] == "StepFinished"] == ["done", "failed"]
    usage = next(event["usage"] for event in events if event["event"] == "StepFinished")
    assert usage["wall_seconds"] > 0
    assert len(done.errors) == 1
    bench.write({"Buildfile": "FROM busybox\nRUN echo out\n"})
    done = bench.run("build", "--progress=json", "-t", "x", ".")
    *_, last, end = map(json.loads, done.out.splitlines())
    assert (last["event"], last["names"]) == ("BuildFinished", ["x:latest"])
    assert (end["event"], end["status"]) == ("StreamEnded", "done")
    assert last["digest"] == bench.inspect()["Digest"]
    assert done.err == ""


@pytest.mark.parametrize("options", [["--progress=tty"], []])
def test_a_live_view_on_a_terminal(bench: Bench, options: list[str]) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo visible\nRUN exit 5\n"})
    code, screen = _on_a_terminal(bench, ["build", *options, "-t", "x", "."])
    assert code == 1
    assert "RUN echo visible" in screen
    assert screen.count("imgbuild: error") == 1
    assert "Traceback" not in screen
    bench.write({"Buildfile": "FROM busybox\nRUN echo visible\n"})
    code, screen = _on_a_terminal(bench, ["build", *options, "-t", "x", "."])
    assert code == 0
    assert "CACHED" in screen
    assert bench.inspect()["Digest"] in screen.replace("\r\n", "").replace("\n", "")


def _on_a_terminal(bench: Bench, arguments: list[str]) -> tuple[int, str]:
    master, slave = pty.openpty()
    environ = {**bench.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    try:
        command = bench.command(*arguments)
        with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=bench.context, env=environ) as process:
            os.close(slave)
            shown = b""
            try:
                while data := os.read(master, 65536):
                    shown += data
            except OSError:  # EIO: the last one who had it open is gone
                pass
            code = process.wait(PATIENCE)
    finally:
        os.close(master)
    return code, re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def test_pull_policies(bench: Bench) -> None:
    text = "FROM busybox\nRUN true\n"
    for options in (["--offline"], ["--pull", "never"], ["--pull=missing"], ["--pull=false"]):
        bench.build(text, *options)
    absent = "FROM 127.0.0.1:1/absent\n"
    said = bench.refused(absent, "--pull=never", code=13)
    assert "Buildfile:1" in said
    said = bench.refused(absent, code=15)
    assert "127.0.0.1:1" in said
    assert "Buildfile:1" in said
    bench.run("tag", "busybox", "127.0.0.1:1/here")
    bench.build("FROM 127.0.0.1:1/here\n")
    bench.refused("FROM 127.0.0.1:1/here\n", "--pull", code=15)


@pytest.mark.parametrize(
    "arguments",
    [
        ["-t", "upper/CASE"],
        ["-t", "x@sha256:" + "0" * 64],
        ["-t", ""],
        ["--build-arg", "=x"],
        ["--pull", "sometimes"],
        ["--offline", "--pull", "always"],
        ["--output", "type=zip,dest=x"],
        ["--output", "type=local"],
        ["--output", "type=tar,dset=x"],
        ["--progress", "loud"],
        ["--parallel", "0"],
        ["--source-date-epoch", "yesterday"],
        ["--no-such-option"],
        ["--label", "=x"],
        ["--compression", "lzma"],
    ],
)
def test_command_lines_that_make_no_sense(shared: Bench, arguments: list[str]) -> None:
    shared.write({"Buildfile": "FROM busybox\n"})
    done = shared.run("build", *arguments, ".", code=2)
    assert done.err.strip()
    assert shared.run("images", "-q").out.count("\n") <= 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["nowhere"], 12), (["Buildfile"], 12), (["-f", "nothing", "."], 10), (["empty"], 10), (["https://example.invalid/x.git"], 12)],
)
def test_contexts_that_are_refused(shared: Bench, arguments: list[str], code: int) -> None:
    shared.write({"Buildfile": "FROM busybox\n", "empty/": ""})
    done = shared.run("build", *arguments, code=code)
    assert len(done.errors) == 1


def test_unwritable_results_are_said(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\n"})
    for option in ("--iidfile", "--metadata-file"):
        done = bench.run("build", option, "/proc/nope/file", ".", code=2)
        assert len(done.errors) == 1
    done = bench.run("build", "--output", "type=tar,dest=/proc/nope/x.tar", ".", code=None)
    assert done.code not in (0, 70)
    assert len(done.errors) == 1


def test_outputs(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo content > /file && chown ann /file\n"
    out = bench.place / "out"
    bench.build(text, "--output", f"type=local,dest={out}")
    assert (out / "file").read_text() == "content\n"
    bench.build(text, "-o", str(bench.place / "plain"))
    assert (bench.place / "plain/bin/busybox").exists()
    for kind in ("oci", "docker", "tar"):
        bench.build(text, "--output", f"type={kind},dest={bench.place / kind}.tar")
        names = subprocess.run(["tar", "tf", f"{bench.place / kind}.tar"], capture_output=True, text=True, check=True).stdout.split()
        expected = {"oci": "index.json", "docker": "manifest.json", "tar": "file"}[kind]
        assert expected in [name.removeprefix("./") for name in names]
    done = subprocess.run(
        bench.command("build", "--progress=plain", "-o", "-", "."), cwd=bench.context, env=bench.environ, capture_output=True, check=True
    )
    assert b"ustar" in done.stdout[:512]
    quiet = subprocess.run(
        bench.command("build", "--quiet", "-o", "-", "."), cwd=bench.context, env=bench.environ, capture_output=True, check=True
    )
    assert (quiet.stdout, quiet.stderr) == (done.stdout, b"")


FORBIDDEN = (
    "requests", "urllib3", "yaml", "rich", "zstandard", "isal", "asyncio", "multiprocessing", "email", "http", "ssl", "tarfile",
    "click", "concurrent", "dataclasses", "datetime", "inspect", "logging", "queue", "random", "secrets", "socket", "sqlite3", "subprocess",
    "tempfile", "typing",
)  # fmt: skip
MOST_MODULES = 148
"""Of ours: each costs a tenth of a millisecond or more."""

PERFORMING = (
    "imgbuild.sandbox.zygote", "imgbuild.sandbox.spawner", "imgbuild.rootfs.copy_write", "imgbuild.rootfs.materialize",
    "imgbuild.layer.pack", "imgbuild.solve.run", "imgbuild.solve.failing", "imgbuild.solve.causes", "imgbuild.solve.log",
    "imgbuild.solve.waiting", "imgbuild.store.failed",
)  # fmt: skip


def test_a_build_in_which_all_is_cached_imports_little(bench: Bench) -> None:
    bench.write({"file": "x"})
    stage = "FROM busybox AS a\nRUN echo > /x\nCOPY file /\n"
    bench.build(f"{stage}FROM busybox\nCOPY --from=a /x /y\nWORKDIR /w\nRUN --mount=target=/c true\n")
    program = f"""
import sys
from imgbuild.cli.main import main
try:
    main({bench.command("build", "--progress=plain", "-t", "x", ".")[3:]!r})
finally:
    loaded = sorted(sys.modules)
    print([name for name in loaded if name.partition('.')[0] in {FORBIDDEN!r} or name in {PERFORMING!r}])
    print(sum(name.startswith('imgbuild') for name in loaded))
"""
    # What the build before had no time to remove, this one would, with two more modules.
    scratch = Scratch(bench.root)
    scratch.sweep()
    scratch.empty()
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=bench.context, env=bench.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "performed" in done.stderr
    assert "DONE" not in done.stderr
    unwanted, count = done.stdout.splitlines()
    assert unwanted == "[]"
    assert int(count) <= MOST_MODULES


def test_where_nothing_but_files_is_copied_no_process_is_started(bench: Bench) -> None:
    bench.write({"file": "x"})
    text = "FROM busybox\nRUN echo > /x\nCOPY file /\n"
    bench.build(text)
    bench.write({"file": "y"})
    program = f"""
import os, sys
from imgbuild.cli.main import main
os.fork = None
try:
    main({bench.command("build", "--progress=plain", "-t", "x", ".")[3:]!r})
finally:
    print([name for name in sorted(sys.modules) if name.startswith("imgbuild.sandbox.")])
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=bench.context, env=bench.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 performed" in done.stderr
    assert "zygote" not in done.stdout
    assert bench.run("run", "--rm", "x", "cat", "/file").out == "y"


@pytest.mark.parametrize("option", [["--push"], ["-o", "type=image,push=true"], ["-o", "type=registry"]])
def test_a_push_without_a_name_is_refused_before_anything_is_done(bench: Bench, option: list[str]) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN true\n"})
    done = bench.run("build", "--progress=plain", *option, bench.context, code=2)
    assert "a push needs a name" in done.err
    assert not done.steps
