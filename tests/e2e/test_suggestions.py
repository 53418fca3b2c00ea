"""A slip of the pen is answered with what was meant, wherever a name is looked up."""

from __future__ import annotations

import pytest

from tests.e2e.harness import Bench

IN_THE_BUILDFILE = {
    "an instruction": ("FORM busybox", "did you mean FROM?"),
    "a later instruction": ("FROM busybox\nCOYP a b", "did you mean COPY?"),
    "a trigger": ("FROM busybox\nONBUILD RUM x", "did you mean RUN?"),
    "a flag of FROM": ("FROM --platfrom=linux busybox", "did you mean --platform?"),
    "a flag of RUN": ("FROM busybox\nRUN --mounts=type=cache x", "did you mean --mount?"),
    "a flag of our own": ("FROM busybox\nRUN --memroy=1g x", "did you mean --memory?"),
    "a flag of COPY": ("FROM busybox\nCOPY --chwon=1 a b", "did you mean --chown?"),
    "a flag of ADD": ("FROM busybox\nADD --cheksum=x a b", "did you mean --checksum?"),
    "a flag of HEALTHCHECK": ("FROM busybox\nHEALTHCHECK --intervall=1s CMD x", "did you mean --interval?"),
    "a kind of HEALTHCHECK": ("FROM busybox\nHEALTHCHECK CMDD x", "did you mean CMD?"),
    "a type of mount": ("FROM busybox\nRUN --mount=type=chache x", "did you mean cache?"),
    "a key of a mount": ("FROM busybox\nRUN --mount=type=bind,sorce=x,target=/y x", "did you mean source?"),
    "a short key of a mount": ("FROM busybox\nRUN --mount=type=bind,scr=x,target=/y x", "did you mean src?"),
    "a bare key of a mount": ("FROM busybox\nRUN --mount=type=bind,readnly,target=/y x", "did you mean readonly?"),
    "a way of sharing": ("FROM busybox\nRUN --mount=type=cache,target=/x,sharing=lokced x", "did you mean locked?"),
    "a network": ("FROM busybox\nRUN --network=non x", "did you mean none?"),
    "a security": ("FROM busybox\nRUN --security=insecur x", "did you mean insecure?"),
    "a signal": ("FROM busybox\nSTOPSIGNAL SIGTREM", "did you mean TERM?"),
    "a protocol": ("FROM busybox\nEXPOSE 80/updp", "did you mean udp?"),
    "an option of check": ("# check=skp=all\nFROM busybox", "did you mean skip?"),
    "a stage": ("FROM busybox AS build\nFROM busybox\nCOPY --from=bulid /a /", "did you mean the stage build?"),
    "a stage of a mount": ("FROM busybox AS build\nFROM busybox\nRUN --mount=from=bulid,target=/x y", "did you mean the stage build?"),
    "a parent stage": ("FROM busybox AS build\nFROM biuld", "did you mean the stage build?"),
}


@pytest.mark.parametrize(("text", "hint"), IN_THE_BUILDFILE.values(), ids=IN_THE_BUILDFILE.keys())
def test_in_the_buildfile(bench: Bench, text: str, hint: str) -> None:
    done = bench.build(text, "--offline", code=None)
    assert done.code in (10, 13)
    assert f"  hint: {hint}" in done.err.splitlines()
    assert "Buildfile:" in done.errors[-1]


ON_THE_COMMAND_LINE = {
    "a command": (["biuld"], "did you mean build?"),
    "an option": (["build", "--tagg", "x"], "Did you mean '--tag'?"),
    "an option of another command": (["run", "--mvolume", "x"], "'--volume'"),
    "a target": (["build", "--target=relaese"], "did you mean release?"),
    "a policy": (["build", "--pull=alwasy"], "did you mean always?"),
    "a kind of output": (["build", "-o", "type=lcal,dest=x"], "did you mean local?"),
    "a key of an output": (["build", "-o", "typ=local"], "did you mean type?"),
    "a key of a secret": (["build", "--secret=id=x,sorce=y"], "did you mean source?"),
    "a call": (["build", "--call=outlin"], "did you mean outline?"),
    "a network": (["build", "--network=hots"], "did you mean host?"),
    "a right": (["build", "--allow=network.hots"], "did you mean network.host?"),
}


@pytest.mark.parametrize(("arguments", "hint"), ON_THE_COMMAND_LINE.values(), ids=ON_THE_COMMAND_LINE.keys())
def test_on_the_command_line(bench: Bench, arguments: list[str], hint: str) -> None:
    bench.write({"Buildfile": "FROM busybox AS release\nFROM busybox AS debug\n"})
    done = bench.run(*arguments, bench.context, code=None)
    assert done.code in (2, 13, 125)
    assert hint in done.err


def test_nothing_is_made_up(bench: Bench) -> None:
    assert "did you mean" not in bench.build("ABCDEFGH x", code=10).err
    assert "did you mean" not in bench.run("zzzzzz", code=2).err
    for option in ("--nothing", "--mark", "--cash", "--exit"):
        assert "ean" not in bench.run("build", option, bench.context, code=2).err.partition("No such option")[2]
    assert "hint: `imgbuild images` lists" in bench.run("inspect", "bosyb", code=13).err  # three letters from busybox
    assert "hint: stages: debug" in bench.build("FROM busybox AS debug", "--target=zzzzzz", code=13).err


def test_a_directive(bench: Bench) -> None:
    done = bench.build("# sytnax=docker/dockerfile:1\nFROM busybox\n")
    assert f"notice: {bench.context}/Buildfile:1 is only a comment: did you mean syntax?" in done.err.splitlines()
    text = b"# escape=`\n# chek=skip=all\nFROM busybox\n"
    assert "did you mean check?" in bench.run("build", "--check", "-f", "-", bench.context, stdin=text).err
    for text in ("# syntax=docker/dockerfile:1\n# version=1\nFROM busybox\n", "\n# sytnax=x\nFROM busybox\n"):
        assert "notice" not in bench.build(text).err


def test_a_rule_of_lint(bench: Bench) -> None:
    done = bench.build("# check=skip=JSONArgRecommended,SomethingNew,all\nFROM busybox\nCMD x\n")
    assert done.err.splitlines()[0] == "notice: check: there is no rule JSONArgRecommended: did you mean JSONArgsRecommended?"
    assert done.err.count("notice: ") == 1


def test_a_build_argument(bench: Bench) -> None:
    done = bench.build("FROM busybox\nARG VERSION\n", "--build-arg=VERSON=1", "--build-arg=zzz=1")
    assert "notice: no ARG declares what --build-arg gives: VERSON (did you mean VERSION?), zzz" in done.err.splitlines()
