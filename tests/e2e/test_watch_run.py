"""`imgbuild run --watch`: another container whenever the image is another one."""

from __future__ import annotations

import signal
import subprocess

from .harness import PATIENCE, Bench, ended, wait_for_line
from .test_watch import session

SERVES = """FROM busybox
COPY text /
STOPSIGNAL USR1
CMD ["sh", "-c", "trap 'echo bye; exit 0' USR1; cat /text; sleep 1000 & wait"]
"""


def lines(process: subprocess.Popen[bytes], *wanted: str) -> None:
    """The next lines of containers; those of builds are on the other stream."""
    assert process.stdout is not None
    for line in wanted:
        assert process.stdout.readline().decode().strip() == line


def over(bench: Bench, process: subprocess.Popen[bytes], signum: signal.Signals = signal.SIGINT, code: int = 130) -> str:
    ended_with, err = ended(process, signum)
    assert ended_with == code, err
    assert session(process.pid) == []
    assert bench.run("ps", "-a", "-q").out == ""
    assert "watch" not in bench.run("images").out
    bench.assert_whole()
    return err


def test_a_context_is_built_and_run_again(bench: Bench) -> None:
    bench.write({"Buildfile": SERVES, "text": "one\n"})
    with bench.started("run", "--watch", "--name", "served", ".") as process:
        lines(process, "one")
        bench.write({"text": "two\n"})
        lines(process, "bye", "two")
        assert "served" in bench.run("ps").out
        # A build that fails leaves the container as it is.
        bench.write({"Buildfile": "FROM busybox\nCOPI\n"})
        wait_for_line(process, b"imgbuild: error")
        assert "served" in bench.run("ps").out
        bench.write({"Buildfile": SERVES.replace("cat /text", "echo three")})
        lines(process, "bye", "three")
        over(bench, process)


def test_a_name_is_watched(bench: Bench) -> None:
    bench.write({"Buildfile": SERVES, "text": "one\n"})
    bench.run("build", "-t", "app", ".")
    with bench.started("run", "--watch", "-e", "A=1", "app") as process:
        lines(process, "one")
        bench.run("tag", "app", "other")
        bench.write({"text": "two\n"})
        bench.run("build", "-t", "app", ".")
        lines(process, "bye", "two")
        bench.run("build", "-t", "app", "--no-cache", ".")  # the same image
        bench.run("tag", "other", "app")
        lines(process, "bye", "one")
        err = over(bench, process, signal.SIGTERM, 143)
        assert err.count("the image is another one: restarting") == 2


def test_what_ends_by_itself(bench: Bench) -> None:
    bench.write({"Buildfile": 'FROM busybox\nCOPY text /\nCMD ["sh", "-c", "cat /text; exit 7"]\n', "text": "one\n"})
    with bench.started("run", "--watch", "./") as process:
        lines(process, "one")
        wait_for_line(process, b"the container has ended with exit code 7: waiting for another image\n")
        bench.write({"text": "two\n"})
        lines(process, "two")
        over(bench, process)


def test_who_dies_takes_the_container_and_the_build_along(bench: Bench) -> None:
    bench.write({"Buildfile": 'FROM busybox\nCMD ["sh", "-c", "trap exit TERM; echo ready; while :; do sleep 0.1; done"]\n'})
    with bench.started("run", "--watch", "./") as process:
        lines(process, "ready")
        process.kill()
        assert process.stderr is not None
        process.stderr.read()  # to its end: nobody has it any more
    assert bench.run("ps", "-aq").out == ""
    assert bench.processes() == []


def test_refused(bench: Bench) -> None:
    def refused(*words: str) -> str:
        done = bench.run("run", "--watch", *words, code=125)
        assert len(done.errors) == 1, done.err
        return done.err

    assert "no use for --detach" in refused("-d", "busybox")
    assert "no use for --interactive" in refused("-i", "busybox")
    assert "no use for --tty" in refused("-t", "busybox")
    assert "no use for --cidfile" in refused("--cidfile", "x", "busybox")
    assert "there is no image nothing in the store" in refused("nothing")
    assert "there is no image" in refused("context")  # a name, as it is not written as a directory
    bench.write({"file": ""})
    for path, code, problem in (("./nowhere", 12, "'./nowhere' does not exist"), ("./file", 2, "'./file' can't be watched: it is a tar")):
        assert problem in bench.run("run", "--watch", path, code=code).err


def test_no_watches_are_left(bench: Bench) -> None:
    limited = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", limited, "sh", *bench.command("run", "--watch", "busybox")],
        cwd=bench.context, env=bench.environ, capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 125, done.stderr
    assert "1 directory is to be watched, which the kernel does not allow" in done.stderr
    assert "fs.inotify.max_user_instances" in done.stderr
