"""A failed step is an object: its cause is said from evidence, its state is kept for a while and can be entered."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from .harness import Bench, ended, wait_for_line

ELF = b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHI", 2, 183 if os.uname().machine == "x86_64" else 62, 1) + bytes(100)
SECRET = "a-word-that-nobody-else-says"
STATE = """
FROM busybox
ENV COLOR=blue
WORKDIR /work
USER ann
RUN --mount=type=cache,target=/c,mode=0777 --mount=type=bind,target=/src,rw --mount=type=secret,id=k,target=/run/k,uid=1000 \\
    echo left > /tmp/left; echo kept > /c/kept; echo over > /src/file 2>/dev/null; cat /run/k; exit 5
"""


def kept(bench: Bench) -> list[Path]:
    """The failed steps of the store."""
    return sorted(path for path in (bench.root / "failed").iterdir() if (path / "failure.json").exists())


CASES = [
    ("RUN echo before; gti status", {}, ["exit code 127", "'gti' was not found in PATH", "Buildfile:2:18", " | " + " " * 17 + "^^^\n"]),
    ("RUN true && \\\n    bsuybox", {}, ["did you mean busybox?", "Buildfile:3:5"]),
    ("COPY --chmod=755 s /s\nRUN /s", {"s": "#!/bin/bash\n"}, ["'/s' is there", "its first line names, '/bin/bash', is not"]),
    ('COPY --chmod=755 s /s\nRUN ["/s"]', {"s": "#!/bin/sh\r\n"}, ["did not start", "ends in CR LF", "line ends of Unix"]),
    ("COPY --chmod=755 s /s\nRUN /s", {"s": ELF}, ["is a program for", "--platform"]),
    ("COPY --chmod=644 s /s\nRUN /s", {"s": "true\n"}, ["exit code 126", "'/s' is not executable: its mode is 0644", "chmod"]),
    ("RUN --network=none wget http://nowhere.invalid/", {}, ["'nowhere.invalid' was not resolved: the step has --network=none"]),
    ("RUN mkdir /m; mount -t tmpfs x /m", {}, ["not permitted", "capability SYS_ADMIN", "security.insecure"]),
    ("RUN --mount=target=/src touch /src/x", {}, ["/src/x is below the step's mount at /src, which is read-only"]),
    ("RUN --mount=type=tmpfs,target=/t,size=1m dd if=/dev/zero of=/t/x", {}, ["no space was left on the device: /t is full"]),
    (
        "USER ann\nRUN touch /etc/x", {},
        ["code 1: permission was denied for /etc/x", "/etc belongs to 0:0, its mode is 0755", "user is 'ann'"],
    ),
    ("RUN echo 'x: No space left on device'; exit 4", {}, ["exit code 4\n", "note: its output mentions that no space was left"]),
    ("RUN (kill -11 $$) & wait; sh -c 'kill -11 $$' & wait $!", {}, ["exit code 139", "SIGSEGV"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "files", "words"), CASES)
def test_the_cause_is_said(shared: Bench, text: str, files: dict[str, str | bytes], words: list[str]) -> None:
    shared.write(files)
    said = shared.refused(f"FROM busybox\n{text}\n", code=1)
    for word in words:
        assert word in said
    assert "imgbuild debug " in said


@pytest.mark.skipif(not os.path.exists("/lib64/ld-linux-x86-64.so.2"), reason="needs another machine than arm64")
def test_programs_of_another_root(shared: Bench) -> None:
    """A program that is linked to libraries: without its loader, and without its libraries."""
    program, loader = "/usr/bin/env", "/lib64/ld-linux-x86-64.so.2"
    shutil.copy(program, shared.context / "p")
    shutil.copy(loader, shared.context / "ld")
    said = shared.refused("FROM busybox\nCOPY p /p\nRUN /p\n", code=1)
    assert f"'/p' is there, but its loader {loader} (PT_INTERP) is not" in said
    said = shared.refused(f"FROM busybox\nCOPY p /p\nCOPY --chmod=755 ld {loader}\nRUN /p\n", code=1)
    assert "the loader did not find the library libc.so.6" in said


def test_all_of_the_output_is_kept(bench: Bench) -> None:
    said = bench.refused("FROM busybox\nRUN seq 1 30000; echo end; false\n", code=1)
    assert "| end" in said
    assert said.count("  | ") == 30001  # once, while it ran
    done = bench.run("build", "--progress=none", bench.context, code=1)
    assert done.err.count("  | ") == 20
    (place,) = [place for place in kept(bench) if f"all 30001 lines of its output are in {place}/log" in done.err]
    assert (place / "log").read_text() == "".join(f"{number}\n" for number in range(1, 30001)) + "end\n"


def test_what_is_not_kept_of_much_output_is_not_called_all(bench: Bench) -> None:
    said = bench.refused("FROM busybox\nRUN yes 0123456789 | head -c 20m; exit 3\n", code=1)
    (place,) = kept(bench)
    assert f"the first and the last of the 1906501 lines of its output are in {place}/log" in said
    assert (place / "log").stat().st_size < 17 << 20


def test_the_state_is_entered_and_never_changed(bench: Bench) -> None:
    bench.write({"file": "in the context\n"})
    bench.build(STATE, "--secret", "id=k,env=K", code=1, environ={"K": SECRET})
    (place,) = kept(bench)
    before = {path: path.lstat().st_mtime_ns for path in place.rglob("*")}
    script = "id -un; pwd; echo $COLOR $HOME; cat /tmp/left /c/kept /src/file; ls /run/k 2>&1; cat /proc/1/comm"
    done = bench.run("debug", "last", "sh", "-c", script)
    assert done.out.splitlines()[:6] == ["ann", "/work", "blue /home/ann", "left", "kept", "in the context"]
    assert "the secret 'k' is not there" in done.err
    done = bench.run("debug", stdin=b"echo new > /tmp/left; echo new > /c/kept; rm /tmp/left; exit 9\n", code=9)
    assert done.err.count("notice") == 1
    assert bench.run("debug", place.name[:6], "cat", "/tmp/left", "/c/kept").out == "left\nkept\n"
    assert {path: path.lstat().st_mtime_ns for path in place.rglob("*")} == before
    done = bench.run("debug", "--secret", "id=k,env=K", "last", "cat", "/run/k", environ={"K": "another"})
    assert done.out == "another"
    assert done.err == ""
    bench.assert_whole()


def test_the_step_can_be_run_again_there(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN --timeout=20s echo n >> /n; cat /n; exit 3\n", code=1)
    done = bench.run("debug", "--continue-step", code=3)
    assert done.out == "n\nn\n"
    assert bench.run("debug", "--continue-step", code=3).out == "n\nn\n"
    assert "leave the other one out" in bench.run("debug", "--continue-step", "last", "true", code=125).err


def test_what_could_not_be_started_can_be_looked_at(bench: Bench) -> None:
    bench.build('FROM busybox\nRUN ["/none"]\n', code=1)
    assert bench.run("debug", "last", "ls", "/bin/busybox").out == "/bin/busybox\n"
    bench.build('FROM scratch\nCOPY Buildfile /f\nRUN ["/none"]\n', code=1)
    done = bench.run("debug", code=125)
    assert "there is no shell in the step's root" in done.err
    assert "imgbuild cp failed:" in done.err


def on_terminal(bench: Bench, typed: bytes, *words: str) -> tuple[int, str]:
    """Run imgbuild on a terminal of its own, with what somebody types there: its exit code, and what the terminal showed."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(bench.context)
        os.execve(sys.executable, bench.command(*words), {**bench.environ, "TERM": "linux"})
    os.write(master, typed)
    seen = b""
    with suppress(OSError):  # EIO is how a terminal ends
        while data := os.read(master, 4096):
            seen += data
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()


