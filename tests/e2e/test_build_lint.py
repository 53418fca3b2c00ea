"""What a build says of how its Buildfile is written, and what becomes of it."""

from __future__ import annotations

import json

import pytest

from tests.e2e.harness import Bench

LINTED = "FROM busybox\nENV a b\nCMD echo \\\n  x\n"


def warned(err: str) -> list[str]:
    return [line for line in err.splitlines() if line.startswith("warning: ")]


def test_a_build_warns_before_its_steps(bench: Bench) -> None:
    done = bench.build("FROM busybox\nENV a b\nRUN true\nCMD echo \\\n  x\n")
    place = bench.context / "Buildfile"
    assert done.err.splitlines()[:2] == [
        f'warning: {place}:2 LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format',
        f"warning: {place}:4-5 JSONArgsRecommended: "
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    ]
    assert len(warned(done.err)) == 2
    assert warned(bench.build(None).err) == warned(done.err)  # as they do when all is cached


def test_a_clean_buildfile_is_not_spoken_of(bench: Bench) -> None:
    assert warned(bench.build('FROM busybox\nENV a=b\nRUN true\nCMD ["echo"]\n').err) == []


def test_warnings_in_json(bench: Bench) -> None:
    bench.write({"Buildfile": LINTED})
    lines = [json.loads(line) for line in bench.run("build", "--progress=json", bench.context).out.splitlines()]
    found = [{key: value for key, value in line.items() if key != "time"} for line in lines if line["event"] == "Warned"]
    assert found[1] == {
        "event": "Warned",
        "rule": "JSONArgsRecommended",
        "message": "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        "file": str(bench.context / "Buildfile"),
        "line": 3,
        "end_line": 4,
    }
    assert [line["rule"] for line in found] == ["LegacyKeyValueFormat", "JSONArgsRecommended"]


def test_warnings_are_said_before_an_error(bench: Bench) -> None:
    done = bench.build("FROM $bas\n", code=10)
    assert [line.split()[2] for line in warned(done.err)] == ["InvalidDefaultArgInFrom:", "UndefinedArgInFrom:"]


def test_errors_where_they_are_asked_for(bench: Bench) -> None:
    said = bench.refused(f"# check=error=true\n{LINTED}", code=10)
    assert "lint violation found for rules: LegacyKeyValueFormat, JSONArgsRecommended" in said
    assert "Buildfile:3" in said
    assert "x:latest" not in bench.run("images").out
    said = bench.refused(LINTED, "--build-arg=BUILDKIT_DOCKERFILE_CHECK=error=true;skip=LegacyKeyValueFormat", code=10)
    assert "rules: JSONArgsRecommended\n" in said
    bench.build(f"# check=error=true;skip=LegacyKeyValueFormat,JSONArgsRecommended\n{LINTED}")
    bench.build(f"# check=error=true;skip=all\n{LINTED}")
    bench.build('# check=error=true\nFROM busybox\nCMD ["x"]\n')


def test_skips(bench: Bench) -> None:
    assert warned(bench.build(f"# check=skip=all\n{LINTED}").err) == []
    done = bench.build("FROM busybox\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n")
    assert [line.split()[1].rpartition(":")[2] for line in warned(done.err)] == ["4"]


@pytest.mark.parametrize(
    ("directive", "hint"),
    [("check=eror=true", "did you mean error?"), ("check=error=perhaps", "it is true or false"), ("check=x", "write skip=")],
)
def test_a_wrong_directive(bench: Bench, directive: str, hint: str) -> None:
    said = bench.refused(f"# {directive}\n{LINTED}", code=10)
    assert "Buildfile:1" in said and hint in said


def test_ignored_files(bench: Bench) -> None:
    bench.write({"a": "", "dir/b": "", ".dockerignore": "dir\n"})
    done = bench.build("FROM busybox\nCOPY . /all/\nCOPY a dir/b /\n", code=12)
    (line,) = warned(done.err)
    assert line.endswith('Buildfile:3 CopyIgnoredFile: Attempting to Copy file "dir/b" that is excluded by .dockerignore')
    bench.write({".dockerignore": "dir\n!dir/b\n"})
    assert warned(bench.build(None).err) == []


def test_expose_with_what_is_outside(bench: Bench) -> None:
    done = bench.build("FROM busybox\nEXPOSE 127.0.0.1:80:8080 1000-1001:53/UDP\n")
    assert [line.split()[2] for line in warned(done.err)] == ["ExposeInvalidFormat:", "ExposeProtoCasing:", "ExposeInvalidFormat:"]
    assert bench.config()["ExposedPorts"] == {"8080/tcp": {}, "53/udp": {}}


@pytest.mark.parametrize("port", ["1.2.3:80:80", "x:80", "80-81:1-5", "80:", "80/tpc"])
def test_expose_refused(bench: Bench, port: str) -> None:
    assert "Buildfile:2" in bench.refused(f"FROM busybox\nEXPOSE {port}\n", code=10)


def test_several_platforms_are_warned_of_once(bench: Bench) -> None:
    text = "# chek=x\nFROM scratch AS Up\nENV a b\nCOPY Buildfile /\n"
    done = bench.build(text, "--platform=linux/amd64,linux/arm64", "-o", "type=oci,dest=x.tar")
    assert [line.split()[2] for line in warned(done.err)] == ["StageNameCasing:", "LegacyKeyValueFormat:"]
    assert done.err.count("notice: ") == 1


def test_a_check_looks_at_each_platform(bench: Bench) -> None:
    text = "FROM scratch\nARG TARGETARCH\nENV a b\nWORKDIR /${TARGETARCH#arm64}\nENV ${TARGETARCH#amd64}=x\n"
    bench.write({"Buildfile": text})
    done = bench.run("build", "--check", "--platform=linux/arm64", bench.context, code=1)
    assert "ENV with an empty name" not in done.out + done.err
    done = bench.run("build", "--check", "--platform=linux/arm64,linux/amd64", bench.context, code=None)
    assert "ENV with an empty name" in done.out + done.err
    assert (done.out + done.err).count("LegacyKeyValueFormat") == 1


def test_included_files_are_linted_in_their_own_place(bench: Bench) -> None:
    bench.write({"part": "# escape=`\n\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c `\n  d\nENV e=`$f\n"})
    (line,) = warned(bench.build("FROM busybox\nINCLUDE part\n").err)
    assert line.startswith(f"warning: {bench.context}/part:5-6 LegacyKeyValueFormat:")


def test_tests_are_linted_as_run_is(bench: Bench) -> None:
    done = bench.build("FROM busybox\nTEST --mount=type=tmpfs,target=/$nowhere true\n", "--check", code=1)
    assert "Usage of undefined variable '$nowhere'" in done.out
