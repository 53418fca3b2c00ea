"""The plain Dockerfile that a Buildfile amounts to: what stays, what goes, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from imgbuild.buildfile.flags import KNOWN
from imgbuild.buildfile.includes import Includes
from imgbuild.buildfile.instructions import Flag, Maintainer, Word
from imgbuild.buildfile.parser import parse
from imgbuild.buildfile.plain import Plain, plain_dockerfile
from imgbuild.errors import Span, UnsupportedError

from .meaning import meaning

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*"))


def plain(text: str | bytes, files: Mapping[str, str] | None = None) -> Plain:
    data = text.encode() if isinstance(text, str) else text
    given = files or {}
    return plain_dockerfile(parse(data, "B", Includes(lambda path: (path, given[path].encode()))), data)


@pytest.mark.parametrize(
    "text",
    [
        "FROM a",
        "\n# x\n\nfrom a as b\n  run x \\\n\n  y\n# end\n",
        "# escape=`\nFROM a\r\nRUN x `\r\n y\r\n",
        "FROM a\nCOPY --parents --exclude=x --link=false --chmod=1 --chown=u --from=b a b\n",
        "FROM a\nRUN --mount=type=cache,target=/x --network=none --security=insecure --device=d x\nHEALTHCHECK --interval=1s CMD x\n",
    ],
)
def test_what_is_plain_stays_as_it_is(text: str) -> None:
    assert plain(text) == Plain(text, ())


def test_bytes_stay() -> None:
    text = b"FROM a\n# \xff\nRUN <<E\n\xfe\nE\n"
    assert plain(text).text.encode("utf-8", "surrogateescape") == text
    assert plain(b"\xef\xbb\xbfFROM a\n").text == "FROM a\n"


@pytest.mark.parametrize("path", [path for path in GOLDEN if path.is_file()], ids=lambda path: path.name)
def test_means_the_same(path: Path) -> None:
    """Of a file without what only imgbuild knows, nothing is changed; of another, all but that."""
    data = path.read_bytes()
    made = plain_dockerfile(parse(data, "B"), data)
    again = made.text.encode("utf-8", "surrogateescape")
    if not made.losses:
        assert meaning(parse(again, "B")) == meaning(parse(data, "B"))
    assert plain_dockerfile(parse(again, "B"), again) == Plain(made.text, ())


def test_flags_go_and_are_named() -> None:
    made = plain("FROM a\nRUN --memory=1g \\\n    --mount=type=tmpfs,target=/x \\\n    --timeout=1m \\\n    make \\\n  # c\n    all\n")
    assert made.text.splitlines() == [
        "FROM a",
        "# RUN --memory=1g has no equivalent in a Dockerfile: docker build --memory bounds all steps",
        "# RUN --timeout=1m has no equivalent in a Dockerfile: write timeout TIME before the command",
        "RUN \\",
        "    --mount=type=tmpfs,target=/x \\",
        "    make \\",
        "  # c",
        "    all",
    ]
    assert [(loss.what, loss.span.line) for loss in made.losses] == [("RUN --memory=1g", 2), ("RUN --timeout=1m", 4)]


def test_every_flag_of_our_own_is_named() -> None:
    """Flags that are not BuildKit's, whoever adds them."""
    theirs = {"mount", "network", "security", "device"}
    parsed = parse("FROM a\nRUN x\n", "B")
    (run,) = parsed.stages[0].instructions
    for name in KNOWN["RUN"].keys() - theirs:
        flagged = replace(run, flags=(Flag(name, "1", Span(parsed.source, 2, 2)),))
        stages = (replace(parsed.stages[0], instructions=(flagged,)),)
        assert [loss.what for loss in plain_dockerfile(replace(parsed, stages=stages), b"FROM a\nRUN x\n").losses] == [f"RUN --{name}=1"]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("conf.d/app.conf /etc/", "conf.d/app.con[f] /etc/"),
        ("a/ b-1/ /x/", "[a]/ b-[1]/ /x/"),
        ('["a b", "/x y/"]', '["a [b]", "/x y/"]'),
        ("*.txt a? /x/", "*.txt a? /x/"),
        ("--from=s --chmod=600 /a /b", "--from=s --chmod=600 /[a] /b"),
    ],
)
def test_an_optional_source_is_a_pattern(written: str, said: str) -> None:
    assert plain(f"FROM s AS s\nCOPY --optional {written}\n").text == f"FROM s AS s\nCOPY {said}\n"
    assert plain(f"FROM s AS s\nCOPY --optional=false {written}\n").text == f"FROM s AS s\nCOPY {written}\n"


