"""RUN: its forms, what its process sees, its limits, and its failures in words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import imgbuild

from .harness import EPOCH, NEEDS_GROUPS, Bench


def test_forms(bench: Bench) -> None:
    bench.build(r"""# syntax=docker/dockerfile:1
FROM busybox
RUN echo shell $((1+1)) \
    # a comment inside

    && echo more > /shell
RUN ["/bin/sh", "-c", "echo exec '$HOME' > /exec"]
RUN <<EOF
set -e
echo heredoc > /heredoc
echo "$HOME" >> /heredoc
EOF
RUN <<"EOF"
echo '$quoted' > /quoted
EOF
RUN <<-EOF
	echo tabs > /tabs
	EOF
RUN <<EOF
#!/bin/awk -f
BEGIN { print "shebang" > "/shebang" }
EOF
RUN cat > /piped <<EOF && cat > /two <<OTHER
one $HOME
EOF
two
OTHER
RUN cat <<'EOF' | tr a-z A-Z > /upper
loud $HOME
EOF
SHELL ["/bin/sh", "-ec"]
RUN echo $- > /flags
SHELL ["/bin/busybox", "echo"]
RUN not a command
""")
    files = bench.files()
    assert files["shell"].data == b"more\n"
    assert files["exec"].data == b"exec $HOME\n"
    assert files["heredoc"].data == b"heredoc\n/root\n"
    assert files["quoted"].data == b"$quoted\n"
    assert files["tabs"].data == b"tabs\n"
    assert files["shebang"].data == b"shebang\n"
    assert (files["piped"].data, files["two"].data) == (b"one /root\n", b"two\n")
    assert files["upper"].data == b"LOUD $HOME\n"
    assert b"e" in files["flags"].data
    assert not any(name.startswith(".imgbuild") for name in files)


def test_what_a_process_sees(bench: Bench) -> None:
    done = bench.build(r"""
FROM busybox
ENV MINE=1
RUN env | sort > /env; id > /id; pwd > /pwd; umask > /umask; hostname > /hostname
RUN mount | grep -c overlay; cat /proc/1/cmdline | tr '\0' ' '; ls /proc | grep -c '^[0-9]' > /processes; ls -A /dev > /devices
RUN cat /etc/resolv.conf > /dev/null && cat /etc/hosts > /hosts && readlink /proc/self/fd/0 > /stdin
USER ann
WORKDIR /home/ann
RUN env > /tmp/env; id > /tmp/id; pwd > /tmp/pwd; echo out; echo err >&2; touch here
USER 4711:50
RUN env > /tmp/env2; id > /tmp/id2
USER bob:staff
RUN id > /tmp/id3
""")
    files = bench.files()
    env = files["env"].data.decode().split()
    assert {"HOME=/root", "MINE=1", f"SOURCE_DATE_EPOCH={EPOCH}"} <= set(env)
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in env
    names = {entry.partition("=")[0] for entry in env}
    assert names <= {"HOME", "MINE", "SOURCE_DATE_EPOCH", "PATH", "PWD", "SHLVL", "OLDPWD"}
    assert files["id"].data == b"uid=0(root) gid=0(root)\n" or b"uid=0(root) gid=0(root)" in files["id"].data
    assert files["pwd"].data == b"/\n"
    assert files["umask"].data == b"0022\n"
    assert int(files["processes"].data) <= 4
    assert b"sda" not in files["devices"].data
    assert files["stdin"].data == b"/dev/null\n"
    assert b"HOME=/home/ann\n" in files["tmp/env"].data
    assert files["tmp/id"].data == b"uid=1000(ann) gid=1001(ann) groups=50(staff),1001(ann)\n"
    assert files["tmp/pwd"].data == b"/home/ann\n"
    assert (files["home/ann/here"].info.uid, files["home/ann/here"].info.gid) == (1000, 1001)
    assert b"HOME=/\n" in files["tmp/env2"].data
    assert files["tmp/id2"].data.startswith(b"uid=4711 gid=50(staff)")
    assert files["tmp/id3"].data.startswith(b"uid=1002(bob) gid=50(staff)")
    assert {"out", "err"} <= set(done.output)
    assert not {"etc/resolv.conf", "etc/hosts", "etc/mtab", "dev/null", "proc/self"} & set(files)


def test_no_network_means_no_interface_but_loopback(bench: Bench) -> None:
    bench.build("""
FROM busybox
RUN --network=none ls /sys/class/net > /none; ip addr show lo | grep -c UP >> /none
RUN --network=host ls /sys/class/net > /host
RUN --network=default true
""")
    files = bench.files()
    assert files["none"].data == b"lo\n1\n"
    assert b"lo\n" in files["host"].data


def test_a_workdir_is_made_once_for_the_user_and_through_symlinks(bench: Bench) -> None:
    bench.build("""
