"""In what two trees of inputs differ: what is kept of them is enough, and little."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from counting import calls
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.context.digest import Kept, TreeDigests
from imgbuild.context.local import LocalContext
from imgbuild.errors import CorruptError
from imgbuild.insight.trees import Change, changes
from imgbuild.linux.node import Node as Status
from imgbuild.store.evidence import MOST_EVICTED, Evidence, fetch_from
from imgbuild.store.nodes import node_of, pack, unpack

Files = dict[str, tuple[int, str]]
"""Mode and contents by path; a mode with S_IFLNK is a symlink to the contents."""


class Held:
    """A local tree in memory."""

    local = True

    def __init__(self, files: Files) -> None:
        self._inside: dict[str, dict[str, Status]] = {"/": {}}
        self._files = files
        for path, (mode, text) in files.items():
            parent = ""
            for name in path.split("/")[:-1]:
                self._inside[parent or "/"].setdefault(name, _status(stat.S_IFDIR | 0o755, 0))
                parent = f"{parent}/{name}"
                self._inside.setdefault(parent, {})
            self._inside[parent or "/"][path.rpartition("/")[2]] = _status(mode if stat.S_IFMT(mode) else stat.S_IFREG | mode, len(text))

    def lstat(self, path: str) -> Status | None:
        if path == "/":
            return _status(stat.S_IFDIR | 0o755, 0)
        parent, _, name = path.rpartition("/")
        return self._inside.get(parent or "/", {}).get(name)

    def entries(self, path: str) -> Iterator[tuple[str, Status]]:
        return iter(sorted(self._inside[path].items()))

    def readlink(self, path: str) -> str:
        return self._files[path[1:]][1]

    def of(self, directories: list[tuple[str, dict[str, Status]]]) -> list[list[str]]:
        from imgbuild.oci.digest import digest_of

        tops = [(here if here != "/" else "", dict(files)) for here, files in directories]
        return [[digest_of(self._files[f"{top}/{name}"[1:]][1].encode()) for name in files] for top, files in tops]


def _status(mode: int, size: int) -> Status:
    values = dict.fromkeys(Status._fields, 0) | {"mode": mode, "size": size, "nlink": 1}
    return Status(**values)


def kept(files: Files) -> Kept:
    tree = Held(files)
    found = Kept()
    TreeDigests(tree, tree, found).contents("/")  # type: ignore[arg-type]
    return found


def differing(old: Kept, new: Kept) -> list[Change]:
    return list(changes(old.roots[0], new.roots[0], fetch_from([old]), fetch_from([new])))


def said(old: Files, new: Files) -> list[tuple[str, tuple[str, ...]]]:
    return [(change.path, change.what) for change in differing(kept(old), kept(new))]


def test_each_kind_of_change_is_said_and_nothing_else() -> None:
    files: Files = {"a": (0o644, "1"), "d/b": (0o644, "22"), "d/e/c": (0o755, "333"), "l": (stat.S_IFLNK, "a"), "z/y": (0o644, "")}
    assert said(files, files) == []
    assert said(files, {**files, "d/e/c": (0o755, "4444")}) == [("d/e/c", ("content",))]
    assert said(files, {**files, "d/b": (0o600, "22")}) == [("d/b", ("mode",))]
    assert said(files, {**files, "d/b": (0o600, "23")}) == [("d/b", ("content", "mode"))]
    assert said(files, {**files, "l": (stat.S_IFLNK, "d")}) == [("l", ("target",))]
    assert said(files, {**files, "l": (0o644, "a")}) == [("l", ("kind",))]
    assert said(files, {**files, "d/n": (0o644, "")}) == [("d/n", ("added",))]
    assert said(files, {**files, "n/x/y": (0o644, "")}) == [("n", ("added",))]
    assert said(files, {path: file for path, file in files.items() if path != "z/y"}) == [("z", ("removed",))]
    (change,) = differing(kept(files), kept({**files, "d/b": (0o644, "4444")}))
    assert change.old is not None and change.new is not None
    assert (change.old.size, change.new.size) == (2, 4)


_NAMES = st.sampled_from(["a", "b", "c d", "é", "x\udcff", "long" * 40])
_FILES = st.tuples(st.sampled_from([0o644, 0o755, stat.S_IFLNK]), st.text("ab", min_size=1, max_size=3))
_TREES = st.dictionaries(st.lists(_NAMES, min_size=1, max_size=3).map("/".join), _FILES, max_size=12)


def _consistent(files: Files) -> Files:
    """Without paths that lead through a file."""
    return {path: file for path, file in files.items() if not any(other != path and path.startswith(f"{other}/") for other in files)}


@settings(max_examples=300, deadline=None)
@given(_TREES, _TREES)
def test_it_agrees_with_a_comparison_of_all_paths(first: Files, second: Files) -> None:
    old, new = _consistent(first), _consistent(second)
    found = differing(kept(old), kept(new))
    covered = {change.path for change in found}
    wanted = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}

    def is_covered(path: str) -> bool:
        names = path.split("/")
        return any("/".join(names[:depth]) in covered for depth in range(1, len(names) + 1))

    assert all(is_covered(path) for path in wanted)
    for change in found:
        assert any(path == change.path or path.startswith(f"{change.path}/") for path in wanted)


@settings(max_examples=300, deadline=None)
@given(_TREES)
def test_a_node_is_packed_and_unpacked(files: Files) -> None:
    tree = kept(_consistent(files))
    for digest, text in tree.texts.items():
        node = node_of(text, tree.sizes(digest))
        assert unpack(pack(node)) == node
        assert len(node) == len(node.words()) == len(node.entries()) == text.count("\0") // 5


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_damage_is_an_error_of_ours(data: bytes) -> None:
    try:
        node = unpack(data)
        node.entries()
        list(node.below())
    except CorruptError:
        pass


def test_an_edit_stores_only_the_directories_above_it(tmp_path: Path) -> None:
    files: Files = {f"d{number}/e{inner}/f": (0o644, f"{number}{inner}") for number in range(10) for inner in range(10)}
    evidence = Evidence(tmp_path)

    def count() -> int:
        evidence._take_in()  # few nodes wait beside the database
        with evidence.connections.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM nodes").fetchone()[0])

    old, new = kept(files), kept({**files, "d3/e4/f": (0o644, "edited")})
    evidence.keep([old])
    assert count() == 1 + 1 + 10 + 100  # what was asked for, the top, and the directories
    evidence.keep([new])
    assert count() == 112 + 4
    found = list(changes(old.roots[0], new.roots[0], evidence.node, evidence.node))
    assert [(change.path, change.what) for change in found] == [("d3/e4/f", ("content",))]
    evidence.sweep(new.roots)
    assert count() == 112
    (gone,) = changes(old.roots[0], new.roots[0], evidence.node, evidence.node)
    assert gone.what == ("unknown",)
    evidence.close()


@pytest.mark.parametrize("directories", [1, 1000])
def test_a_comparison_of_many_files_looks_at_few(directories: int) -> None:
    files: Files = {f"d{number % directories}/f{number}": (0o644, str(number)) for number in range(20_000)}
    old, new = kept(files), kept({**files, "d0/f5000": (0o644, "edited")})
    before, now = fetch_from([old]), fetch_from([new])
    for tree, fetch in ((old, before), (new, now)):  # as they are when they come from the store
        for digest in tree.texts:
            fetch(digest[:32])
    nodes_before = {digest[:32]: before(digest[:32]) for digest in old.texts}
    nodes_now = {digest[:32]: now(digest[:32]) for digest in new.texts}

    def compare() -> None:
        (change,) = changes(old.roots[0], new.roots[0], nodes_before.get, nodes_now.get)
        assert (change.path, change.what) == ("d0/f5000", ("content",))

    assert calls(compare) < 1000


def test_a_tree_of_files_on_disk(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "file").write_text("1,204")

    with LocalContext(tmp_path) as context:
        old = Kept()
        TreeDigests(context, context.digests, old).entry("/d")
        evidence = Evidence(tmp_path)
        evidence.keep([old])
    (tmp_path / "d" / "file").write_text("longer than before")
    os.chmod(tmp_path / "d", 0o700)
    with LocalContext(tmp_path) as context:
        new = Kept()
        TreeDigests(context, context.digests, new).entry("/d")
        found = list(changes(old.roots[0], new.roots[0], evidence.node, fetch_from([new])))
    assert [(change.path, change.what) for change in found] == [("", ("mode",)), ("file", ("content",))]
    assert found[1].old is not None and found[1].new is not None
    assert (found[1].old.size, found[1].new.size) == (5, 18)
    evidence.close()


def test_tombstones_are_bounded(tmp_path: Path) -> None:
    now = 0.0
    evidence = Evidence(tmp_path, clock=lambda: now)
    assert evidence.tombstone("none") is None
    evidence.bury([], "prune")
    assert not evidence.path.exists()
    evidence.bury(["first"], "prune --all")
    now = 1.0
    evidence.bury([f"key {number}" for number in range(MOST_EVICTED)], "prune")
    assert evidence.tombstone("first") is None
    found = evidence.tombstone("key 0")
    assert found is not None and (found.evicted, found.policy) == (1.0, "prune")
    evidence.close()
