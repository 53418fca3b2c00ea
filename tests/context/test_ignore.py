"""Ignore files: a table of what moby's matcher answers, and random patterns against a slow oracle."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from imgbuild.context.glob import BadPattern
from imgbuild.context.ignore import Ignore
from imgbuild.errors import ContextError

from .go import Bad, Matcher, Unread, read_all


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


PARTS = st.sampled_from(["a", "b", "ab", "*", "**", "?", "a*", "*b", "a*b*", "*a*b"])
PLAIN = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
PLAIN_PATHS = st.lists(st.sampled_from(["a", "b", "ab", "ba", "aab", "abab"]), min_size=1, max_size=5).map("/".join)

PIECES = st.sampled_from([
    "a", "b", "*", "**", "?", "/", "/", ".", "..", "[ab]", "[^a]", "[a-c]", "[*]", "[?a]", "[[]", "[]", "[", "]", "-", "^", "|", "{", "}",
    "{2}", "{1,}", "{0,1}", "\\", "\\*", "\\d", "\\w", "\\b", "\\z", "\\é", "\\[", "[\\d]", "[\\]-]", "[a-", "[+--]", "#", "!", "+", "(",
    ")", "$", "é", " ", "\t", "\u2003", "\n", "\x1f",
])  # fmt: skip
ODD = st.lists(PIECES, min_size=1, max_size=7).map("".join)
STARTS = st.sampled_from(["", "", "", "!", "/", "./", " !", "! ", "#", "\ufeff"])
LINES = st.lists(st.tuples(STARTS, PLAIN | ODD, st.sampled_from(["", "/", " ", "\r"])))
PATHS = PLAIN_PATHS | st.lists(st.text("ab.*?[]^-|{}\\d2é !#$+\n", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join)


def both(read: Callable[[], Ignore], oracle: Callable[[], Matcher], path: str) -> None:
    """Both refuse the patterns, or both answer the same of a path."""
    try:
        matcher = oracle()
    except Unread:
        assume(False)
    except Bad:
        with pytest.raises((ContextError, BadPattern)):
            read()
        return
    assert read().ignores(path) == matcher.ignores(path)


@settings(max_examples=1500, deadline=None)
@given(LINES, PATHS)
def test_files_agree_with_the_oracle(lines: list[tuple[str, str, str]], path: str) -> None:
    text = "\n".join("".join(line) for line in lines[:6])
    both(lambda: Ignore.parse(text), lambda: Matcher(read_all(text)), path)


@settings(max_examples=1500, deadline=None)
@given(ODD, PATHS)
def test_one_odd_pattern_agrees_with_the_oracle(text: str, path: str) -> None:
    both(lambda: Ignore.parse(text), lambda: Matcher(read_all(text)), path)


@settings(max_examples=600, deadline=None)
@example(["**/*/**"], "2/\n/2")
@given(st.lists(PLAIN | ODD, min_size=1, max_size=4), PATHS)
def test_exclude_agrees_with_the_oracle(texts: list[str], path: str) -> None:
    both(lambda: Ignore.of(tuple(texts)), lambda: Matcher(texts), path)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(st.booleans(), PLAIN), max_size=5), PLAIN_PATHS)
def test_plain_patterns_agree_with_the_oracle(lines: list[tuple[bool, str]], path: str) -> None:
    texts = ["!" * exception + text for exception, text in lines]
    assert Ignore.parse("\n".join(texts)).ignores(path) == Matcher(texts).ignores(path)


@pytest.mark.parametrize(
    ("text", "ignored", "kept"),
    [
        ("/!a\n", "", "a"),
        ("*\n/!a", "b", "a"),
        ("*\nx/../!a", "b", "a"),
        ("!!a\n*\n!!a", "a b", "!a"),
        ("a|b*", "a axx xb cbx", "c"),
        ("a{2}?", "aab", "aa ab a{2}b"),
        ("^a*", "ab", "^ab"),
        ("[*]x", "]x [^]x", "*x ax *]x"),
        ("\\d*", "1x", "dx"),
        ("a\u2003", "a", "b"),
        ("a\x1f", "a\x1f", "a"),
        ("a\rb", "a\rb", "a b"),
    ],
)
def test_oddities_that_are_kept(text: str, ignored: str, kept: str) -> None:
    assert [path for path in ignored.split(" ") if path and not Ignore.parse(text).ignores(path)] == []
    assert [path for path in kept.split(" ") if path and Ignore.parse(text).ignores(path)] == []
    for path in (*ignored.split(" "), *kept.split(" ")):
        assert not path or Matcher(read_all(text)).ignores(path) == Ignore.parse(text).ignores(path)