FROM busybox
WORKDIR /made/by/root
USER ann
WORKDIR sub
RUN pwd > /tmp/pwd
USER root
RUN mkdir /real && ln -s real /link && ln -s /etc /made/abs
WORKDIR /link/inside
RUN pwd -P > /tmp/physical
WORKDIR ../..
WORKDIR /made/abs
RUN pwd -P > /tmp/etc
WORKDIR /a//b/./c/../d/
""")
    files = bench.files()
    assert files["made/by/root/sub"].info.uid == 1000
    assert files["made/by/root"].info.uid == 0
    assert (files["made"].info.mode, files["made"].info.mtime) == (0o755, EPOCH)
    assert files["tmp/pwd"].data == b"/made/by/root/sub\n"
    assert files["tmp/physical"].data == b"/real/inside\n"
    assert "real/inside" in files
    assert not any(name.startswith("link/") for name in files)
    assert files["tmp/etc"].data == b"/etc\n"
    assert bench.config()["WorkingDir"] == "/a/b/d"


def test_a_workdir_that_is_there_makes_no_layer(bench: Bench) -> None:
    done = bench.build("FROM busybox\nWORKDIR /tmp\nRUN true\n")
    assert done.steps["WORKDIR /tmp"] == "DONE"
    before = len(bench.manifest()["layers"])
    done = bench.build("FROM busybox\nWORKDIR /tmp\nRUN true\n")
    assert done.steps["WORKDIR /tmp"] == "CACHED"
    assert len(bench.manifest()["layers"]) == before
    assert [entry.get("empty_layer", False) for entry in bench.image()["history"]][1] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN echo before; exit 3", ["exit code 3", "| before"]),
        ("RUN no-such-command", ["exit code 127", "not found"]),
        ('RUN ["no-such-command"]', ["no-such-command", "was not found in PATH"]),
        ('RUN ["/etc/passwd"]', ["not executable"]),
        ("RUN sh -c 'kill -9 $$'; exit $?", ["exit code 137", "KILL"]),
        ("RUN sh -c 'kill -11 $$'; exit $?", ["exit code 139", "SEGV"]),
        ("USER nobody-here\nRUN true", ["nobody-here", "/etc/passwd"]),
        ("USER ann:nogroup-here\nRUN true", ["nogroup-here", "/etc/group"]),
        ('SHELL ["/bin/none", "-c"]\nRUN true', ["/bin/none"]),
        ('RUN ["echo" "no comma"]', ["exit code 127", "JSON"]),
    ],
)
def test_failures_in_words(shared: Bench, text: str, words: list[str]) -> None:
    said = shared.refused(f"FROM busybox\n{text}\n", code=10 if text.startswith("USER") else 1)
    line = 2 + text.count("\n")
    assert f"Buildfile:{line}" in said
    for word in words:
        assert word in said


def test_no_shell_is_said(shared: Bench) -> None:
    said = shared.refused("FROM scratch\nRUN true\n", code=1)
    assert "no shell" in said


@NEEDS_GROUPS
def test_limits_are_held_and_said(bench: Bench) -> None:
    hog = "tail /dev/zero"
    said = bench.refused(f"FROM busybox\nRUN --memory=20m --memory-swap=20m {hog}\n", code=1)
    assert "memory" in said
    assert "limit 20.0 MiB" in said
    assert "peak" in said
    said = bench.refused("FROM busybox\nRUN --pids=8 for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 100 & done; wait\n", code=1)
    assert "fork" in said
    bench.build("FROM busybox\nRUN --cpus=0.5 --memory=64m --pids=50 true\n")
    bench.assert_whole()


def test_times_are_held_and_said(bench: Bench) -> None:
    said = bench.refused("FROM busybox\nRUN --timeout=300ms echo started; sleep 1000\n", code=1)
    assert "--timeout of 0.3 s" in said
    assert "| started" in said
    said = bench.refused("FROM busybox\nRUN --idle-timeout=300ms echo started; sleep 1000\n", code=1)
    assert "--idle-timeout of 0.3 s" in said
    bench.assert_whole()


def test_retry_starts_from_a_clean_root(bench: Bench) -> None:
    command = "test ! -e /trace && touch /trace && echo try >> /c/n && [ $(wc -l < /c/n) = 3 ]"
    done = bench.build(f"FROM busybox\nRUN --retry=2 --mount=type=cache,target=/c {command}\n")
    assert any("attempt 2 of 3" in line for line in done.output)
    assert "trace" in bench.files()
    said = bench.refused("FROM busybox\nRUN --retry=1 echo again; false\n", code=1)
    assert said.count("imgbuild: error") == 1


@pytest.mark.parametrize("bundle", ["", "bundle"])
def test_who_has_left_the_library_needs_no_more_of_it(bench: Bench, bundle: str) -> None:
    """What becomes a command sees its root alone: what it has not imported by then, it can't import. By the program itself, which starts
    with nothing, where Python's -m has a lot."""
    script = Path(imgbuild.__file__).with_name("cli") / "script" / "imgbuild"
    packages = [place for place in sys.path if place.endswith("-packages")]
    environ = {"PYTHONPATH": os.pathsep.join([str(Path(imgbuild.__file__).parents[1]), *packages]), "IMGBUILD_DISABLE": bundle}
    program = [sys.executable, "-S", str(script), "--root", str(bench.root)]
    bench.write({"said": "#! /bin/sh\t-e\necho said\n", "gone": "#!/gone\n"})
    bench.write({"Buildfile": "FROM busybox\nCOPY --chmod=755 said gone /bin/\nRUN said > /out\nCMD [\"said\"]\n"})

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        own = bench.environ | environ
        done = subprocess.run([*program, *words], env=own, capture_output=True, text=True, check=False, cwd=bench.context)
        assert done.returncode == code, done.stderr
        return done

    run("build", "-q", "-t", "y", ".")
    assert bench.files("y:latest")["out"].data == b"said\n"
    assert run("run", "--rm", "y").stdout == "said\n"
    assert "/gone" in run("run", "--rm", "y", "gone", code=127).stderr


