"""Build files as trees: aliases, merges, and what a hostile text may not do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.bake.nodes import Entry, Items, Node, Scalar, Table
from imgbuild.errors import BuildfileError
from imgbuild.settings.tree import decode_tree, load_tree, parse_tree


def plain(node: Node) -> object:
    match node:
        case Scalar():
            return None if node.null else node.text
        case Items():
            return [plain(item) for item in node.items]
        case Table():
            return {entry.key: plain(entry.value) for entry in node.entries}


def refused(text: str) -> str:
    with pytest.raises(BuildfileError) as caught:
        parse_tree(text, "file")
    return f"{caught.value.at}: {caught.value.message}"


def test_scalars_stay_as_they_are_written() -> None:
    assert plain(parse_tree("[yes, 0x1F, 1e3, 3.10, 2020-01-01, ~, '', \"a\\nb\", null]", "f")) == [
        "yes", "0x1F", "1e3", "3.10", "2020-01-01", None, "", "a\nb", None,
    ]  # fmt: skip


def test_places() -> None:
    root = parse_tree("a:\n  - b: c\n", "f")
    assert isinstance(root, Table)
    entry = root.entries[0]
    assert isinstance(entry, Entry)
    assert str(entry.span) == "f:1:1"
    assert str(entry.value.span) == "f:2:3"


def test_merges() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}\nd: {<<: *a, <<: *b}\n"
    found = plain(parse_tree(text, "f"))
    assert isinstance(found, dict)
    assert found["c"] == {"z": "3", "x": "1", "y": "1"}
    assert found["d"] == {"x": "1", "y": "1", "z": "2"}
    assert refused("a: {<<: 1}") == "file:1:9: << takes a mapping, or a list of them"


def test_billion_laughs() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    assert "this is larger than a build file can be" in refused("\n".join(lines))


def test_many_merges_are_bounded_too() -> None:
    lines = ["m0: &m0 {k0: x}"] + [f"m{n}: &m{n} {{<<: [*m{n - 1}, *m{n - 1}], k{n}: x}}" for n in range(1, 40)]
    assert "this is larger" in refused("\n".join(lines))


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}", "a: &x\n  b: {c: *x}\n", "&a {<<: *a}"])
def test_an_alias_in_itself(text: str) -> None:
    assert "an alias names what it stands in" in refused(text)


def test_depth() -> None:
    assert "deeper than 100" in refused("[" * 150 + "]" * 150)
    assert "not YAML" in refused("[" * 20000)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!binary", "!reset", "!<tag:yaml.org,2002:set>"])
def test_tags_mean_nothing(tag: str) -> None:
    assert "means nothing here" in refused(f"a: {tag} [x]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "file:3:1: the key 'a' stands here twice"),
        ("{[a]: 1}", "file:1:2: a key must be a word"),
        ("a: [1\n", "file:1:6: the build file is not YAML"),
        ("a: *gone", "file:1:4: the build file is not YAML: found undefined alias"),
        ("a: 1\n---\nb: 1\n", "file:2:1: the build file is not YAML: expected a single document"),
        ("a:\n\t- b\n", "file:2:1: the build file is not YAML"),
        ("", "None: the build file file is empty"),
        ("# nothing\n", "None: the build file file is empty"),
    ],
)
def test_refused(text: str, message: str) -> None:
    assert refused(text).startswith(message)


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    with pytest.raises(BuildfileError, match="can't read the build file"):
        load_tree(file)
    file.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(BuildfileError, match="the build file is not UTF-8") as caught:
        load_tree(file)
    assert caught.value.at is not None
    assert caught.value.at.line == 2
    with pytest.raises(BuildfileError, match="larger than 1 MiB"):
        decode_tree(b" " * ((1 << 20) + 1), "stdin")


@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@`<, \n\t\\$", max_size=60))
def test_any_text_is_a_tree_or_a_located_error(text: str) -> None:
    try:
        parse_tree(text, "file")
    except BuildfileError as error:
        assert error.at is not None or "is empty" in error.message
