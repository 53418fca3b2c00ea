"""Views that share what they have seen: they see the same as views that don't, and ask each lower once."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.snapshot import DirectoryLower, Lowers, seen, union
from imgbuild.snapshot.readers import DirectoryReader
from imgbuild.snapshot.seen import Seen
from imgbuild.snapshot.union import UnionView

from .overlay_form import Content, make_lower
from .test_union import CONTENTS, PATHS, consistent, seen_by_kernel, seen_by_union, stack

DEEP = st.lists(st.dictionaries(PATHS, CONTENTS, max_size=4), min_size=2, max_size=12)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(DEEP, st.data())
def test_what_stacks_have_in_common_is_seen_as_each_of_them_has_it(layers: list[dict[str, Content]], data: st.DataObject) -> None:
    place = Path(tempfile.mkdtemp())
    try:
        lowers = stack(place, *map(consistent, layers))
        other = (*lowers[:-1], *stack(place / "other", consistent(layers[0])))
        shared = Seen()
        for count in data.draw(st.permutations(range(1, len(lowers) + 1))):
            for each in (lowers[:count], other[:count]):
                with UnionView(each, seen=shared) as view, UnionView(each) as fresh:
                    assert list(view.walk()) == list(fresh.walk())
                    assert [view.lstat(f"/{name}/{name}/none") for name in "abc"] == [None] * 3
    finally:
        shutil.rmtree(place)


def test_a_deep_stack_is_what_the_kernel_shows(tmp_path: Path) -> None:
    layers: list[dict[str, Content]] = [{f"d/f{number}": "x", f"top{number}": "x", "d/all": str(number)} for number in range(12)]
    layers[4] = {"d": ("opaque",), "d/opaque": "x"}
    layers[6] = {"d/opaque": ("whiteout",), "top2": ("whiteout",)}
    layers[9] = {"top3": ("dir", 0o700), "top3/x": "y"}
    lowers = stack(tmp_path, *map(consistent, layers))
    assert seen_by_union(lowers) == seen_by_kernel(lowers, tmp_path / "merged")


class Asked:
    """Counts what is asked of lowers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.opened = 0
        self.most = 0
        for name in ("lstat", "names", "opaque", "xattrs", "open"):
            monkeypatch.setattr(DirectoryReader, name, self._counting(getattr(DirectoryReader, name)))
        original, close = union.reader_of, DirectoryReader.close

        def opening(*arguments: object) -> object:
            self.count += 1
            self.opened += 1
            self.most = max(self.most, self.opened)
            return original(*arguments)  # type: ignore[arg-type]

        def closing(reader: DirectoryReader) -> None:
            self.opened -= 1
            close(reader)

        monkeypatch.setattr(union, "reader_of", opening)
        monkeypatch.setattr(DirectoryReader, "close", closing)

    def _counting(self, method: object) -> object:
        def counted(*arguments: object) -> object:
            self.count += 1
            return method(*arguments)  # type: ignore[operator]

        return counted


def step(view: UnionView, number: int) -> None:
    """What a step asks of the stack that it stands on."""
    for path in ("/", "/etc/passwd", "/etc/group", "/proc", "/sys", "/dev", "/bin/sh", f"/new{number}", f"/etc/new{number}"):
        view.lstat(path)
    view.xattrs("/")
    view.read("/etc/passwd")


def steps(place: Path, asked: Asked, count: int) -> int:
    base: dict[str, Content] = {"etc": ("dir", 0o755), "etc/passwd": "root", "bin": ("dir", 0o755), "bin/sh": "x", "proc": ("dir", 0o755)}
    lowers: Lowers = (DirectoryLower(make_lower(place / "base", base)),)
    shared, before = Seen(), asked.count
    for number in range(count):
        for _ in range(3):
            with UnionView(lowers, seen=shared) as view:
                step(view, number)
        layer: dict[str, Content] = {f"new{number}": "x", "etc": ("dir", 0o755), f"etc/new{number}": "x"}
        lowers = (*lowers, DirectoryLower(make_lower(place / f"s{number}", layer)))
    return asked.count - before


