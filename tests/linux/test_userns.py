"""Ranges of ids, and what forbids a user namespace. Entering one is tested with the sandbox (tests/sandbox/test_rootless.py)."""

from __future__ import annotations

from pathlib import Path

from imgbuild.linux import userns
from imgbuild.linux.userns import IdRange


def test_ranges(tmp_path: Path) -> None:
    file = tmp_path / "subuid"
    file.write_text("# comment\nother:1:2\nme:100000:65536\n\n1000:500000:10\nme:x:y\nme:7:0\nme:900000:5\nbroken\n")
    assert userns.ranges(str(file), ("me", "1000")) == ((100000, 65536), (500000, 10), (900000, 5))
    assert userns.ranges(str(file), ("nobody",)) == ()
    assert userns.ranges(str(tmp_path / "missing"), ("me",)) == ()


def test_ranges_are_stacked() -> None:
    stacked = userns._stacked(IdRange(0, 1000, 1), ((100000, 65536), (500000, 10)))
    assert stacked == (IdRange(0, 1000, 1), IdRange(1, 100000, 65536), IdRange(65537, 500000, 10))


def test_why_there_is_one_id() -> None:
    one, two = (IdRange(0, 1000, 1),), (IdRange(0, 1000, 1), IdRange(1, 5, 5))
    assert "/etc/subuid has no range for me" in userns._why_one("me", one, two, ("x", "x"))
    assert "/etc/subgid has no range for me" in userns._why_one("me", two, one, ("x", "x"))
    assert "newuidmap" in userns._why_one("me", two, two, ("", "x"))
    assert userns._why_one("me", two, two, ("x", "x")) == ""
