"""`imgbuild build --watch`: what makes it build again, and what does not. What is waited for is a line that it says."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from .harness import PATIENCE, Bench, ended, wait_for_line
from .servers import Page, serving_files

WAITING = b"imgbuild: waiting for changes\n"
FILES = "FROM scratch\nCOPY src /src\nCOPY *.txt /\n"


class Watching:
    """A build that watches, and has built once."""

    def __init__(self, bench: Bench, process: subprocess.Popen[bytes]) -> None:
        self.bench = bench
        self.process = process
        self.first = self.waited()

    def waited(self) -> str:
        """What is said until it waits again."""
        return wait_for_line(self.process, WAITING).decode()

    def after(self, files: Mapping[str, str]) -> str:
        """Write files of the context, and have it build; the line that says what has changed."""
        with self.at_once():
            self.bench.write(files)
        return self.said()

    def said(self) -> str:
        line, _, rest = self.waited().partition("\n")
        assert ": building" not in rest, rest
        return line.removeprefix("imgbuild: ")

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """What is done inside happens between two looks."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)
        yield
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def watching(bench: Bench, *options: str | Path) -> Iterator[Watching]:
    with bench.started("build", "--progress=plain", "-t", "x", "--watch", *options, ".") as process:
        yield Watching(bench, process)
        assert ended(process, signal.SIGINT)[0] == 130
        assert session(process.pid) == []