@pytest.mark.parametrize("source", ["$x", "./.", '"a"', "a\\b"])
def test_an_optional_source_that_is_no_pattern(source: str) -> None:
    made = plain(f"FROM s\nCOPY --optional {source} /x/\n")
    assert made.text.endswith(f"\nCOPY {source} /x/\n")
    assert [loss.what for loss in made.losses] == ["COPY --optional"]


def test_an_instruction_without_an_equivalent() -> None:
    """Whatever instruction is not BuildKit's, whoever adds it."""

    class Probe(Maintainer):
        pass

    text = "FROM a\nRUN x\n# it\nPROBE a \\\n  b\nRUN y\n"
    parsed = parse(text.replace("PROBE", "RUN"), "B")
    first, second, third = parsed.stages[0].instructions
    probe = Probe(span=second.span, text="PROBE a   b", name=Word("a", second.span))
    parsed = replace(parsed, source=second.span.source, stages=(replace(parsed.stages[0], instructions=(first, probe, third)),))
    made = plain_dockerfile(parsed, text.encode())
    assert made.text.splitlines() == [
        "FROM a", "RUN x", "# it", "# PROBE has no equivalent in a Dockerfile", "# RUN a \\", "#   b", "", "RUN y",
    ]  # fmt: skip
    assert [loss.what for loss in made.losses] == ["PROBE"]


def test_a_test_is_a_comment() -> None:
    made = plain("FROM a\nTEST --timeout=1s <<E\ncheck=skip=all\nE\nCMD x\n")
    assert made.text.splitlines() == [
        "FROM a",
        "# TEST has no equivalent in a Dockerfile: write a stage that runs it, and build that as a target",
        "# TEST --timeout=1s <<E",
        "# check=skip=all",
        "# E",
        "",
        "CMD x",
    ]
    # Nothing of it is taken for what is said of the next instruction.
    assert parse(made.text, "B").stages[0].instructions[0].comments == ()


def test_in_triggers_and_beside_heredocs() -> None:
    made = plain("FROM a\nONBUILD RUN --cpus=2 x\nRUN --pids=5 <<E\n  text\nE\n")
    assert [line for line in made.text.splitlines() if not line.startswith("#")] == ["FROM a", "ONBUILD RUN x", "RUN <<E", "  text", "E"]
    assert [loss.what for loss in made.losses] == ["RUN --cpus=2", "RUN --pids=5"]


def test_included_files_stand_in_their_place() -> None:
    part = "# syntax=docker/dockerfile:1\n\n# A what\nARG A\nRUN --cpus=1 x"
    files = {"part": part, "deep/one": "INCLUDE two\nENV a b", "deep/two": "RUN y", "none": ""}
    made = plain("FROM a\n# before\nINCLUDE part\nINCLUDE none\ninclude deep/one\n# after\nRUN z\n", files)
    assert made.text.splitlines() == [
        "FROM a",
        "# before",
        "",
        "# A what",
        "ARG A",
        "# RUN --cpus=1 has no equivalent in a Dockerfile: docker build --cpu-quota bounds all steps",
        "RUN x",
        "RUN y",
        "ENV a b",
        "# after",
        "RUN z",
    ]
    assert [loss.span.source.name for loss in made.losses] == ["part"]


def test_an_escape_that_can_not_be_said() -> None:
    with pytest.raises(UnsupportedError, match="escape character"):
        plain("FROM a\nINCLUDE part\n", {"part": "# escape=`\nCOPY a `$b\n"})
