"""ARG, ENV and build args: scopes, ranks, expansion, and what of them is seen where."""

from __future__ import annotations

import os

import pytest

from .harness import Bench


def env_of(bench: Bench, path: str = "env") -> dict[str, str]:
    return dict(line.split("=", 1) for line in bench.files()[path].data.decode().splitlines() if "=" in line)


def test_scopes(bench: Bench) -> None:
    bench.build("""
ARG BASE=busybox
ARG GLOBAL=global
ARG DERIVED=$GLOBAL-derived
FROM $BASE AS one
ARG GLOBAL
ARG DERIVED
ARG LOCAL=local
ARG NOTHING
ENV KEPT=$LOCAL
RUN env > /one; echo "[${NOTHING-unset}]" >> /one
FROM ${BASE} AS two
RUN env > /two
FROM one AS child
ARG LATER=later
RUN env > /child
FROM busybox
COPY --from=one /one /
COPY --from=two /two /
COPY --from=child /child /
""")
    one, two, child = (env_of(bench, name) for name in ("one", "two", "child"))
    assert (one["GLOBAL"], one["DERIVED"], one["LOCAL"], one["KEPT"]) == ("global", "global-derived", "local", "local")
    assert "BASE" not in one
    assert bench.files()["one"].data.endswith(b"[unset]\n")
    assert not {"GLOBAL", "LOCAL", "KEPT"} & set(two)
    assert (child["GLOBAL"], child["LOCAL"], child["KEPT"], child["LATER"]) == ("global", "local", "local", "later")


def test_build_args_win_over_defaults_and_env_wins_over_args(bench: Bench) -> None:
    text = """
ARG G=default
FROM busybox
ARG G
ARG A=default B=default
ARG E=arg
ENV E=env
ARG H
RUN env > /env
"""
    bench.build(text, "--build-arg", "G=given", "--build-arg", "A=given", "--build-arg", "E=given", "--build-arg", "H=")
    env = env_of(bench)
    assert (env["G"], env["A"], env["B"], env["E"], env["H"]) == ("given", "given", "default", "env", "")
    assert [entry for entry in bench.config()["Env"] if not entry.startswith("PATH=")] == ["E=env"]


def test_a_build_arg_without_a_value_comes_from_the_environment(bench: Bench) -> None:
    text = "FROM busybox\nARG A=default\nARG B=default\nRUN env > /env\n"
    bench.build(text, "--build-arg", "A", "--build-arg", "B", environ={"A": "of the machine"})
    env = env_of(bench)
    assert (env["A"], env["B"]) == ("of the machine", "default")


def test_platform_args_must_be_declared(bench: Bench) -> None:
    text = """
FROM --platform=$BUILDPLATFORM busybox AS named
RUN env > /none
ARG TARGETPLATFORM
ARG TARGETARCH TARGETOS BUILDOS TARGETVARIANT BUILDARCH TARGETSTAGE
RUN env > /some
"""
    bench.build(text, "--target", "NAMED")
    assert "TARGETPLATFORM" not in env_of(bench, "none")
    env = env_of(bench, "some")
    assert env["TARGETPLATFORM"] == f"{env['TARGETOS']}/{env['TARGETARCH']}"
    assert env["TARGETOS"] == env["BUILDOS"] == "linux"
    assert env["BUILDARCH"] == env["TARGETARCH"] == {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, env["BUILDARCH"])
    assert env["TARGETSTAGE"].lower() == "named"


