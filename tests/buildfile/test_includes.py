"""INCLUDE, with a reader that is a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.includes import DEEPEST, MOST_FILES, Includes
from imgbuild.buildfile.lexer import lex
from imgbuild.buildfile.parser import parse, parse_trigger
from imgbuild.buildfile.print import print_buildfile, print_instruction
from imgbuild.buildfile.statements import read_instruction
from imgbuild.errors import BuildfileError, UnsupportedError

from .faults import fault, marked, refused
from .meaning import meaning


def included(files: Mapping[str, str], main: str = "Buildfile") -> ast.Buildfile:
    def read(path: str) -> tuple[str, bytes]:
        if path not in files:
            raise BuildfileError(f"there is no {path}")
        return f"top/{path}", files[path].encode()

    return parse(files[main], f"top/{main}", Includes(read, main))


def chain(error: BuildfileError) -> list[str]:
    """Where the error is, who included that, and so on."""
    places, at = [], error.at
    while at is not None:
        places.append(f"{at.source.name}:{at.line}")
        at = at.source.included
    return places


def test_instructions_stand_in_its_place() -> None:
    files = {
        "Buildfile": "INCLUDE args\nFROM a:$V AS one\nRUN 1\ninclude 'with blank'\nRUN 4\nINCLUDE stages\nRUN 6\nFROM c\n",
        "args": "\ufeff# syntax=docker/dockerfile:1\nARG V=1\r\n",
        "with blank": "# only comments and empty lines need be in it\n\nRUN <<E\n2\nE\nRUN \\\n  3\n",
        "stages": "RUN 5\nFROM b AS two\n",
    }
    buildfile = included(files)
    assert meaning(parse(print_buildfile(buildfile), "p")) == meaning(buildfile)
    texts = [[item.text for item in stage.instructions] for stage in buildfile.stages]
    assert texts == [["RUN 1", "RUN <<E", "RUN   3", "RUN 4", "RUN 5"], ["RUN 6"], []]
    assert [stage.origin.text for stage in buildfile.stages] == ["FROM a:$V AS one", "FROM b AS two", "FROM c"]
    assert [arg.text for arg in buildfile.global_args] == ["ARG V=1"]
    script = buildfile.stages[0].instructions[1]
    assert (script.span.source.name, script.span.line, script.span.end_line) == ("top/with blank", 3, 5)


def test_paths_are_relative_to_the_including_file() -> None:
    files = {
        "docker/app/Buildfile": "FROM x\nINCLUDE ../common/a.inc\nINCLUDE ./own.inc\n",
        "docker/common/a.inc": "RUN a\nINCLUDE b.inc\nINCLUDE ../../top.inc\n",
        "docker/common/b.inc": "RUN b\n",
        "docker/app/own.inc": "RUN own\n",
        "top.inc": "RUN top\n",
    }
    assert [item.text for item in included(files, "docker/app/Buildfile").stages[0].instructions] == [
        "RUN a",
        "RUN b",
        "RUN top",
        "RUN own",
    ]


def test_a_file_may_be_included_twice() -> None:
    assert len(included({"Buildfile": "FROM x\nINCLUDE a\nFROM y\nINCLUDE a\n", "a": "RUN a\n"}).stages[1].instructions) == 1


def test_errors_are_located_through_it() -> None:
    error = refused(included, {"Buildfile": "FROM x\nRUN 1\nINCLUDE d/a\n", "d/a": "RUN 2\n\nINCLUDE b\n", "d/b": "RUN 3\nENV novalue\n"})
    assert chain(error) == ["top/d/b:2", "top/d/a:3", "top/Buildfile:3"]
    assert marked(error) == "novalue"
    error = refused(included, {"Buildfile": "INCLUDE a\n", "a": "RUN <<E\n"})
    assert chain(error) == ["top/a:1", "top/Buildfile:1"]


def test_a_file_has_an_escape_of_its_own() -> None:
    buildfile = included({"Buildfile": "FROM x\nENV a=\\$b\nINCLUDE w\nRUN c \\\n d\n", "w": "# escape=`\nENV a=`$b\nRUN e `\n f\n"})
    assert [item.escape for item in buildfile.stages[0].instructions] == ["\\", "`", "`", "\\"]
    assert [item.text for item in buildfile.stages[0].instructions][2:] == ["RUN e  f", "RUN c  d"]
    error = refused(print_buildfile, buildfile)
    assert isinstance(error, UnsupportedError)
    assert chain(error) == ["top/w:2", "top/Buildfile:3"]
    without = included({"Buildfile": "FROM x\nINCLUDE w\n", "w": "# escape=`\nENV a=b\nRUN e `\n \\f\n"})
    assert meaning(parse(print_buildfile(without), "p")) == meaning(without)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("INCLUDE", "INCLUDE needs an argument"),
        ("INCLUDE a b", "INCLUDE takes one file"),
        ("INCLUDE ''", "INCLUDE takes one file"),
        ("INCLUDE 'a", "a single quote is not closed"),
        ("INCLUDE $x.inc", "variables are not replaced in INCLUDE"),
        ("INCLUDE https://h/a", "INCLUDE reads files beside the Buildfile, not https://h/a"),
        ("INCLUDE /a", "INCLUDE takes a relative path, not /a"),
        ("INCLUDE ../a", "../a is outside of the build context"),
        ("INCLUDE d/../../a", "d/../../a is outside of the build context"),
        ("INCLUDE none", "there is no none"),
        ("INCLUDE --x a", "INCLUDE has no flag --x"),
        ("INCLUDE ./Buildfile", "Buildfile includes itself: that is a cycle"),
        ("ONBUILD INCLUDE a", "INCLUDE can't be a trigger of ONBUILD"),
        ("INCLUDE utf16", "top/utf16 is UTF-16, not UTF-8"),
        ("INCLUDE other", "the language of foo/nix:1 is not known here"),
    ],
)
def test_refused(line: str, message: str) -> None:
    files = {"Buildfile": f"FROM x\n{line}\n", "utf16": "", "other": "# syntax=foo/nix:1 x\n"}

    def read(path: str) -> tuple[str, bytes]:
        if path not in files:
            raise BuildfileError(f"there is no {path}")
        return f"top/{path}", b"\xff\xfea\0" if path == "utf16" else files[path].encode()

    error = refused(parse, files["Buildfile"], "top/Buildfile", Includes(read))
    assert error.message == message
    assert chain(error)[-1] == "top/Buildfile:2"


def test_cycles_depth_and_number_are_bounded() -> None:
    error = refused(included, {"Buildfile": "INCLUDE a\n", "a": "INCLUDE b\n", "b": "\nINCLUDE a\n"})
    assert error.message == "a includes itself: that is a cycle"
    assert chain(error) == ["top/b:2", "top/a:1", "top/Buildfile:1"]
    deep = {str(number): f"INCLUDE {number + 1}\n" for number in range(DEEPEST + 1)}
    assert included({**deep, str(DEEPEST): "FROM x\n", "Buildfile": "INCLUDE 1\n"}).stages
    assert refused(included, {**deep, "Buildfile": "INCLUDE 0\n"}).message == "files include each other too deeply"
    many = {"Buildfile": "FROM x\n" + "INCLUDE a\n" * 16, "a": "INCLUDE b\n" * 16, "b": "RUN b\n"}
    assert refused(included, many).message == "too many files are included"
    assert len(included({"Buildfile": "FROM x\n" + "INCLUDE b\n" * MOST_FILES, "b": "RUN b\n"}).stages[0].instructions) == MOST_FILES


def test_where_there_is_no_reader() -> None:
    assert fault("FROM x\nINCLUDE a\n").message == "INCLUDE can't stand here"
    assert refused(parse_trigger, "INCLUDE a", "t").message == "INCLUDE can't be a trigger of ONBUILD"


def test_it_is_printed() -> None:
    (line,) = lex("include  a/b", "x").lines
    assert print_instruction(read_instruction(line, "\\")) == "INCLUDE a/b"


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "golden").iterdir()), ids=lambda path: path.name)
def test_any_file_may_be_cut_in_two(path: Path) -> None:
    text = path.read_bytes()
    lexed, whole = lex(text, "B"), parse(text, "B")
    lines = [line + b"\n" for line in text.split(b"\n")]
    directive = f"# escape={lexed.escape}\n\n".encode()
    for line in lexed.lines[:-1]:
        head, rest = b"".join(lines[: line.end_line]), b"".join(lines[line.end_line :])
        cut = parse(head + b"\nINCLUDE rest\n", "B", Includes(lambda path, rest=rest: (path, directive + rest)))  # type: ignore[misc]
        assert meaning(cut) == meaning(whole)
