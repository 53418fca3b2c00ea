"""Questions about a Buildfile in the place of a build: check, outline, targets."""

from __future__ import annotations

import base64
import json

import pytest

from tests.e2e.harness import NEEDS_GROUPS, Bench, Done

TEXT = """# VERSION which one to take
ARG VERSION=1
FROM busybox AS base
# PREFIX where it goes
ARG PREFIX=/usr
RUN --mount=type=secret,id=token,required --mount=type=cache,target=/root/.cache x

# app is what runs
FROM base AS app
ARG VERSION
RUN --mount=type=ssh y
"""


def ask(bench: Bench, text: str | None, *arguments: str, code: int = 0) -> Done:
    if text is not None:
        bench.write({"Buildfile": text})
    done = bench.run("build", *arguments, bench.context, code=code)
    assert "#1 " not in done.err
    return done


def names(bench: Bench) -> str:
    return bench.run("images").out


def test_check_of_a_clean_file(bench: Bench) -> None:
    done = ask(bench, 'FROM busybox\nCMD ["x"]\n', "--check")
    assert done.out == "Check complete, no warnings found.\n"
    assert done.err == ""


@pytest.mark.parametrize("how", [("--check",), ("--call=check",), ("--call", "lint")])
def test_check_finds(bench: Bench, how: tuple[str, ...]) -> None:
    done = ask(bench, "FROM busybox\nRUN false\nCMD a \\\n b\n", *how, code=1)
    assert done.out.splitlines() == [
        "Check complete, 1 warning has been found!",
        "",
        "WARNING: JSONArgsRecommended",
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        f"{bench.context}/Buildfile:3-4",
        "  3 | CMD a \\",
        "  4 |  b",
    ]


def test_check_builds_nothing(bench: Bench) -> None:
    before = names(bench)
    ask(bench, "FROM busybox\nRUN touch /x\n", "--check", "-t", "y")
    assert names(bench) == before


def test_check_of_all_stages_or_of_the_target(bench: Bench) -> None:
    text = "FROM busybox AS a\nENV x y\nFROM busybox AS b\nENV z w\n"
    assert "2 warnings have" in ask(bench, text, "--check", code=1).out
    out = ask(bench, None, "--check", "--target=a", code=1).out
    assert "1 warning has" in out and "Buildfile:2" in out


def test_check_in_json(bench: Bench) -> None:
    text = "FROM busybox\nENV a \\\n  b\n"
    for how in (["--call=check,format=json"], ["--call=check", "--format", "json"], ["--check", "--format=json"]):
        answer = json.loads(ask(bench, text, *how, code=1).out)
        (warning,) = answer["warnings"]
        assert warning["ruleName"] == "LegacyKeyValueFormat"
        assert warning["detail"] == '"ENV key=value" should be used instead of legacy "ENV key value" format'
        assert warning["description"]
        assert warning["location"] == {"ranges": [{"start": {"line": n}, "end": {"line": n}} for n in (2, 3)]}
        (source,) = answer["sources"]
        assert source["filename"] == str(bench.context / "Buildfile")
        assert base64.b64decode(source["data"]).decode() == text
    assert json.loads(ask(bench, "FROM busybox\n", "--call=check,format=json").out)["warnings"] == []


def test_check_reports_an_error(bench: Bench) -> None:
    text = "FROM busybox AS unused\nENV a=${b:?needed}\nFROM busybox\nENV c d\n"
    done = ask(bench, text, "--check", code=1)
    assert "LegacyKeyValueFormat" in done.out
    assert "Buildfile:2" in done.errors[0] and "needed" in done.errors[0]
    error = json.loads(ask(bench, None, "--call=check,format=json", code=1).out)["buildError"]
    assert "needed" in error["message"]
    assert error["location"]["ranges"][0]["start"] == {"line": 2}
    done = ask(bench, "FROM busybox\nRUNN x\n", "--check", code=1)
    assert "did you mean RUN?" in done.err and done.out == ""
    assert "RUNN" in json.loads(ask(bench, None, "--call=check,format=json", code=1).out)["buildError"]["message"]
    assert "'nowhere'" in ask(bench, "FROM busybox\n", "--check", "--target=nowhere", code=1).errors[0]


def test_check_that_is_always_a_success(bench: Bench) -> None:
    ask(bench, "FROM busybox\nENV a b\n", "--call=check,ignorestatus=true")


def test_check_with_a_base_that_is_not_here(bench: Bench) -> None:
    text = "FROM nowhere\nENV a=$b\nCMD x\nENV c d\n"
    done = ask(bench, text, "--check", "--offline", code=1)
    assert done.err.startswith("notice: what depends on nowhere:latest is left out")
    assert "1 warning has" in done.out and "LegacyKeyValueFormat" in done.out
    ask(bench, "FROM busybox\nCOPY --from=nowhere / /\n", "--check", "--offline")  # of that one nothing is asked


def test_outline(bench: Bench) -> None:
    done = ask(bench, TEXT, "--call=outline")
    assert done.out == (
        "TARGET:      app\n"
        "DESCRIPTION: is what runs\n"
        "\n"
        "BUILD ARG   VALUE   DESCRIPTION\n"
        "VERSION     1       which one to take\n"
        "PREFIX      /usr    where it goes\n"
        "\n"
        "SECRET   REQUIRED\n"
        "token    true\n"
        "\n"
        "SSH       REQUIRED\n"
        "default\n"
        "\n"
        "CACHE\n"
        "/root/.cache\n"
        "\n"
    )
    assert "VERSION" not in ask(bench, None, "--call=outline", "--target=base").out
    assert "VERSION     2 " in ask(bench, None, "--call=outline", "--build-arg=VERSION=2").out
    assert ask(bench, "FROM busybox\n", "--call=outline").out == ""