def test_a_hundred_steps_ask_ten_times_as_much_as_ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    few, many = steps(tmp_path / "few", asked, 20), steps(tmp_path / "many", asked, 80)
    assert many < 5 * few
    assert asked.opened == 0


def test_a_deep_stack_is_not_opened_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)
    lowers = stack(tmp_path, *({f"f{number}": "x", "d/all": "x", f"d/f{number}": "x"} for number in range(60)))
    with UnionView(lowers) as view:
        assert asked.opened == 0
        for number in range(60):
            assert view.lstat(f"/f{number}")
            assert view.lstat(f"/d/f{number}")
            assert view.lstat(f"/d/none{number}") is None
        assert len(view.listdir("/d")) == 61
        assert 0 < asked.most < 20
    assert asked.opened == 0


def test_what_is_kept_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_REMEMBERED", 50)
    monkeypatch.setattr(seen, "_LONGEST_LISTING", 3)
    layers: list[dict[str, Content]] = [{f"d/{number}.{more}": "x" for more in range(9)} for number in range(12)]
    lowers = stack(tmp_path, *({f"f{number}": "x", "d/all": "x", **layer} for number, layer in enumerate(layers)))
    shared = Seen()
    with UnionView(lowers, seen=shared) as view:
        for number in range(200):
            assert view.lstat(f"/none{number}") is None
            assert (view.lstat(f"/f{number}") is not None) == (number < 12)
            assert (view.lstat(f"/d/{number}.8") is not None) == (number < 12)
            kept = sum(len(level.found) for level in shared.levels(lowers))
            assert kept <= 50


def test_the_names_of_one_file_are_told_by_its_lower_and_not_by_where_that_was_mounted(tmp_path: Path) -> None:
    lowers = stack(tmp_path, {"a/x": "1"}, {"b/x": "1"})
    for number, name in enumerate("ab"):
        os.link(tmp_path / f"l{number}" / name / "x", tmp_path / f"l{number}" / name / "y")
    with UnionView(lowers) as view:
        x, y, other = (view.lstat(path) for path in ("/a/x", "/a/y", "/b/x"))
        assert x is not None
        assert y is not None
        assert other is not None
        assert (x.dev, x.ino) == (y.dev, y.ino)
        assert x.dev != other.dev


def test_of_what_is_below_nothing_nothing_is_kept(tmp_path: Path) -> None:
    lowers, shared = stack(tmp_path, {"a/x": "1"}), Seen()
    with UnionView(lowers, seen=shared) as view:
        for number in range(100):
            assert view.lstat(f"/new/sub/f{number}") is None
            assert view.lstat(f"/a/x/f{number}/g") is None
    assert len(shared.levels(lowers)[-1].found) < 110


def test_what_each_step_asks_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers: list[dict[str, Content]] = [{"etc": ("dir", 0o755), "etc/passwd": "root"}, {"f1": "x"}, {"f2": "x"}, {"etc/passwd": "more"}]
    lowers = stack(tmp_path, *map(consistent, layers))
    os.setxattr(lowers[0].path / "etc", "user.of", b"etc")
    opened: list[str] = []
    reader_of = union.reader_of
    monkeypatch.setattr(union, "reader_of", lambda lower, userxattr: opened.append(lower.directory) or reader_of(lower, userxattr))
    shared = Seen()
    for count, text, readers in ((1, b"root", 1), (2, b"root", 1), (3, b"root", 1), (4, b"more", 1)):
        opened.clear()
        with UnionView(lowers[:count], seen=shared) as view:
            assert view.read("/etc/passwd") == text
            assert view.read("/etc/passwd", 2) == text[:2]
            if count < 4:
                assert view.xattrs("/etc") == {"user.of": b"etc"}
            assert view.read("/etc") is None
        assert len(opened) == readers


def test_large_files_are_read_as_far_as_is_asked_and_not_kept(tmp_path: Path) -> None:
    lowers = stack(tmp_path, {"large": "x" * 100_000})
    shared = Seen()
    for limit, size in ((5, 5), (99_999, 99_999), (100_000, 100_000), (1 << 20, 100_000)):
        with UnionView(lowers, seen=shared) as view:
            assert view.read("/large", limit) == b"x" * size