def test_proxies_are_seen_but_leave_no_trace(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo $http_proxy-$HTTPS_PROXY > /proxy\nRUN echo 2 > /two\n"
    proxy = "http://user:hunter2@proxy.example:3128"
    bench.build(text, "--build-arg", f"http_proxy={proxy}", "--build-arg", "HTTPS_PROXY=s")
    assert bench.files()["proxy"].data.decode() == f"{proxy}-s\n"
    assert not any("proxy.example" in line for line in bench.history())
    done = bench.build(text, "--build-arg", "http_proxy=other")
    assert set(done.steps.values()) == {"CACHED"}
    done = bench.build(text)
    assert set(done.steps.values()) == {"CACHED"}


def test_expansion_everywhere(bench: Bench) -> None:
    bench.write({"src/a.txt": "a", "src/b.txt": "b"})
    bench.build(r"""
ARG TAG=latest
FROM busybox:${TAG}
ARG dir=/srv name=a user=ann port=8080 signal=TERM
ENV abs=$dir/abs
WORKDIR $abs
WORKDIR ${name:-never}/x
COPY src/${name}.txt ${dir}/copied
COPY --chown=$user:${none:-staff} src/b.txt $dir/owned
ADD src/$name.txt ./added
USER $user
EXPOSE $port/tcp
STOPSIGNAL SIG$signal
VOLUME $dir/vol
LABEL key.$name="v $name" single='$name' esc=\$name
ENV braces=${name}y plus=${name:+set} minus="${nope:-d e f}" cut=${dir#/} slash=${dir/s/z}
CMD echo $name
""")
    config = bench.config()
    assert config["WorkingDir"] == "/srv/abs/a/x"
    files = bench.files()
    assert files["srv/copied"].data == files["srv/abs/a/x/added"].data == b"a"
    assert (files["srv/owned"].info.uid, files["srv/owned"].info.gid) == (1000, 50)
    assert config["User"] == "ann"
    assert list(config["ExposedPorts"]) == ["8080/tcp"]
    assert config["StopSignal"] == "SIGTERM"
    assert list(config["Volumes"]) == ["/srv/vol"]
    assert config["Labels"] == {"key.a": "v a", "single": "$name", "esc": "$name"}
    env = dict(entry.split("=", 1) for entry in config["Env"])
    assert (env["braces"], env["plus"], env["minus"], env["cut"], env["slash"]) == ("ay", "set", "d e f", "srv", "/zrv")
    assert config["Cmd"] == ["/bin/sh", "-c", "echo $name"]


def test_one_line_of_env_sees_what_was_before_it(bench: Bench) -> None:
    bench.build("FROM busybox\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n")
    assert bench.config()["Env"][1:] == ["abc=bye", "def=hello", "ghi=bye"]


def test_a_build_arg_that_nothing_declares_is_said_once(bench: Bench) -> None:
    given = (word for pair in ("USED=1", "NOBODY=1", "no_proxy=x") for word in ("--build-arg", pair))
    done = bench.build("ARG USED\nFROM busybox\nRUN true\n", *given)
    notices = [line for line in done.err.splitlines() if line.startswith("notice:")]
    assert len(notices) == 1
    assert "NOBODY" in notices[0]
    assert "USED" not in notices[0]
    assert "no_proxy" not in notices[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("FROM $NOTHING\n", "empty"),
        ("FROM busybox\nCOPY $nothing /x\n", "empty"),
        ("FROM busybox\nENV a=${b:?must be given}\n", "must be given"),
        ("FROM busybox\nENV a=${b\n", "'}'"),
        ("FROM busybox\nWORKDIR ${a!b}\n", "modifier"),
    ],
)
def test_expansion_that_fails_is_located(shared: Bench, text: str, words: str) -> None:
    said = shared.refused(text, code=10)
    assert words in said
    assert "Buildfile:" in said
    assert "^" in said


def test_args_are_in_history_and_env_and_args_in_the_key(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo before\nARG V\nRUN echo after\n"
    bench.build(text, "--build-arg", "V=1")
    assert "RUN |1 V=1 /bin/sh -c echo after" in bench.history()
    done = bench.build(text, "--build-arg", "V=2")
    assert done.steps == {"RUN echo before": "CACHED", "RUN echo after": "DONE"}
    done = bench.build(text, "--build-arg", "V=1")
    assert done.steps == {"RUN echo before": "CACHED", "RUN echo after": "CACHED"}
    done = bench.build(text.replace("ARG", "ENV W=1\nARG"), "--build-arg", "V=1")
    assert done.steps == {"RUN echo before": "CACHED", "RUN echo after": "DONE"}
