"""What words reach is what the digests are made of."""

from __future__ import annotations

from pathlib import Path as HostPath

import pytest

from imgbuild.context.ignore import Ignore
from imgbuild.context.local import LocalContext
from imgbuild.context.reach import Reach, SourceWord
from imgbuild.graph.ops import CopyOp
from imgbuild.light.pathlib import Path
from imgbuild.rootfs.copy import input_digests
from imgbuild.solve.inputs import copy_request

FILES = (
    "a.txt", "b.md", "d/one.txt", "d/two.md", "d/deep/x.txt", "d/deep/y/z.txt", "e/one.txt", "no/kept", "no/other", "no/d/kept",
    "real/file", "real/sub/file", "star*", "%s",
)  # fmt: skip
LINKS = {"link": "a.txt", "over": "link", "way": "real", "d/back": "../real"}
IGNORED = "no\n!no/kept\n*.md\n!d/*.md\n"
WORDS = [
    SourceWord("."), SourceWord("/"), SourceWord("a.txt"), SourceWord("d"), SourceWord("d/"), SourceWord("d/deep"), SourceWord("*.txt"),
    SourceWord("?/*.txt"), SourceWord("[de]/one*"), SourceWord("*/deep"), SourceWord("no"), SourceWord("no/kept"), SourceWord("link"),
    SourceWord("over"), SourceWord("way"), SourceWord("way/sub"), SourceWord("d/back/file"), SourceWord("d/back"), SourceWord("star\\*"),
    SourceWord("nothing*"), SourceWord("../d/../a.txt"), SourceWord("d", exclude=("deep",)), SourceWord("d", exclude=("**/*.txt",)),
    SourceWord("d", exclude=("deep", "!deep/x.txt")), SourceWord("*.txt", exclude=("a*",)), SourceWord("d/deep/x.txt", parents=True),
    SourceWord("./*/one.txt", parents=True), SourceWord("d/./deep/**/z.txt", parents=True), SourceWord("**/*.txt", parents=True),
    SourceWord("d/./*", parents=True, exclude=("**/y",)),
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: HostPath) -> HostPath:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    for name, target in LINKS.items():
        (tmp_path / name).symlink_to(target)
    return tmp_path


def digests(root: HostPath, word: SourceWord) -> list[str]:
    """What the key of a COPY of the word holds; the error where it has none."""
    from imgbuild.errors import ImgbuildError

    op = CopyOp((word.source,), "/to/", 0, parents=word.parents, exclude=word.exclude)
    with LocalContext(Path(root), Ignore.parse(IGNORED)) as context:
        try:
            return [f"{item.source} {item.name} {item.digest}" for item in input_digests(copy_request(None, op, context))]  # type: ignore[arg-type]  # asked for remotes alone
        except ImgbuildError as error:
            return [error.message]


@pytest.mark.parametrize("word", WORDS, ids=str)
def test_it_agrees_with_the_digests(tree: HostPath, word: SourceWord) -> None:
    reach = Reach(str(tree), Ignore.parse(IGNORED), (word,))
    looked_at = set(reach.survey())
    for name in FILES:
        file = tree / name
        before = digests(tree, word)
        file.write_text("2")
        changed = digests(tree, word) != before
        assert reach.counts(name) == changed, name
        file.unlink()
        assert (digests(tree, word) != before) <= reach.counts(name), name
        file.write_text("1")
        assert not changed or str(file.parent) in looked_at


@pytest.mark.parametrize("word", WORDS, ids=str)
def test_what_appears(tree: HostPath, word: SourceWord) -> None:
    reach = Reach(str(tree), Ignore.parse(IGNORED), (word,))
    looked_at = set(reach.survey())
    for name in ("new.txt", "d/new.txt", "d/deep/new.txt", "f/one.txt", "no/new", "real/new", "nothing.x", "x.md"):
        new = tree / name
        top = new if new.parent.exists() else new.parent
        before = digests(tree, word)
        new.parent.mkdir(exist_ok=True)
        new.write_text("1")
        if digests(tree, word) != before:
            assert reach.counts(str(top.relative_to(tree))), name
            assert str(top.parent) in looked_at
        new.unlink()
        if top != new:
            top.rmdir()


def test_what_was_never_there_is_no_change(tree: HostPath) -> None:
    reach = Reach(str(tree), Ignore(), (SourceWord("."),))
    list(reach.survey())
    assert not reach.counts("d/4913")
    assert reach.counts("d/one.txt")
    (tree / "d/one.txt").unlink()
    assert reach.counts("d/one.txt")


def test_a_directory_that_is_ignored_is_not_looked_at(tree: HostPath) -> None:
    reach = Reach(str(tree), Ignore.parse("d\nno\n!no/kept\n"), (SourceWord("."),))
    looked_at = {path.removeprefix(str(tree)) for path in reach.survey()}
    assert "/d" not in looked_at
    assert "/no" in looked_at


def test_symlinks_that_lead_nowhere(tree: HostPath) -> None:
    (tree / "circle").symlink_to("circle")
    (tree / "gone").symlink_to("later")
    reach = Reach(str(tree), Ignore(), (SourceWord("circle"), SourceWord("gone")))
    list(reach.survey())
    (tree / "later").write_text("")
    assert reach.counts("later")
    assert reach.counts("circle")