@NEEDS_GROUPS
def test_limits_are_not_in_the_key(bench: Bench) -> None:
    bench.build("FROM busybox\nRUN --memory=64m echo > /f\n")
    done = bench.build("FROM busybox\nRUN --memory=65m --timeout=1m echo > /f\n")
    assert list(done.steps.values()) == ["CACHED"]


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("RUN --memory=lots true", 10, "lots"),
        ("RUN --cpus=-1 true", 10, "-1"),
        ("RUN --network=bridge true", 10, "bridge"),
        ("RUN --security=insecure true", 10, "--allow security.insecure"),
        ("RUN --device=/dev/fuse true", 10, "--allow device=/dev/fuse"),
        ("RUN --mont=type=tmpfs true", 10, "--mount"),
        ("RUN --mount=type=ssh,source=x true", 10, "source"),
        ("RUN --mount=type=tmp,target=/x true", 10, "tmpfs"),
        ("RUN --mount=type=cache true", 10, "target"),
        ("RUN --mount=type=bind,target=/ true", 10, "'/'"),
        ("RUN", 10, "command"),
        ("RUN []", 10, "command"),
        ("RUN <<EOF\nnever ends", 10, "EOF"),
        ("ADD --checksum=sha256:00 a /", 10, "checksum"),
        ("RNU true", 10, "RUN"),
        ("COPY --chwon=a b /c", 10, "--chown"),
        ("SHELL /bin/sh", 10, "JSON"),
        ('SHELL ["/bin/sh"', 10, "JSON"),
    ],
)
def test_refused_before_anything_runs(shared: Bench, text: str, code: int, words: str) -> None:
    said = shared.refused(f"FROM busybox\n{text}\n", code=code)
    assert words in said
    assert "Buildfile:2" in said


def test_bytes_that_are_no_text(bench: Bench) -> None:
    text = b"FROM busybox\nRUN <<END\necho h\xe9 > /run\nEND\nCOPY <<END /copy\nh\xe9\nEND\nCOPY d/* /d/\n"
    bench.write({"secret": "not to be found", os.fsdecode(b"d/1\xff"): "1", "d/2": "2", "Buildfile": text})
    bench.build(None)
    bench.build(None, "--secret", f"id=s,src={bench.context / 'secret'}")
    found = bench.run("run", "--rm", "x", "sh", "-c", "cat /run /copy /d/1* | od -An -tx1").out
    assert found.split() == ["68", "e9", "0a", "68", "e9", "0a", "31"]
    for path, instruction in (("/run", "RUN <<END"), ("/copy", "COPY <<END"), ("/d/2", "COPY d/*")):
        assert instruction in bench.run("blame", "x", path).out
    bench.run("fsck")


@pytest.mark.parametrize("option", [("--build-arg", "A"), ("--label", "a"), ("--annotation", "a")])
def test_options_that_are_no_text(bench: Bench, option: tuple[str, str]) -> None:
    bench.build("FROM busybox\nARG A=1\nENV B=$A\n", option[0], f"{option[1]}={os.fsdecode(bytes([0xFF]))}")
    assert bench.run("run", "--rm", "x", "sh", "-c", "echo $B").code == 0
    documents = f"{bench.config()}{bench.manifest()}"
    assert documents.count("\ufffd") == 1