def test_outline_in_json(bench: Bench) -> None:
    answer = json.loads(ask(bench, TEXT, "--call=outline,format=json").out)
    assert answer["name"] == "app" and answer["description"] == "is what runs"
    line = {"ranges": [{"start": {"line": 2}, "end": {"line": 2}}]}
    assert answer["args"][0] == {"name": "VERSION", "description": "which one to take", "value": "1", "location": line}
    assert [(secret["name"], secret["required"]) for secret in answer["secrets"]] == [("token", True)]
    assert [ssh["name"] for ssh in answer["ssh"]] == ["default"] and "required" not in answer["ssh"][0]
    assert [cache["ID"] for cache in answer["cache"]] == ["/root/.cache"]
    assert [base64.b64decode(source).decode() for source in answer["sources"]] == [TEXT]


def test_outline_sees_what_a_base_left_to_do(bench: Bench) -> None:
    bench.build("FROM busybox\nONBUILD ARG FLAVOUR=plain\nONBUILD RUN --mount=type=secret,id=key true\n", "-t", "parent")
    out = ask(bench, "FROM parent\n", "--call=outline").out
    assert "FLAVOUR     plain" in out and "key" in out


def test_outline_refused(bench: Bench) -> None:
    assert "'nowhere'" in ask(bench, TEXT, "--call=outline", "--target=nowhere", code=13).errors[0]
    assert "Buildfile:2" in ask(bench, "FROM busybox\nRUN --mount=type=cach x\n", "--call=outline", code=10).errors[0]


def test_targets(bench: Bench) -> None:
    assert ask(bench, TEXT, "--call=targets").out == "TARGET          DESCRIPTION\nbase\napp (default)   is what runs\n"
    assert ask(bench, "FROM nowhere\n", "--call=targets").out == "TARGET      DESCRIPTION\n(default)\n"


def test_targets_in_json(bench: Bench) -> None:
    answer = json.loads(ask(bench, TEXT, "--call", "targets,format=json").out)
    assert answer["targets"][1] == {
        "name": "app",
        "default": True,
        "description": "is what runs",
        "base": "base",
        "location": {"ranges": [{"start": {"line": 9}, "end": {"line": 9}}]},
    }
    assert [target["name"] for target in answer["targets"]] == ["base", "app"]


@NEEDS_GROUPS
def test_dockerfile(bench: Bench) -> None:
    bench.write({"part": "# P what\nARG P=1\nRUN --timeout=1m \\\n  echo $P > /part\n", "sub/file": "x"})
    text = "# check=skip=all\n\nFROM busybox\n# kept\nINCLUDE part\nCOPY sub/ /sub/\nRUN --cpus=1 true\n"
    done = ask(bench, text, "--call=dockerfile")
    assert done.out == (
        "# check=skip=all\n\nFROM busybox\n# kept\n\n# P what\nARG P=1\n"
        "# RUN --timeout=1m has no equivalent in a Dockerfile: write timeout TIME before the command\n"
        "RUN echo $P > /part\nCOPY sub/ /sub/\n"
        "# RUN --cpus=1 has no equivalent in a Dockerfile: docker build --cpu-quota bounds all steps\nRUN true\n"
    )
    assert [line.split()[1] for line in done.err.splitlines()] == [f"{bench.context}/part:3", f"{bench.context}/Buildfile:7"]
    bench.build(None)
    image = bench.manifest()
    bench.write({"Dockerfile": done.out})
    assert set(bench.build(None, "-f", "Dockerfile").steps.values()) == {"CACHED"}
    assert bench.manifest()["layers"] == image["layers"]


def test_dockerfile_that_is_plain_already(bench: Bench) -> None:
    text = "from busybox  as x\n\n   run a \\\n# c\n  b"
    done = ask(bench, text, "--call=dockerfile")
    assert (done.out, done.err) == (text + "\n", "")
    assert json.loads(ask(bench, None, "--call=dockerfile,format=json").out) == {"dockerfile": text, "losses": []}


def test_dockerfile_refused(bench: Bench) -> None:
    assert "Buildfile:2" in ask(bench, "FROM busybox\nINCLUDE nowhere\n", "--call=dockerfile", code=10).errors[0]


def test_places_in_an_included_file(bench: Bench) -> None:
    bench.write({"part": "ENV a b\n"})
    answer = json.loads(ask(bench, "FROM busybox\nINCLUDE part\n", "--call=check,format=json", code=1).out)
    assert answer["warnings"][0]["location"] == {"sourceIndex": 1, "ranges": [{"start": {"line": 1}, "end": {"line": 1}}]}
    assert [source["filename"] for source in answer["sources"]] == [str(bench.context / name) for name in ("Buildfile", "part")]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--call=chek"], "did you mean check?"),
        (["--call=check,frmat=json"], "did you mean format?"),
        (["--call=check,format=jsn"], "did you mean json?"),
        (["--call=check,outline"], "write --call=METHOD"),
        (["--call=check,ignorestatus=x"], "ignorestatus is true or false"),
        (["--call="], "it is one of build, check"),
    ],
)
def test_calls_refused(bench: Bench, arguments: list[str], hint: str) -> None:
    assert hint in ask(bench, "FROM busybox\n", *arguments, code=2).err


def test_a_build_may_be_called_by_name(bench: Bench) -> None:
    bench.build("FROM busybox\n", "--call=build")
