"""A build that found everything done is told again without being done, as long as nothing that decided it has changed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from .harness import Bench, Done, wait_for_line, wait_until_old

TEXT = """FROM busybox AS a
ARG NAME=nobody
RUN echo $NAME > /name
FROM busybox
COPY --from=a /name /name
COPY src /src
COPY *.txt /texts/
RUN --mount=source=src,target=/context cat /context/deep/one > /one
LABEL made=here
"""

PROGRAM = """
import sys
from imgbuild.cli.main import main
try:
    main({arguments!r})
finally:
    known = "" if "imgbuild.engine.lowering" in sys.modules else "KNOWN\\n"
    print(known + "DONE" if "imgbuild.engine.build" in sys.modules else "REPLAYED")
"""


@pytest.fixture
def noted(bench: Bench) -> Bench:
    """A context with files, built so that the build is noted. What is built takes longer than a file is young."""
    files = {"src/deep/one": "1", "src/two": "2", "src/link": "-> two", "src/empty/": "", "a.txt": "a", "other": "o"}
    bench.write({**files, "Buildfile": TEXT})
    bench.build(None)
    bench.build(None)
    assert _how(bench) == "REPLAYED"
    return bench


def test_a_build_that_performed_its_steps_is_noted(bench: Bench) -> None:
    bench.write({"file": "1", "Buildfile": "FROM busybox\nRUN echo 2 > /n\nCOPY file /\n"})
    bench.run("build", "-q", "-f", "-", ".", stdin=b"FROM busybox\nRUN true\n")  # and the files are not young any more
    bench.build(None)
    assert _how(bench) == "REPLAYED"


def test_a_build_upon_itself_is_not(bench: Bench) -> None:
    bench.run("tag", "busybox", "x")
    for number in range(4):
        bench.build("FROM x\nRUN echo 1 >> /n\n")
        assert bench.run("run", "--rm", "x", "cat", "/n").out == "1\n" * (number + 1)


def test_a_name_that_another_one_changes_meanwhile(bench: Bench) -> None:
    bench.run("tag", "busybox", "base")
    bench.run("build", "-q", "-t", "other", "-", stdin=b"FROM busybox\nLABEL other=1\n")
    wait = "echo begun; until [ -e /c/go ]; do sleep 0.1; done"
    bench.write({"Buildfile": f"FROM base\nRUN --mount=type=cache,target=/c touch /c/begun; {wait}; echo > /n\n"})
    with bench.started("build", "--progress=plain", "-t", "x", ".") as process:
        wait_for_line(process, b"| begun")  # its title has the word, too
        bench.run("tag", "other", "base")
        (begun,) = bench.root.glob("cache/**/begun")
        begun.with_name("go").touch()
        assert process.wait() == 0
    assert _run(bench).out.splitlines()[-1] == "DONE"


@pytest.mark.parametrize("text", ["COPY --from=x /n /n\n", "RUN --mount=from=x,target=/x cat /x/n > /n\n"])
def test_a_build_from_itself_is_not(bench: Bench, text: str) -> None:
    bench.build("FROM busybox\nRUN echo 1 > /n\n")
    for number in range(2, 5):
        bench.build(f"FROM busybox\n{text}RUN echo 1 >> /n\n")
        assert bench.run("run", "--rm", "x", "cat", "/n").out == "1\n" * number


def test_its_own_name_that_another_one_takes_meanwhile(bench: Bench) -> None:
    bench.run("build", "-q", "-t", "other", "-", stdin=b"FROM busybox\nLABEL other=1\n")
    bench.build("FROM busybox\nRUN echo 1 > /n\n")
    ours = bench.manifest()
    bench.run("tag", "other", "x")
    taken = f"""
import subprocess
from imgbuild.engine import replay_making
write = replay_making.write_note
def write_note(*given):
    subprocess.run({bench.command("tag", "other", "x")!r}, check=True)
    write(*given)
