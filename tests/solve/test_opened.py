"""What is told of the files that a step opened, held against a plain model of the same; and what is never claimed."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgbuild.context.digest import Kept, TreeDigests
from imgbuild.context.ignore import Ignore
from imgbuild.context.local import LocalContext
from imgbuild.errors import Source, Span
from imgbuild.graph.ops import CopyOp, Step
from imgbuild.linux.node import Node
from imgbuild.oci.digest import Digest
from imgbuild.sandbox.watch import Listener
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.readers import reader_of
from imgbuild.solve.opened import FREE, Opening, Part, Row, _Ground, _Marks, directories_of, parts_of, told, unopened
from imgbuild.solve.state import Wanted

SPAN = Span(Source("Buildfile", ("COPY . /app",)), 1, 1)


def _part(context: Path, target: str = "/app", path: str = "/", *, single: bool = False) -> Part:
    """A part as a COPY of a directory, or a file, has it."""
    kept = Kept()
    with LocalContext(context, Ignore()) as tree:
        digests = TreeDigests(tree, kept=kept)
        digests.entry(path) if single else digests.contents(path)
    return Part("key", path[1:], target, kept, single)


def _unopened(part: Part, upper: Path, opened: dict[str, set[str]] | None = None, *absent: str) -> tuple[int, int, list[Row]]:
    """What `unopened` says of a step with this upperdir."""
    upper.mkdir(exist_ok=True)
    with closing(reader_of(DirectoryLower(upper), False)) as reader:
        return unopened(part, _Marks(opened or {}, frozenset(absent), reader))


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    for name in ("src/main", "src/deep/one", "docs/page", "docs/more/page", "top"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    return place


def test_the_highest_directories_are_named(context: Path, tmp_path: Path) -> None:
    part = _part(context)
    files, opened, rows = _unopened(part, tmp_path / "upper", {"/app/src": {"main"}, "/app/docs/more": {""}})
    assert (files, opened) == (5, 1)
    assert sorted(rows) == [("docs", 2, 23, True), ("src/deep", 1, 12, False), ("top", 1, 3, False)]
    assert _unopened(part, tmp_path / "upper")[2] == [("", 5, 46, False)]


def test_what_was_absent_or_written_is_not_claimed(context: Path, tmp_path: Path) -> None:
    part = _part(context)
    assert {row.path for row in _unopened(part, tmp_path / "upper", {}, "/app/docs")[2]} == {"src", "top"}
    assert _unopened(part, tmp_path / "upper", {}, "/app")[2] == []
    (tmp_path / "upper/app/docs").mkdir(parents=True)
    (tmp_path / "upper/app/src").symlink_to("docs")
    assert {row.path for row in _unopened(part, tmp_path / "upper")[2]} == {"docs", "top"}
    (tmp_path / "upper/app/docs/new").touch()
    assert {row.path for row in _unopened(part, tmp_path / "upper")[2]} == {"docs/more", "docs/page", "top"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other/app").touch()
    assert _unopened(part, tmp_path / "other")[2] == []


def test_the_whole_root_and_single_files(context: Path, tmp_path: Path) -> None:
    part = _part(context, "/")
    assert directories_of([part], FREE) == ("/", "/src", "/src/deep", "/docs", "/docs/more")
    rows = _unopened(part, tmp_path / "upper", {"/": {"etc"}, "/docs": {"page"}})[2]
    assert {row.path for row in rows} == {"docs/more", "src", "top"}
    single = _part(context, "/top", "/top", single=True)
    assert directories_of([single], FREE) == ("/",)
    assert _unopened(single, tmp_path / "upper", {"/": {""}}) == (1, 0, [("", 1, 3, True)])
    assert _unopened(single, tmp_path / "upper", {"/": {"top"}}) == (1, 1, [])


def test_a_tree_that_lies_deep(tmp_path: Path) -> None:
    kept, node = Kept(), Node.of(os.lstat(tmp_path))
    kept.add_directory("0", "file\0file 644\0\0\0\0", {"file": node._replace(size=7)})
    for number in range(1, 1500):
        kept.add_directory(str(number), f"d\0directory 755\0\0\0{number - 1}\0", {"d": node})
    kept.add_root("root", 0, "directory\0\0\x001499", "")
    part = Part("key", "", "/app", kept, single=False)
    assert directories_of([part], 1000) is None
    found = directories_of([part], 2000)
    assert found is not None
    assert len(found) == 1500
    assert _unopened(part, tmp_path / "upper")[2] == [("", 1, 7, False)]


def test_a_record_is_bounded(context: Path) -> None:
    part = _part(context)
    rows = [Row(f"file {number}", 1, number, False) for number in range(1000)]
    (record,) = told([(part, (1000, 0, rows))])
    assert len(record["unopened"]) == 200
    assert record["more"] == 800
    assert min(row[2] for row in record["unopened"]) == 800
    long = [Row(f"{number}" + 4000 * "x", 1, number, False) for number in range(9)]
    (record,) = told([(part, (9, 0, long))])
    assert ([row[2] for row in record["unopened"]], record["more"]) == ([5, 6, 7, 8], 5)


def _wanted(op: CopyOp, *kept: Kept) -> Wanted:
    return Wanted(Step(op, "[1/1] COPY", SPAN), b"", Digest("sha256:" + "0" * 64), kept)  # type: ignore[arg-type]  # a key is a digest


def test_what_has_no_certain_place_is_left_out() -> None:
    directory, file = Kept("src"), Kept("a/top", "top")
    plain: dict[str, Any] = {"sources": ("src",), "epoch": 0}
    assert [(part.target, part.single) for part in parts_of([_wanted(CopyOp(destination="/app/", **plain), directory, file)])] == [
        ("/app", False), ("/app/top", True),
    ]  # fmt: skip
    assert [part.target for part in parts_of([_wanted(CopyOp(destination="/app", **plain), directory, file)])] == ["/app"]
    assert [part.target for part in parts_of([_wanted(CopyOp(destination="/", **plain), directory, file)])] == ["/", "/top"]
    assert [part.target for part in parts_of([_wanted(CopyOp(destination="/app/", unpack=True, **plain), directory, file)])] == ["/app"]
    assert parts_of([_wanted(CopyOp(destination="/app/", parents=True, **plain), directory, file)]) == ()


class _Contended(list[Listener]):
    """Another step takes the last one between the look and the grasp."""

    def __bool__(self) -> bool:
        return True


def test_a_listener_that_another_step_has_taken_is_made_anew(context: Path) -> None:
    copies = [_wanted(CopyOp(destination="/app/", sources=("src",), epoch=0), Kept("a/top", "top"))]
    opening = Opening(_Ground(copies), (), ("/app",), _Contended())
    watch = opening.attempt()
    assert watch is not None
    opening.release()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(watch.listener.fd)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@settings(deadline=None, max_examples=60)
@given(st.sets(PATHS, min_size=1, max_size=12), st.data())
def test_nothing_that_was_opened_is_claimed_and_all_else_is(
    tmp_path_factory: pytest.TempPathFactory, paths: set[str], data: st.DataObject
) -> None:
    place = tmp_path_factory.mktemp("context")
    files = sorted(path for path in paths if not any(other.startswith(f"{path}/") for other in paths))
    for path in files:
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(path)
    used = data.draw(st.sets(st.sampled_from(files)))
    opened: dict[str, set[str]] = {}
    for path in used:
        parent, _, name = f"/app/{path}".rpartition("/")
        opened.setdefault(parent, set()).add(name)
    count, used_count, rows = _unopened(_part(place), tmp_path_factory.mktemp("upper") / "u", opened)
    claimed = [path for path in files for row in rows if not row.path or path == row.path or path.startswith(f"{row.path}/")]
    assert sorted(claimed) == sorted(set(files) - used)
    assert (count, used_count) == (len(files), len(used))
    assert sum(row.files for row in rows) == len(files) - len(used)
