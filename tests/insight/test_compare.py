"""The comparison of two root file systems against a naive one, and each kind of change by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.insight.compare import Change, Entry, Xattrs, compare
from imgbuild.insight.sums import Sums

Tree = Mapping[str, tuple[Entry, bytes, Xattrs]]


class _Contents:
    """The contents of two trees; what is asked for is remembered."""

    def __init__(self, old: Tree, new: Tree) -> None:
        self.old, self.new = old, new
        self.read: list[str] = []

    def differ(self, path: str) -> bool:
        self.read.append(path)
        return self.old[path][1] != self.new[path][1]

    def xattrs(self, path: str) -> tuple[Xattrs, Xattrs]:
        return self.old[path][2], self.new[path][2]


def _walk(tree: Tree) -> list[Entry]:
    return [tree[path][0] for path in sorted(tree, key=lambda path: path.encode("utf-8", "surrogateescape").split(b"/"))]


def _compared(old: Tree, new: Tree, *, times: bool = False) -> list[Change]:
    return list(compare(_walk(old), _walk(new), _Contents(old, new), times=times))


NAMES = st.sampled_from(["a", "b", "a-b", "a.b", "B", "\u00e9", "\udcff"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/" + "/".join(names))
KINDS = st.sampled_from(["file", "dir", "symlink", "fifo", "char"])


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree: dict[str, tuple[Entry, bytes, Xattrs]] = {"/": (Entry("/", "dir", 0o755), b"", ())}
    for path in draw(st.lists(PATHS, max_size=12, unique=True)):
        parents = ["/".join(path.split("/")[:depth]) for depth in range(2, len(path.split("/")))]
        if any(parent in tree and tree[parent][0].kind != "dir" for parent in parents):
            continue
        for parent in parents:
            tree.setdefault(parent, (Entry(parent, "dir", 0o755), b"", ()))
        if path in tree:
            continue
        kind = draw(KINDS)
        content = draw(st.sampled_from([b"", b"x", b"y"])) if kind == "file" else b""
        link = draw(st.sampled_from(["x", "/y"])) if kind == "symlink" else ""
        owner = draw(st.sampled_from([0, 7]))
        entry = Entry(path, kind, draw(st.sampled_from([0o644, 0o755])), owner, owner, len(content), draw(st.integers(0, 1)), (0, 0), link)
        xattrs = draw(st.sampled_from([(), ((b"user.a", b"1"),), ((b"user.a", b"2"),)])) if kind in ("file", "dir") else ()
        tree[path] = (entry, content, xattrs)
    return tree


def _naive(old: Tree, new: Tree, times: bool) -> dict[str, str]:
    def facts(item: tuple[Entry, bytes, Xattrs]) -> object:
        entry, content, xattrs = item
        mode = 0 if entry.kind == "symlink" else entry.mode
        return entry.kind, mode, entry.uid, entry.gid, content, xattrs, entry.link, entry.mtime_ns if times else 0

    found = dict.fromkeys(old.keys() - new.keys(), "removed") | dict.fromkeys(new.keys() - old.keys(), "added")
    return found | {path: "changed" for path in old.keys() & new.keys() if facts(old[path]) != facts(new[path])}


@given(trees(), trees(), st.booleans())
def test_agrees_with_a_naive_comparison(old: Tree, new: Tree, times: bool) -> None:
    contents = _Contents(old, new)
    changes = list(compare(_walk(old), _walk(new), contents, times=times))
    assert {change.path: change.verb for change in changes} == _naive(old, new, times)
    everything = _walk({**old, **new})
    assert [change.path for change in changes] == [entry.path for entry in everything if entry.path in {change.path for change in changes}]
    sizes = [sum(entry.size for entry, _, _ in tree.values()) for tree in (old, new)]
    sums = Sums(1)
    for change in changes:
        sums.count(change)
    assert sums.all.growth == sizes[1] - sizes[0]
    assert sum(each.growth for _, each in sums.directories()) == sums.all.growth
    assert sum(each.entries for _, each in sums.directories()) == sums.all.entries == len(changes)
    # No file is read whose size says enough.
    assert all(old[path][0].size == new[path][0].size for path in contents.read)


@given(trees())
def test_nothing_differs_from_itself(tree: Tree) -> None:
    assert _compared(tree, tree, times=True) == []


FILE = Entry("/f", "file", 0o644, size=1)


@pytest.mark.parametrize(
    ("old", "new", "aspects"),
    [
        (FILE, replace(FILE, size=2), ("content",)),
        (FILE, replace(FILE, mode=0o4755), ("mode",)),
        (FILE, replace(FILE, gid=5), ("owner",)),
        (FILE, Entry("/f", "dir", 0o755), ("type",)),
        (FILE, Entry("/f", "symlink", link="g"), ("type",)),
        (Entry("/f", "symlink", 0o777, link="g"), Entry("/f", "symlink", 0o755, link="h"), ("link",)),
        (Entry("/f", "symlink", 0o777, link="g"), Entry("/f", "symlink", 0o755, link="g"), None),
        (Entry("/f", "char", device=(1, 3)), Entry("/f", "char", device=(1, 5)), ("device",)),
        (FILE, replace(FILE, first="/e"), ("hardlink",)),
        (FILE, replace(FILE, size=3, mode=0o600, uid=1), ("content", "mode", "owner")),
        (FILE, replace(FILE, mtime_ns=1), None),
    ],
)
def test_aspects(old: Entry, new: Entry, aspects: tuple[str, ...] | None) -> None:
    found = _compared({"/f": (old, b"", ())}, {"/f": (new, b"", ())})
    assert [change.aspects for change in found] == ([] if aspects is None else [aspects])


def test_times_where_they_are_asked_for() -> None:
    late = replace(FILE, mtime_ns=1)
    assert [change.aspects for change in _compared({"/f": (FILE, b"", ())}, {"/f": (late, b"", ())}, times=True)] == [("time",)]


def test_attributes_are_told_apart() -> None:
    old, new = ((b"user.a", b"1"), (b"user.b", b"1")), ((b"user.b", b"2"), (b"user.c", b"3"))
    (change,) = _compared({"/f": (FILE, b"", old)}, {"/f": (FILE, b"", new)})
    assert [(each.name, each.old, each.new) for each in change.xattrs] == [
        (b"user.a", b"1", None),
        (b"user.b", b"1", b"2"),
        (b"user.c", None, b"3"),
    ]


def test_a_file_of_several_names_counts_once() -> None:
    one, other = Entry("/a", "file", size=100), Entry("/b", "file", size=100, first="/a")
    changes = _compared({}, {"/a": (one, b"", ()), "/b": (other, b"", ())})
    assert [change.growth for change in changes] == [100, 0]


@pytest.mark.parametrize(("depth", "paths"), [(0, []), (1, ["/", "/a"]), (2, ["/", "/a", "/a/b"]), (9, ["/", "/a", "/a/b", "/a/b/c"])])
def test_directories_down_to_a_depth(depth: int, paths: list[str]) -> None:
    sums = Sums(depth)
    for path in ("/x", "/a/x", "/a/b/x", "/a/b/c/x"):
        sums.count(Change(path, "added", None, Entry(path, "file", size=1)))
    assert [path for path, _ in sums.directories()] == paths
    assert sum(each.growth for _, each in sums.directories()) == (4 if depth else 0)
