"""Tables: columns line up, and none takes more room than there is."""

from __future__ import annotations

from imgbuild.cli.tables import shortened, shortened_path, table


def test_columns_line_up_and_hold_one_line() -> None:
    assert table(["A", "B"], [["1", "x"], ["22\n", ""]]) == "A     B\n1     x\n22?"


def test_what_is_long_is_cut_where_it_tells_least() -> None:
    assert shortened("a  b\nc") == "a b c"
    assert shortened("x" * 60) == "x" * 60
    assert shortened("x" * 61) == "x" * 57 + "..."
    assert shortened_path("/a/b") == "/a/b"
    assert shortened_path("/" + "a" * 80 + "/Buildfile:3") == "..." + "a" * 45 + "/Buildfile:3"
    assert len(shortened_path("x" * 61)) == 60
