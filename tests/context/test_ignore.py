"""Ignore files: a table of what moby's matcher answers, and a slow, literal model of it that random patterns are compared with."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imgbuild.context.ignore import Ignore
from imgbuild.errors import ContextError


@pytest.mark.parametrize(
    ("text", "ignored", "kept"),
    [
        ("", "", "a a/b"),
        ("# a\n\n   \n#!a", "", "a # #!a"),
        ("a", "a a/b a/b/c", "b/a ab"),
        ("/a", "a a/b", "b/a"),
        ("a/", "a a/b", "b/a"),
        ("./a/../b", "b b/c", "a"),
        ("/", "", "a a/b"),
        (".", "", "a a/b"),
        ("../a", "", "a"),
        ("a/b", "a/b a/b/c", "a b a/c"),
        ("*", "a a/b .hidden", ""),
        ("*.md", "x.md .md", "d/x.md x.mdx"),
        ("*/*.md", "d/x.md", "x.md d/e/x.md"),
        ("*/b", "a/b a/b/c c/b", "b a/c/b"),
        ("a?", "ab a1 ab/c", "a abc a/"),
        ("a?b", "axb", "a/b ab"),
        ("[a-c]x", "ax cx", "dx x"),
        ("[^a-c]x", "dx", "ax"),
        ("a[.]b", "a.b", "axb"),
        ("**", "a a/b a/b/c", ""),
        ("**/a", "a x/a x/y/a x/a/z", "ba x/ba"),
        ("**/*.go", "a.go x/a.go x/y/a.go", "a.gox"),
        ("a/**", "a/b a/b/c", "a b"),
        ("a/**/b", "a/b a/x/b a/x/y/b", "a/xb ab"),
        ("**/a/**", "a/b x/a/b", "a x/a"),
        ("**/a/**/b", "a/b x/a/y/b x/a/b", "a b/a"),
        ("a**", "a ab a/b abc/d", "ba"),
        ("**a", "a ba x/ba", "ab"),
        ("a**/b", "ab ax/b a/b", "axb"),
        ("a.b", "a.b", "axb"),
        ("a+(b){c}|d$", "a+(b){c}|d$", "ab"),
        ("a\\*b", "a*b", "axb ab"),
        ("a\\?", "a?", "ab"),
        ("*.md\n!README.md", "a.md", "README.md a.txt"),
        ("!README.md\n*.md", "a.md README.md", ""),
        ("*.md\n!README*.md\nREADME-secret.md", "a.md README-secret.md", "README.md README-x.md"),
        ("a\n!a/b", "a a/c", "a/b a/b/c"),
        ("a\n!a/b\na/b/c", "a a/b/c", "a/b a/b/d"),
        ("*\n!a/b/*.txt", "a a/b a/b/x", "a/b/x.txt"),
        ("a\n! a/b", "a/c", "a/b"),
        ("a\n!/a/b/", "a/c", "a/b"),
        ("a/*\n!a/b\n**/c", "a/x a/b/c", "a/b a"),
        ("\ufeffa", "a", "b"),
        ("a\r\nb\r\n", "a b", "c"),
        ("a\n!a/b\na", "a a/c", "a/b"),
    ],
)
def test_table(text: str, ignored: str, kept: str) -> None:
    ignore = Ignore.parse(text)
    assert [path for path in ignored.split(" ") if path and not ignore.ignores(path)] == []
    assert [path for path in kept.split(" ") if path and ignore.ignores(path)] == []


def test_spaces_inside_of_a_pattern_belong_to_it() -> None:
    ignore = Ignore.parse("a b\n")
    assert ignore.ignores("a b") and not ignore.ignores("a")
    assert Ignore.parse(" # a").ignores("# a")


@pytest.mark.parametrize("text", ["!", "x\n!  ", "[", "a[b", "a[]b", "a\\", "[b-]", "[a-]x"])
def test_bad_patterns_are_located(text: str) -> None:
    with pytest.raises(ContextError) as caught:
        Ignore.parse(text, "some.dockerignore")
    assert caught.value.at is not None
    assert caught.value.at.line == len(text.split("\n"))
    assert caught.value.at.source.name == "some.dockerignore"


def test_the_deciding_line_is_known() -> None:
    ignore = Ignore.parse("# all\n*.md\n!README.md\nsecret\n")
    reasons = {path: ignore.reason(path) for path in ("a.md", "README.md", "secret/x", "other")}
    assert {path: reason and reason.line for path, reason in reasons.items()} == {"a.md": 2, "README.md": 3, "secret/x": 4, "other": None}
    assert str(reasons["README.md"]) == "!README.md"


def test_the_buildfiles_own_ignore_file_wins(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    buildfile = tmp_path / "docker" / "app.Buildfile"
    assert not Ignore.load(tmp_path, buildfile)
    (tmp_path / ".dockerignore").write_text("a")
    assert Ignore.load(tmp_path, buildfile).ignores("a")
    (tmp_path / "docker" / "app.Buildfile.dockerignore").write_text("b")
    ignore = Ignore.load(tmp_path, buildfile)
    assert ignore.ignores("b") and not ignore.ignores("a")


def test_an_ignore_file_that_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".dockerignore")
    with pytest.raises(ContextError, match="is not a file"):
        Ignore.load(tmp_path)


def test_stars_do_not_cost_what_they_could() -> None:
    ignore = Ignore.parse("*a*a*a*a*a*a*a*a*a*a*b\n**/x/**/x/**/x/**/x/**/x/**/x/**/y")
    assert not ignore.ignores("a" * 3000)
    assert not ignore.ignores("/".join("x" * 40))


@pytest.mark.parametrize(
    ("text", "directory", "opens"),
    [
        ("a\n!a/b", "a", True),
        ("a\nc\n!a/b", "c", False),
        ("*\n!**/x", "a", True),
        ("*\n!a/b/*.txt", "a", True),
        ("*\n!a/b/*.txt", "a/b", True),
        ("*\n!a/b/*.txt", "a/c", False),
        ("*\n!a/b", "a/b/c", True),
        ("*\n!a*/x", "b", True),
    ],
)
def test_directories_that_an_exception_may_reach(text: str, directory: str, opens: bool) -> None:
    ignore = Ignore.parse(text)
    state = 0
    names = directory.split("/")
    for depth in range(1, len(names) + 1):
        _, state = ignore.step("/".join(names[:depth]), state)
    assert ignore.opens(directory, state) is opens


class Model:
    """moby's matcher as it is written there: one pattern after the other, a regex built from left to right."""

    def __init__(self, lines: list[str]) -> None:
        self.patterns = [(line.startswith("!"), self.regex(line.removeprefix("!"))) for line in lines]

    @staticmethod
    def regex(pattern: str) -> re.Pattern[str]:
        out, position, kind = "", 0, "exact"
        first = True
        while position < len(pattern):
            character = pattern[position]
            position += 1
            if pattern.startswith("**", position - 1):
                position += 1
                position += pattern.startswith("/", position)
                if position == len(pattern):
                    out, kind = (out + ".*", "regex") if kind != "exact" else (out, "prefix")
                else:
                    out, kind = out + "(.*/)?", "regex"
                kind = "suffix" if first else kind
            elif character == "*":
                out, kind = out + "[^/]*", "regex"
            elif character == "?":
                out, kind = out + "[^/]", "regex"
            else:
                out += re.escape(character)
            first = False
        if kind == "exact":
            return re.compile(re.escape(pattern))
        if kind == "prefix":
            return re.compile(re.escape(pattern[:-2]) + ".*")
        if kind == "suffix":
            suffix = pattern[2:]
            return re.compile(f".*{re.escape(suffix)}" + (f"|{re.escape(suffix[1:])}" if suffix.startswith("/") else ""))
        return re.compile(out)

    def ignores(self, path: str) -> bool:
        names = path.split("/")
        above = [False] * len(self.patterns)
        ignored = False
        for depth in range(1, len(names) + 1):
            here = "/".join(names[:depth])
            ignored, matches = False, []
            for (exception, regex), matched in zip(self.patterns, above, strict=True):
                if not matched and exception == ignored:
                    matched = regex.fullmatch(here) is not None
                matches.append(matched)
                if matched:
                    ignored = not exception
            above = matches
        return ignored


PARTS = st.sampled_from(["a", "b", "ab", "*", "**", "?", "a*", "*b", "a*b*", "*a*b"])
LINES = st.lists(st.tuples(st.booleans(), st.lists(PARTS, min_size=1, max_size=4)), max_size=5)
PATHS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab", "abab"]), min_size=1, max_size=5).map("/".join)


@settings(max_examples=600, deadline=None)
@given(LINES, PATHS)
def test_random_patterns_agree_with_the_model(lines: list[tuple[bool, list[str]]], path: str) -> None:
    texts = ["!" * exception + "/".join(parts) for exception, parts in lines]
    assume(all(text != "!" for text in texts))
    assert Ignore.parse("\n".join(texts)).ignores(path) == Model(texts).ignores(path)
