"""What is seen of a whole tree, against the oracle: by an ignore file, by COPY's wildcards, by --parents, and by --exclude."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from imgbuild.context.digest import walk
from imgbuild.context.filtered import Filtered
from imgbuild.context.glob import BadPattern, compile_component
from imgbuild.context.ignore import Ignore
from imgbuild.context.included import Included
from imgbuild.context.tree import match
from imgbuild.errors import ContextError
from imgbuild.linux.node import Node

from .go import Bad, Matcher, Unread, clean, glob, read_all

FILES = ("a", "b.md", "ab/a", "ab/b.md", "ab/ab/a", "ab/ab/b.md", "d/e/f/g", "d/e/b", "x/a/b/a", "x/!a", ".h/a", "[a]/*", "z/")
NAMES = sorted({"/".join(name.rstrip("/").split("/")[:depth]) for name in FILES for depth in range(1, 6)})
DIRECTORIES = {name for name in NAMES if any(other.startswith(f"{name}/") for other in FILES)}

WORDS = st.lists(
    st.sampled_from(["a", "b.md", "ab", "d", "e", "x", "*", "**", "?", "*.md", "a*", "[ab]*", "[^d]", "!a", ".h", "\\[a]", "z", "..", "."]),
    min_size=1,
    max_size=4,
).map("/".join)
LINES = st.lists(st.tuples(st.sampled_from(["", "", "!"]), WORDS).map("".join), min_size=1, max_size=5)


class Fake:
    """The tree of `FILES`, all without content."""

    local = True

    def lstat(self, path: str) -> Node | None:
        name = path[1:]
        if name and name not in NAMES:
            return None
        kind = stat.S_IFDIR | 0o755 if not name or name in DIRECTORIES else stat.S_IFREG | 0o644
        return Node(kind, 0, 0, 0, 0, 0, 1, 0, 0, 0)

    def entries(self, path: str) -> Iterator[tuple[str, Node]]:
        top = path.strip("/")
        for name in NAMES:
            if name.rpartition("/")[0] == top:
                node = self.lstat(f"/{name}")
                assert node is not None
                yield name.rpartition("/")[2], node

    def open(self, path: str) -> int:
        raise AssertionError(path)

    def load(self, path: str, node: Node) -> tuple[bytes, bytes]:
        raise AssertionError(path)

    def readlink(self, path: str) -> str:
        raise AssertionError(path)

    def xattrs(self, path: str) -> dict[str, bytes]:
        return {}

    def resolve(self, path: str, follow_last: bool = True) -> str:
        return "/" + path.strip("/")


def seen(tree: Filtered | Included) -> list[str]:
    return sorted(path[1:] for path, _ in walk(tree, "/") if path != "/")


def with_parents(names: list[str]) -> list[str]:
    return sorted({"/".join(name.split("/")[:depth]) for name in names for depth in range(1, name.count("/") + 2)})


def matcher(texts: list[str]) -> Matcher:
    try:
        return Matcher(texts)
    except (Bad, Unread):
        assume(False)
        raise AssertionError from None


@settings(max_examples=800, deadline=None)
@given(LINES)
def test_an_ignore_file(lines: list[str]) -> None:
    """What is not ignored, and the directories that lead there."""
    text = "\n".join(lines)
    oracle = matcher(read_all(text))
    kept = [name for name in NAMES if not oracle.ignores(name)]
    assert seen(Filtered(Fake(), Ignore.parse(text))) == with_parents(kept)


@settings(max_examples=600, deadline=None)
@given(WORDS)
def test_parents(word: str) -> None:
    pattern = clean(f"/{word}")[1:]
    assume(pattern)
    oracle = matcher([pattern])
    assert seen(Included(Fake(), pattern, "/")) == with_parents([name for name in NAMES if oracle.ignores(name)])


@pytest.mark.parametrize(
    ("pattern", "read"),
    [
        ("b.md", "/"),
        ("ab/b.md", "/ /ab"),
        ("ab/*", "/ /ab"),
        ("ab/*/a", "/ /ab /ab/ab"),
        ("*/b.md", "/ /.h /[a] /ab /d /x /z"),
        ("d/**/g", "/ /d /d/e /d/e/f"),
        ("d", "/"),
    ],
)
def test_parents_reads_no_more_than_it_must(pattern: str, read: str) -> None:
    asked = []

    class Noting(Fake):
        def entries(self, path: str) -> Iterator[tuple[str, Node]]:
            asked.append(path)
            return super().entries(path)

    list(Included(Noting(), pattern, "/").entries("/"))
    assert " ".join(sorted(asked)) == read


@settings(max_examples=600, deadline=None)
@given(WORDS, LINES)
def test_parents_without_what_is_excluded(word: str, exclude: list[str]) -> None:
    """What is included and not excluded, and the directories that lead there."""
    pattern = clean(f"/{word}")[1:]
    assume(pattern)
    included, excluded = matcher([pattern]), matcher(exclude)
    wanted = [name for name in NAMES if included.ignores(name) and not excluded.ignores(name)]
    assert seen(Included(Filtered(Fake(), Ignore.of(tuple(exclude))), pattern, "/")) == with_parents(wanted)


@settings(max_examples=800, deadline=None)
@given(WORDS)
def test_wildcards_of_copy(word: str) -> None:
    """filepath.Match of all paths. A class does not match a slash here, which is of no use to anybody; escapes count only behind the
    first wildcard, as in BuildKit."""
    pattern = clean(f"/{word}")[1:]
    assume(any(character in pattern for character in "*?[") and not any(odd in pattern for odd in ("[^", "\\")))
    wanted = [name for name in NAMES if glob(pattern, name)]
    try:
        found = [found.name for found in match(Fake(), word)]
    except ContextError:  # what stands before the first wildcard is not there
        found = []
    assert sorted(found) == wanted


@settings(max_examples=2000, deadline=None)
@given(st.text("ab*?[]^-\\c", max_size=7), st.text("abc*?[]^-\\", max_size=5))
def test_one_component(pattern: str, name: str) -> None:
    try:
        wanted = glob(pattern, name)
    except Bad:
        with pytest.raises(BadPattern):
            compile_component(pattern)
        return
    assert (compile_component(pattern).fullmatch(name) is not None) is wanted