def test_on_a_terminal(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo left > /left; false\n", code=1)
    code, seen = on_terminal(bench, b"tty; cat /left; echo $TERM-$((40 + 2)); exit 6\n", "debug")
    assert code == 6
    assert "/dev/console" in seen or "/dev/pts/" in seen
    assert "left" in seen
    assert "linux-42" in seen


def test_entered_by_the_build_itself(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo left > /left; false\n"
    bench.write({"Buildfile": text})
    code, seen = on_terminal(bench, b"cat /left; echo $((40 + 2)); exit 6\n", "build", "--progress=plain", "--debug-on-failure", ".")
    assert code == 1
    assert "the command ended with exit code 1" in seen.partition("\n42")[0]
    assert "\n42" in seen
    assert "needs a terminal" in bench.refused(text, "--debug-on-failure", code=2)


def test_secrets_are_not_kept(bench: Bench) -> None:
    mounts = "--mount=type=secret,id=k,env=K --mount=type=secret,id=k"
    text = f"FROM busybox\nRUN {mounts} echo said $K; cat /run/secrets/k; seq 100; echo $K; false\n"
    proxy = f"HTTP_PROXY=http://me:{SECRET}@proxy.invalid"
    done = bench.build(text, "--secret", "id=k,env=K", "--build-arg", proxy, code=1, environ={"K": SECRET})
    (place,) = kept(bench)
    for path in place.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert "***" in (place / "log").read_text()
    assert SECRET not in done.err.partition("imgbuild: error")[2]


def test_listed_kept_and_let_go(bench: Bench) -> None:
    assert "no failed step is kept" in bench.run("debug", code=125).err
    settings = bench.place / "settings.yaml"
    settings.write_text("cache: {failed-steps: 2}\n")
    for number in (1, 2, 3):
        bench.run("--config", settings, "build", "-f", "-", ".", code=1, stdin=f"FROM busybox\nRUN exit {number}\n".encode())
    listed = json.loads(bench.run("debug", "--list", "--format=json").out)
    assert [entry["code"] for entry in listed] == [3, 2]
    assert listed[0]["cause"]["message"] == "the command ended with exit code 3"
    assert "RUN exit 3" in bench.run("debug", "--list").out
    bench.run("prune")
    assert len(kept(bench)) == 2
    os.utime(kept(bench)[0], (1, 1))
    settings.write_text("cache: {failed-steps: 0}\n")
    bench.run("--config", settings, "build", "-f", "-", ".", code=1, stdin=b"FROM busybox\nRUN exit 4\n")
    assert len(kept(bench)) == 2
    bench.run("prune", "--all")
    assert kept(bench) == []
    settings.write_text("cache: {failed-size: 1m}\n")
    large = b"FROM busybox\nRUN head -c 3000000 /dev/zero > /z; false\n"
    done = bench.run("--config", settings, "build", "-f", "-", ".", code=1, stdin=large)
    assert "its state is not kept" in done.err
    assert kept(bench) == []


def test_what_it_stands_on_stays_with_it(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo below > /below\nRUN echo above > /above; false\n", code=1)
    bench.run("rmi", "-f", "busybox")
    bench.run("prune")
    assert bench.run("debug", "last", "cat", "/below", "/above").out == "below\nabove\n"
    assert "damaged" not in bench.run("fsck").out
    (place,) = kept(bench)
    shutil.rmtree(place / "fs")
    done = bench.run("fsck", code=17)
    assert f"failed {place.name}: what it wrote is missing" in done.out
    bench.run("fsck", "--repair")
    assert kept(bench) == []
    bench.run("fsck")


def test_the_record_of_the_build_has_the_evidence_and_the_cost(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN echo x > /x; gti\n", code=1)
    (step,) = json.loads(bench.run("builds", "show", "--format", "json").out)["steps"]
    assert step["outcome"] == "failed"
    assert step["usage"]["wall_seconds"] > 0
    assert "'gti' was not found in PATH" in step["error"]["message"]
    assert f"imgbuild debug {kept(bench)[0].name}" in step["error"]["notes"]
    assert "note: searched: PATH=" in bench.run("builds", "show").out


def test_a_test_that_fails_is_kept_too(bench: Bench) -> None:
    done = bench.build("FROM busybox\nRUN echo built > /b\nTEST echo tested > /t; false\n", code=1)
    assert "imgbuild debug " in done.err
    assert bench.run("debug", "last", "cat", "/b", "/t").out == "built\ntested\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing-like-it"], "there is no failed step 'nothing-like-it'"),
        (["--list", "last", "x"], "--list takes nothing else"),
        (["last", "no-such-command"], "not found"),
    ],
)
def test_refused(shared: Bench, words: list[str], said: str) -> None:
    shared.build("FROM busybox\nRUN false\n", code=1)
    done = shared.run("debug", *words, code=None)
    assert done.code in (125, 127)
    assert said in done.err


def test_a_silent_step_says_once_what_it_waits_for(bench: Bench) -> None:
    settings = bench.place / "settings.yaml"
    settings.write_text("silence: 100ms\n")
    bench.write({"Buildfile": "FROM busybox\nRUN echo begun; mkfifo /f; cat /f | sleep 1000\n"})
    with bench.started("--config", settings, "build", "--progress=plain", ".") as process:
        seen = wait_for_line(process, b"sleeps")
        code, rest = ended(process, signal.SIGINT)
    assert code == 130
    text = seen.decode() + rest
    assert text.count("has written nothing for") == 1
    assert "`sleep 1000` (process" in text
    assert "`cat /f` (process" in text