replay_making.write_note = write_note
"""
    assert _how(bench, first=taken) == "DONE"
    assert bench.manifest() != ours
    assert _how(bench) == "DONE"
    assert bench.manifest() == ours


@pytest.mark.parametrize("what", ["another", "none"])
def test_a_buildfile_that_is_another_one_or_none_at_the_end(bench: Bench, what: str) -> None:
    wait = "echo begun; until [ -e /c/go ]; do sleep 0.1; done"
    bench.write({"Buildfile": f"FROM busybox\nRUN --mount=type=cache,target=/c touch /c/begun; {wait}; echo 1 > /n\n"})
    other, link = bench.place / "other", bench.place / "link"
    other.mkdir()
    if what == "another":
        (other / "Buildfile").write_text("FROM busybox\nRUN echo 2 > /n\n")
    link.symlink_to(bench.context)
    bench.run("build", "-q", "-", stdin=b"FROM busybox\nRUN true\n")  # and the files are not young any more
    with bench.started("build", "--progress=plain", "-t", "x", link) as process:
        wait_for_line(process, b"| begun")
        if what == "another":
            link.unlink()
            link.symlink_to(other)
        else:
            (bench.context / "Buildfile").unlink()
        (begun,) = bench.root.glob("cache/**/begun")
        begun.with_name("go").touch()
        assert process.wait() == 0
    done = bench.run("build", "--progress=plain", "-t", "x", link, code=None)
    if what == "another":
        assert bench.run("run", "--rm", "x", "cat", "/n").out == "2\n"
    else:
        assert "there is no Buildfile" in done.err


def _run(bench: Bench, *options: str, environ: dict[str, str] | None = None, cwd: Path | None = None, first: str = "") -> Done:
    """The build in a process of its own; the last line of its output says whether it was done. `first`: what that process does before."""
    arguments = bench.command("build", "--progress=plain", "-t", "x", *options)[3:]
    command = [sys.executable, "-c", first + PROGRAM.format(arguments=[*arguments, str(bench.context)])]
    environ = {**bench.environ, **(environ or {})}
    done = subprocess.run(command, cwd=cwd or bench.context, env=environ, capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def _how(bench: Bench, *options: str, environ: dict[str, str] | None = None, cwd: Path | None = None, first: str = "") -> str:
    done = _run(bench, *options, environ=environ, cwd=cwd, first=first)
    assert done.code == 0, done.err
    return done.out.splitlines()[-1]


def _same(bench: Bench) -> None:
    """Write a file anew, with the size and the time that it had."""
    path = bench.context / "src/two"
    before = path.stat()
    path.write_text("3")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _swapped(bench: Bench) -> None:
    (bench.context / "src/link").unlink()
    (bench.context / "src/link").symlink_to("deep")


def _committed(bench: Bench) -> None:
    for command in (["init", "-q"], ["-c", "user.name=n", "-c", "user.email=n@localhost", "commit", "-q", "--allow-empty", "-m", "m"]):
        subprocess.run(["git", *command], cwd=bench.context, check=True, capture_output=True, env=bench.environ)


CHANGES: dict[str, Callable[[Bench], object]] = {
    "content": lambda bench: bench.write({"src/deep/one": "11"}),
    "content of the same size and time": _same,
    "mode": lambda bench: (bench.context / "src/two").chmod(0o700),
    "mode of a directory": lambda bench: (bench.context / "src/empty").chmod(0o700),
    "another file": lambda bench: bench.write({"src/deep/three": ""}),
    "another match of a pattern": lambda bench: bench.write({"b.txt": ""}),
    "one file less": lambda bench: (bench.context / "a.txt").unlink(),
    "one directory less": lambda bench: (bench.context / "src/empty").rmdir(),
    "link": _swapped,
    "a file that a step needs": lambda bench: (bench.context / "src/deep/one").unlink(),
    "Buildfile": lambda bench: bench.write({"Buildfile": f"{TEXT}LABEL made=there\n"}),
    "ignore file": lambda bench: bench.write({".dockerignore": "src/two\n"}),
    "ignore file of the Buildfile": lambda bench: bench.write({"Buildfile.dockerignore": "src/two\n"}),
    "base": lambda bench: bench.run("tag", "y", "busybox"),
    "name": lambda bench: bench.run("tag", "y", "x"),
    "image": lambda bench: bench.run("rmi", "x"),
    "cache": lambda bench: bench.run("prune", "--all"),
    "blob": lambda bench: (bench.root / "blobs" / bench.manifest()["layers"][-1]["digest"].replace(":", "/")).unlink(),
    "commit": _committed,
}


OF_THE_CONTEXT = list(CHANGES)[: list(CHANGES).index("Buildfile")]


@pytest.mark.parametrize("what", CHANGES)
def test_what_changes_is_seen(noted: Bench, what: str) -> None:
    noted.run("build", "-q", "-t", "y", "-f", "-", noted.context, stdin=b"FROM scratch\nCOPY other /\n")
    noted.build(None)
    assert _how(noted) == "REPLAYED"
    CHANGES[what](noted)
    done = _run(noted)
    assert done.out.splitlines()[-1] == "DONE"
    assert ("KNOWN" in done.out) is (what in OF_THE_CONTEXT), "its graph is another one only where the Buildfile or a name is"
    fresh = noted.build(None, environ={"IMGBUILD_DISABLE": "replay"}, code=None)
    assert fresh.code == done.code
    if fresh.code:  # what came before it is not done a second time
        assert done.err[done.err.index("imgbuild: error") : done.err.index("its state is kept")] in fresh.err
    else:
        assert _outcome(fresh) == _outcome(done) or "performed" in done.err


@pytest.mark.parametrize("head", ["ref: refs/heads/led", "ref:refs/heads/real", "ref: refs/heads/\0", "broken"])
def test_commits_are_seen_however_they_are_found(bench: Bench, head: str) -> None:
    def git(directory: Path, *arguments: str, date: int = 0) -> None:
        command = ["git", "-c", "user.name=n", "-c", "user.email=n@localhost", *arguments]
        environ = {**bench.environ, "GIT_COMMITTER_DATE": f"{1_600_000_000 + date} +0000"}
        subprocess.run(command, cwd=directory, check=True, capture_output=True, env=environ)

    bench.write({"file": "1", "Buildfile": "FROM scratch\nCOPY file /\n"})
    work = bench.place if head == "broken" else bench.context
    git(work, "init", "-q", "-b", "real")
    git(work, "commit", "-q", "--allow-empty", "-m", "m")
    if head == "broken":
        bench.write({".git/HEAD": "ref: refs/heads/real\n"})
    else:
        git(work, "symbolic-ref", "refs/heads/led", "refs/heads/real")
        bench.write({".git/HEAD": f"{head}\n"})
    bench.run("build", "-q", "-f", "-", ".", stdin=b"FROM busybox\nRUN true\n")  # and the files are not young any more
    for _ in range(2):
        bench.build(None)
    if "\0" not in head:
        git(work, "commit", "-q", "--allow-empty", "-m", "m", date=1000)
    told = bench.build(None)
    done = bench.build(None, environ={"IMGBUILD_DISABLE": "replay"})
    assert told.err.splitlines()[-1] == done.err.splitlines()[-1]


def test_what_decides_nothing_changes_nothing(noted: Bench) -> None:
    noted.write({"other": "another"})
    assert _how(noted, environ={"EDITOR": "ed", "IRRELEVANT": "1"}) == "REPLAYED"


def _outcome(done: Done) -> tuple[list[str], str]:
    seconds = re.compile(r"\d+\.\d+ ?s|debug [0-9a-f]+")
    lines = [line for line in done.err.splitlines() if " MISS: " not in line]  # what is done a second time has another reason
    return [seconds.sub("", line) for line in lines], re.sub("^(REPLAYED|KNOWN|DONE)\n", "", done.out, flags=re.M)


def _edit(bench: Bench, text: str) -> None:
    """Change a file, which is not young any more then."""
    bench.write({"src/two": text})
    wait_until_old(bench.context / "src/two")


def test_edit_after_edit(noted: Bench) -> None:
    for text in ("22", "222", "2222"):
        _edit(noted, text)
        done = _run(noted)
        assert done.out.splitlines()[-2:] == ["KNOWN", "DONE"]
        assert "MISS: src/two changed (content" in done.err
        assert noted.run("run", "--rm", "x", "cat", "/src/two").out == text
        assert _how(noted) == "REPLAYED"


def test_after_an_edit_the_environment_still_counts(noted: Bench) -> None:
    option = ("--build-arg", "NAME")
    for _ in range(3):
        noted.run("build", "-q", "-t", "x", *option, noted.context, environ={"NAME": "ann"})
    _edit(noted, "22")
    assert "KNOWN" in _run(noted, *option, environ={"NAME": "ann"}).out
    assert _how(noted, *option, environ={"NAME": "ann"}) == "REPLAYED"
    assert "KNOWN" not in _run(noted, *option, environ={"NAME": "bob"}).out
    assert noted.run("run", "--rm", "x", "cat", "/name").out == "bob\n"


def _recorded_warnings(bench: Bench) -> str:
    return json.dumps(json.loads(bench.run("builds", "show", "--format=json").out)["warnings"])


def test_warnings_are_told_of_a_graph_that_is_known(noted: Bench) -> None:
    noted.write({"Buildfile": TEXT.replace("AS a", "as a")})
    options = ("--build-arg", "SOMETHING=1")
    for _ in range(3):
        _edit(noted, "2")
        lowered = _run(noted, *options)
    recorded = _recorded_warnings(noted)
    _edit(noted, "22")
    known = _run(noted, *options)
    assert "KNOWN" in known.out
    assert _recorded_warnings(noted) == recorded
    assert "FROM busybox as a" in recorded
    assert "FromAsCasing" in known.err
    assert "SOMETHING" in known.err

    def warnings(done: Done) -> str:
        return done.err[: done.err.index("\n#1 ")]

    assert warnings(known) == warnings(lowered)


def test_a_buildfile_that_is_written_just_then(noted: Bench) -> None:
    _edit(noted, "22")
    written = f"""