def session(leader: int) -> list[str]:
    """The processes of a session that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "stat").read_text()
        except OSError:
            continue
        if status.rpartition(")")[2].split()[3] == str(leader):
            found.append(status)
    return found


def test_what_is_read_is_built_again(bench: Bench) -> None:
    bench.write({"Buildfile": FILES, "src/main": "1", "a.txt": "1", "unread": "1"})
    with watching(bench) as watch:
        assert watch.after({"unread": "2", "other": "", "src/main": "2"}) == "src/main changed: building"
        assert watch.after({"b.txt": ""}) == "b.txt added: building"
        (bench.context / "a.txt").unlink()
        assert watch.said() == "a.txt removed: building"
        assert watch.after({"src/deep/er/file": ""}) == "src/deep added: building"
        assert watch.after({"src/deep/er/file": "2"}) == "src/deep/er/file changed: building"
        assert bench.run("plan", "--exit-code", bench.context).code == 0
        (bench.context / "src" / "main").chmod(0o600)
        assert watch.said() == "src/main changed: building"
    bench.assert_whole()


def test_the_buildfile_and_what_goes_with_it(bench: Bench) -> None:
    bench.write({"Buildfile": "INCLUDE more/one\nCOPY . /\n", "more/one": "FROM scratch\n"})
    bench.write({".dockerignore": "no*\nBuild*\nmore\n", "yes": ""})
    with watching(bench) as watch:
        assert watch.after({"no": "", "more/one": "FROM scratch\nINCLUDE two\n"}) == "more/one changed: building"
        assert watch.after({"more/two": "ENV A=1\n"}) == "more/two added: building"
        assert watch.after({"more/two": "ENV A=2\n", "more/three": ""}) == "more/two changed: building"
        assert watch.after({"no": "2", ".dockerignore": "Build*\nmore\n"}) == ".dockerignore changed: building"
        assert watch.after({"no": "3"}) == "no changed: building"
        # The Buildfile's own is read instead from now on.
        assert watch.after({"Buildfile.dockerignore": "no*\nBuild*\nmore\n"}) == "Buildfile.dockerignore added: building"
        assert watch.after({".dockerignore": "", "no": "4", "yes": "2"}) == ".dockerignore, yes changed: building"


def test_mounts_contexts_and_other_buildfiles(bench: Bench, tmp_path: Path) -> None:
    other, file = tmp_path / "other", tmp_path / "Other.file"
    other.mkdir()
    (other / "read").write_text("1")
    steps = ("RUN --mount=target=/in,source=in cat /in/*", "COPY --from=lib read /", "TEST --mount=target=/t,source=t true")
    file.write_text("\n".join(("FROM busybox", *steps, "")))
    bench.write({"in/file": "1", "t/file": "1"})
    with watching(bench, "-f", file, "--build-context", f"lib={other}") as watch:
        assert watch.after({"in/file": "2", "out": ""}) == "in/file changed: building"
        (other / "unread").write_text("")
        (other / "read").write_text("2")
        assert watch.said() == "lib: read changed: building"
        assert watch.after({"t/file": "2"}) == "t/file changed: building"
        file.write_text(f"{file.read_text()}ENV A=1\n")
        assert watch.said() == f"{file} changed: building"
    assert bench.config()["Env"][-1] == "A=1"


def test_secrets_that_are_keyed(bench: Bench, tmp_path: Path) -> None:
    for name in ("keyed", "other", "unread"):
        (tmp_path / name).write_text("1")
    mounts = "--mount=type=secret,id=keyed --mount=type=secret,id=other"
    bench.write({"Buildfile": f"FROM busybox\nRUN {mounts} true\n"})
    given = [f"--secret=id={name},src={tmp_path / name}{more}" for name, more in (("keyed", ""), ("other", ",keyed=false"), ("unread", ""))]
    with watching(bench, *given) as watch:
        for name in ("other", "unread", "keyed"):
            (tmp_path / name).write_text("2")
        assert watch.said() == f"{tmp_path / 'keyed'} changed: building"


def test_what_editors_and_programs_do(bench: Bench) -> None:
    bench.write({"Buildfile": FILES, "src/main": "1", "a.txt": "1"})
    context = bench.context
    with watching(bench) as watch:
        # Saved by a rename, with a backup that is gone again, and a trial file.
        with watch.at_once():
            (context / "src" / "4913").touch()
            (context / "src" / "4913").unlink()
            (context / "src" / "main").rename(context / "src" / "main~")
            (context / "src" / "main").write_text("2")
            (context / "src" / "main~").unlink()
        assert watch.said() == "src/main changed: building"
        # A directory is replaced, and what is in the new one is heard of.
        with watch.at_once():
            shutil.copytree(context / "src", context / "new")
            (context / "new" / "main").write_text("3")
            (context / "src").rename(context / "old")
            (context / "new").rename(context / "src")
        assert watch.said() == "src changed: building"
        assert watch.after({"old/main": "9", "src/main": "4"}) == "src/main changed: building"
        # All of it is gone for a while.
        shutil.rmtree(context / "src")
        assert "src" in watch.waited()
        assert watch.after({"src/main": "5"}) == "src added: building"
        assert bench.run("plan", "--exit-code", context).code == 0


def test_symlinks(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nCOPY link dir /\n", "link": "-> real", "real": "1", "else": "1"})
    bench.write({"dir": "-> there", "there/file": "1"})
    (bench.context / "Buildfile").rename(bench.context / "written")
    (bench.context / "Buildfile").symlink_to("written")
    with watching(bench) as watch:
        assert watch.after({"real": "2"}) == "real changed: building"
        assert watch.after({"there/file": "2"}) == "there/file changed: building"
        with watch.at_once():
            (bench.context / "link").unlink()
            (bench.context / "link").symlink_to("else")
        assert watch.said() == "link changed: building"
        assert watch.after({"real": "3", "else": "2"}) == "else changed: building"
        assert watch.after({"written": "FROM scratch\nCOPY else /\n"}) == "Buildfile changed: building"


def test_a_checkout_of_thousands_of_files(bench: Bench) -> None:
    def git(*words: str) -> None:
        environ = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b"}
        environ |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
        subprocess.run(["git", *words], cwd=bench.context, check=True, capture_output=True, env=environ)

    bench.write({"Buildfile": "FROM scratch\nCOPY src /src\n", ".dockerignore": ".git\n"})
    bench.write({f"src/{number % 50}/{number}": "1" for number in range(3000)})
    git("init", "-q", "-b", "one")
    git("add", ".")
    git("commit", "-qm", "one")
    git("checkout", "-qb", "two")
    shutil.rmtree(bench.context / "src" / "7")
    bench.write({f"src/{number % 50 + 20}/{number}": "2" for number in range(3000)})
    git("add", ".")
    git("commit", "-qm", "two")
    with watching(bench) as watch:
        git("checkout", "-q", "one")
        watch.waited()
        while bench.run("plan", "--exit-code", bench.context, code=None).code:
            watch.waited()
        git("checkout", "-q", "two")
        watch.waited()
        while bench.run("plan", "--exit-code", bench.context, code=None).code:
            watch.waited()


def test_what_fails_waits_for_the_next_change(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nCOPY file /\nRUN grep good /file\n"})
    with watching(bench) as watch:
        assert "'file' not found" in watch.first
        bench.write({"file": "bad"})
        said = watch.waited()
        assert said.startswith("imgbuild: file added: building\n")
        assert "the command ended with exit code 1" in said
        assert watch.after({"file": "good"}) == "file changed: building"
        bench.write({"Buildfile": "FROM busybox\nCOPI file /\n"})
        assert "unknown instruction" in watch.waited().lower()
        # What the contexts were before is watched on, for who has not looked at the Buildfile yet.
        (bench.context / "Buildfile").unlink()
        assert "there is no Buildfile" in watch.waited()
        assert watch.after({"Containerfile": "FROM busybox\nCOPY file /\n"}) == "Containerfile added: building"


def test_a_change_during_a_build_makes_another_one(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gate:
        port = gate.getsockname()[1]
        bench.write({"Buildfile": f"FROM busybox\nCOPY file /\nRUN nc 127.0.0.1 {port} </dev/null; cat /file\n", "file": "one\n"})
        with bench.started("build", "--progress=plain", "-t", "x", "--watch", ".") as process:
            connection, _ = gate.accept()
            bench.write({"file": "two\n"})
            connection.close()
            assert b"| one\n" in wait_for_line(process, b"imgbuild: file changed: building\n")
            gate.accept()[0].close()
            assert b"| two\n" in wait_for_line(process, WAITING)
            assert ended(process, signal.SIGINT)[0] == 130


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_is_ended_while_it_builds(bench: Bench, signum: signal.Signals, code: int) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo ready; sleep 1000\n"})
    with bench.started("build", "--progress=plain", "-t", "x", "--watch", ".") as process:
        wait_for_line(process, b"| ready")
        os.killpg(process.pid, signum)
        ended_with, err = ended(process)
        assert ended_with == code
        assert "imgbuild: " not in err
        assert session(process.pid) == []
    bench.assert_whole()


def test_it_is_ended_by_sigterm_while_it_waits(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nENV A=1\n"})
    with bench.started("build", "--progress=plain", "--watch", ".") as process:
        wait_for_line(process, WAITING)
        assert ended(process, signal.SIGTERM) == (143, "")
        assert session(process.pid) == []


def test_who_dies_takes_the_next_build_along(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nENV A=1\n"})
    with bench.started("build", "--progress=plain", "--watch", ".") as process:
        wait_for_line(process, WAITING)
        others = [os.pidfd_open(int(status.split()[0])) for status in session(process.pid) if int(status.split()[0]) != process.pid]
        assert len(others) == 1
        process.kill()
        assert select.select(others, [], [], PATIENCE)[0] == others
        os.close(others[0])


def test_who_dies_takes_the_build_along(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM busybox\nRUN echo ready; sleep 1000\n"})
    with bench.started("build", "--progress=plain", "--watch", ".") as process:
        wait_for_line(process, b"| ready")
        numbers = [int(status.split()[0]) for status in session(process.pid)]
        others = [os.pidfd_open(number) for number in numbers if number != process.pid]
        assert others
        process.kill()
        for other in others:
            assert select.select([other], [], [], PATIENCE)[0]
            os.close(other)
    bench.assert_whole()


def test_it_ends_when_nobody_reads_any_more(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nCOPY file /\n", "file": "1"})
    with bench.started("build", "--progress=plain", "--watch", ".") as process:
        wait_for_line(process, WAITING)
        assert process.stderr is not None
        process.stderr.close()
        bench.write({"file": "2"})
        assert process.wait(PATIENCE) == 141
        assert session(process.pid) == []


def test_what_the_build_writes_is_no_change(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nCOPY . /\n", "file": "1"})
    outputs = ("--iidfile", "id", "--metadata-file", "facts.json", "--output", "type=local,dest=out", "--output", "type=oci,dest=image.tar")
    with watching(bench, *outputs) as watch:
        assert watch.after({"file": "2"}) == "file changed: building"
        assert watch.after({"file": "3"}) == "file changed: building"


def test_names_that_are_no_text(bench: Bench) -> None:
    bench.write({"Buildfile": FILES, "src/main": "1", "a.txt": ""})
    odd = Path(os.fsdecode(os.fsencode(bench.context / "src") + b"/\xff"))
    with watching(bench) as watch:
        with watch.at_once():
            odd.write_text("")
        assert "something whose name is no text changed" in watch.said()
        assert watch.after({"src/main": "2"}) == "src/main changed: building"
        with watch.at_once():
            odd.write_text("2")
            bench.write({"src/main": "3"})
        assert watch.said() == "src/main, src/\\xff changed: building"
        odd.read_text()
        assert watch.after({"src/a\x1b[31m": ""}) == "src/a\\x1b[31m added: building"


def test_only_ids_where_it_is_quiet(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nCOPY file /\n", "file": "1"})
    with bench.started("build", "--quiet", "--watch", ".") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        bench.write({"file": "2"})
        assert process.stdout.readline() != first
        code, err = ended(process, signal.SIGINT)
        assert (code, err.strip()) == (130, "")


def test_refused(bench: Bench, tmp_path: Path) -> None:
    bench.write({"Buildfile": "FROM scratch\n"})
    with tarfile.open(tmp_path / "context.tar", "w") as tar:
        tar.add(bench.context / "Buildfile", "Buildfile")

    def refused(*words: str | Path, code: int = 2) -> str:
        done = bench.run("build", "--watch", *words, code=code)
        assert len(done.errors) == 1, done.err
        return done.err

    assert "it is stdin" in refused("-")
    assert "it is a tar" in refused(tmp_path / "context.tar")
    assert "it is fetched" in refused("https://127.0.0.1:1/x.git")
    assert "a Buildfile from stdin can't change" in refused("-f", "-", ".")
    assert "leave out --call" in refused("--check", ".")
    assert "leave out --call" in refused("--call=outline", ".")
    assert "--tag" in refused("-t", "A B", ".")
    assert "does not exist" in refused("nowhere", code=12)
    assert "no such option" in bench.run("plan", "--watch", ".", code=2).err.lower()


def test_a_context_that_is_fetched_is_said(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nCOPY --from=lib context /\nCOPY own /\n", "own": "1"})
    with serving_files() as files:
        files.pages["/x"] = Page(b"text")
        with watching(bench, "--build-context", f"lib={files.url}/x") as watch:
            assert "notice: the context lib is fetched, so its changes are not seen\n" in watch.first
            assert watch.after({"own": "2"}) == "own changed: building"


def test_too_many_directories(bench: Bench) -> None:
    bench.write({"Buildfile": "FROM scratch\nCOPY src /\n", **{f"src/{number}/": "" for number in range(20)}})
    limited = 'echo 8 > /proc/sys/user/max_inotify_watches && exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh", *bench.command("build", "--watch", ".")],
        cwd=bench.context, env=bench.environ, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 20, done.stderr
    assert "23 directories are to be watched, which the kernel does not allow" in done.stderr
    assert "fs.inotify.max_user_watches" in done.stderr
    assert json.loads((bench.root / "index.json").read_text())["manifests"]
