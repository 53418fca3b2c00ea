"""What a target takes, by its text: arguments with their values and descriptions, secrets, agents, caches."""

from __future__ import annotations

from imgbuild.buildfile.parser import parse
from imgbuild.graph.describe import Description, describe, list_targets
from imgbuild.graph.ops import Base
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import make_outline
from imgbuild.oci.config import RunConfig
from imgbuild.oci.digest import Digest
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import parse_reference

AMD64 = Platform("linux", "amd64")


def outline(text: str, config: RunConfig | None = None, **options: object) -> Description:
    buildfile, given = parse(text, "B"), LowerOptions(AMD64, **options)  # type: ignore[arg-type]
    base = Base("base", Digest("sha256:" + "0" * 64), AMD64, config or RunConfig(), ())
    bases = {(parse_reference("base"), AMD64): base}
    return describe(buildfile, make_outline(buildfile, given, bases), given, bases)


def arguments(text: str, **options: object) -> list[tuple[str, str]]:
    return [(argument.name, argument.value) for argument in outline(text, **options).arguments]  # type: ignore[arg-type]


def test_targets() -> None:
    text = "# a is the first\nFROM base AS a\nFROM --platform=$P a:$V AS B\n# c is no name\nFROM a\n"
    found = [(t.name, t.description, t.base, t.platform, t.default, t.span.line) for t in list_targets(parse(text, "B"))]
    assert found == [
        ("a", "is the first", "base", "", False, 2),
        ("b", "", "a:$V", "$P", False, 3),
        ("", "", "a", "", True, 5),
    ]


def test_description_of_the_target() -> None:
    text = "# unrelated\n# app runs it\nFROM base AS app\n\n# app too far\n\nFROM app AS other\n"
    assert (outline(text, target="app").name, outline(text, target="app").description) == ("app", "runs it")
    assert (outline(text).name, outline(text).description) == ("other", "")
    assert outline("# x y\nFROM base").name == ""


def test_arguments_of_a_stage() -> None:
    text = "FROM base\nARG A B=1\nENV E=2\nARG C=$B$E\nARG TARGETARCH\n"
    assert arguments(text) == [("A", ""), ("B", "1"), ("C", "12")]
    assert arguments(text, build_args={"B": "x"}) == [("A", ""), ("B", "x"), ("C", "x2")]


def test_global_arguments_only_where_they_are_used() -> None:
    text = "ARG BASE=1\nARG V=$BASE.0\nARG UNUSED=x\nFROM base AS a\nARG V\nFROM base AS b\nFROM b:$V AS c\n"
    assert arguments(text, target="a") == [("BASE", "1"), ("V", "1.0")]
    assert arguments(text, target="b") == []
    text = "ARG V=base\nFROM $V AS a\nFROM scratch AS b\nCOPY --from=a / /\n"
    assert arguments(text, target="b") == [("V", "base")]


def test_descriptions_of_arguments() -> None:
    text = "# V which one\nARG V=1\nFROM base\n# A one\n# B two\nARG A B=3\nARG V\n"
    found = [(a.name, a.description, a.span.line) for a in outline(text).arguments]
    assert found == [("V", "which one", 2), ("A", "one", 6), ("B", "two", 6)]


def test_the_nearest_stage_wins() -> None:
    text = "FROM base AS a\nARG X=1\nFROM a AS b\nARG X=2\n"
    assert [(a.name, a.value, a.span.line) for a in outline(text).arguments] == [("X", "2", 4)]


def test_mounts() -> None:
    text = (
        "FROM base AS a\nENV D=/d\n"
        "RUN --mount=type=secret,id=t,required --mount=type=secret,target=/run/x --mount=type=cache,target=$D x\n"
        "RUN --mount=type=ssh --mount=type=ssh,id=other,required=true --mount=type=secret,id=t y\n"
        "FROM base\nCOPY --from=a / /\n"
    )
    found = outline(text)
    assert [(m.name, m.required) for m in found.secrets] == [("t", True), ("x", False)]
    assert [(m.name, m.required) for m in found.ssh] == [("default", False), ("other", True)]
    assert [(m.name, m.span.line) for m in found.caches] == [("/d", 3)]
    assert outline("FROM base\nRUN x\n").secrets == ()


def test_what_a_base_leaves_to_do() -> None:
    config = RunConfig(env=("HOME=/h",), on_build=("ARG T=$HOME", "RUN --mount=type=secret,id=s x"))
    found = outline("\nFROM base\n", config)
    assert [(a.name, a.value, a.span.line) for a in found.arguments] == [("T", "/h", 2)]
    assert [(m.name, m.span.line) for m in found.secrets] == [("s", 2)]