from imgbuild.engine import request
find_source = request.find_source
def found(*given):
    with open({str(noted.context / "Buildfile")!r}, "a") as file:
        file.write("LABEL late=1\\n")
    return find_source(*given)
request.find_source = found
"""
    done = _run(noted, first=written)
    assert "KNOWN" not in done.out
    assert noted.config()["Labels"] == {"made": "here", "late": "1"}


def test_a_base_that_has_lost_its_layer(bench: Bench) -> None:
    bench.run("build", "-q", "-t", "tool", "-", stdin=b"FROM busybox\nRUN echo 1 > /n\n")
    layer = bench.manifest("tool:latest")["layers"][-1]["digest"]
    bench.write({"src/two": "2", "Buildfile": "FROM tool AS t\nCOPY src /\nFROM scratch\nCOPY --from=t /two /\n"})
    for _ in range(3):
        _edit(bench, "2")
        bench.build(None)
    (bench.root / "blobs" / layer.replace(":", "/")).unlink()
    bench.write({"src/two": "22"})
    done = _run(bench)
    assert "KNOWN" not in done.out
    assert _outcome(bench.build(None, environ={"IMGBUILD_DISABLE": "replay"}, code=None)) == _outcome(done)


@pytest.mark.parametrize("mode", ["plain", "quiet", "none", "json", "rawjson"])
def test_it_says_what_the_build_says(noted: Bench, mode: str) -> None:
    noted.write({"Buildfile": TEXT.replace("AS a", "as a")})  # which lint has a word for
    for _ in range(3):
        noted.run("build", f"--progress={mode}", "-t", "x", "--build-arg", "SOMETHING=1", ".")
    command = ("build", f"--progress={mode}", "-t", "x", "--build-arg", "SOMETHING=1", ".")
    told = noted.run(*command)
    done = noted.run(*command, environ={"IMGBUILD_DISABLE": "replay"})

    def plain(text: str) -> str:
        text = re.sub(r'"(time|seconds|started|completed)": ("[^"]*"|[\d.e-]+)', r'"\1": 0', text)
        text = re.sub(r"\d+\.\d\d s", "", text)
        return "".join(line for line in text.splitlines(keepends=True) if "BlobFinished" not in line)

    assert (plain(told.out), plain(told.err)) == (plain(done.out), plain(done.err))
    assert mode != "plain" or ("FromAsCasing" in told.err and "SOMETHING" in told.err and "CACHED" in told.err)


def test_the_environment_counts_where_it_is_asked(noted: Bench) -> None:
    option = ("--build-arg", "NAME")
    for name in ("ann", "ann", "ann"):
        noted.run("build", "-q", "-t", "x", *option, noted.context, environ={"NAME": name})
    assert _how(noted, *option, environ={"NAME": "ann"}) == "REPLAYED"
    assert _how(noted, *option, environ={"NAME": "bob"}) == "DONE"
    assert noted.run("run", "--rm", "x", "cat", "/name").out == "bob\n"
    assert _how(noted, *option) == "DONE"
    assert noted.run("run", "--rm", "x", "cat", "/name").out == "nobody\n"
    assert _how(noted, environ={"SOURCE_DATE_EPOCH": "1700000001"}) == "DONE"


def test_settings_count(noted: Bench, tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    for _ in range(2):
        noted.build(None, environ=home)
    assert _how(noted, environ=home) == "REPLAYED"
    file = tmp_path / "config/imgbuild/imgbuild.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("compression: gzip\n")
    assert _how(noted, environ=home) == "DONE"
    assert noted.manifest()["layers"][-1]["mediaType"].endswith("gzip")


def test_which_buildfile_counts(bench: Bench) -> None:
    bench.write({"Dockerfile": "FROM busybox\nRUN echo 1 > /n\n"})
    for _ in range(2):
        bench.build(None)
    assert _how(bench) == "REPLAYED"
    bench.write({"Buildfile": "FROM busybox\nRUN echo 2 > /n\n"})
    assert _how(bench) == "DONE"
    assert bench.run("run", "--rm", "x", "cat", "/n").out == "2\n"


def test_a_named_buildfile_is_looked_for_here_first(bench: Bench, tmp_path: Path) -> None:
    bench.write({"other": "FROM busybox\nRUN echo 1 > /n\n"})
    for _ in range(2):
        bench.run("build", "-q", "-t", "x", "-f", "other", bench.context, cwd=tmp_path)
    assert _how(bench, "-f", "other", cwd=tmp_path) == "REPLAYED"
    (tmp_path / "other").write_text("FROM busybox\nRUN echo 2 > /n\n")
    assert _how(bench, "-f", "other", cwd=tmp_path) == "DONE"
    assert bench.run("run", "--rm", "x", "cat", "/n").out == "2\n"


@pytest.mark.parametrize(
    "options", [["--no-cache"], ["--pull"], ["--secret", "id=s,src=other"], ["-o", "type=oci,dest=out.tar"], ["--iidfile", "iid"]]
)
def test_what_has_to_be_done_in_any_case(noted: Bench, options: list[str]) -> None:
    for _ in range(3):
        done = _run(noted, *options)
        assert done.out.splitlines()[-1] == "DONE"


@pytest.mark.parametrize("text", ["FROM busybox\nTEST true\n", "FROM busybox\nINCLUDE part\n"])
def test_what_is_never_noted(bench: Bench, text: str) -> None:
    bench.write({"part": "RUN true\n"})
    for _ in range(3):
        bench.build(text)
    assert _how(bench) == "DONE"


@pytest.mark.parametrize("damage", [b"", b"x", b"\0" * 100, None])
def test_a_damaged_note_is_none(noted: Bench, damage: bytes | None) -> None:
    for note in (noted.root / "replays").iterdir():
        data = note.read_bytes()
        if damage is None:  # whole, and in no form that is known
            note.write_bytes(crc32(b"?").to_bytes(4, "little") + b"?")
        else:
            note.write_bytes(data[: len(data) // 2] + damage + data[len(data) // 2 + len(damage) + 1 :])
    assert _how(noted) == "DONE"
    assert _how(noted) == "REPLAYED"


def test_notes_are_bounded(bench: Bench) -> None:
    directory = bench.root / "replays"
    bench.build("FROM busybox\nRUN true\n")
    for number in range(120):
        (directory / f"{number:08x}").write_bytes(b"")
    bench.build(None, "--label", "a=b")
    assert len(list(directory.iterdir())) <= 100
    assert _how(bench, "--label", "a=b") == "REPLAYED"


def test_the_history_knows_of_it(noted: Bench) -> None:
    def told() -> int:
        return sum(line.startswith("=") for line in (noted.root / "history/journal").read_text().splitlines())

    before = told()
    assert _how(noted) == "REPLAYED"
    assert told() == before + 1


def test_a_base_that_gets_another_image_once_the_note_was_read(bench: Bench) -> None:
    bench.run("tag", "busybox", "base")
    bench.run("build", "-q", "-t", "other", "-", stdin=b"FROM busybox\nLABEL other=1\n")
    bench.write({"src/two": "2", "Buildfile": "FROM base\nCOPY src /\n"})
    for _ in range(3):
        _edit(bench, "2")
        bench.build(None)
    _edit(bench, "22")
    moved = f"""
import subprocess
from imgbuild.engine import replay
look_up = replay.look_up
def looked_up(*given):
    known = look_up(*given)
    subprocess.run({[str(word) for word in bench.command("tag", "other", "base")]!r}, check=True)
    return known
replay.look_up = looked_up
"""
    assert _how(bench, first=moved) == "DONE"
    assert _how(bench) in ("DONE", "REPLAYED")
    assert bench.config()["Labels"] == {"other": "1"}
