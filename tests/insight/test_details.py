"""Databases of packages, and texts, as a diff reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgbuild.insight.compare import Change, Entry
from imgbuild.insight.packages import PythonPackages, apk_packages, dpkg_packages
from imgbuild.insight.text_changes import MOST_BYTES, unified

DPKG = """Package: a
Status: install ok installed
Architecture: amd64
Version: 1:2-3
Depends: x,
 y

Package: a
Status: hold ok installed
Architecture: i386
Version: 4

Package: b
Status: deinstall ok config-files
Version: 5

Package: c
Architecture: all
Version: 6
Description: Package: d
"""


def test_dpkg() -> None:
    assert dpkg_packages(DPKG) == {"a:amd64": "1:2-3", "a:i386": "4", "c": "6"}
    assert dpkg_packages("") == {}
    assert dpkg_packages("no colon\n\n\n x\n") == {}


def test_apk() -> None:
    assert apk_packages("C:Q1\nP:musl\nV:1.2-r3\nA:x86_64\nF:lib\nR:ld.so\n\nP:zlib\nV:1\n") == {"musl": "1.2-r3", "zlib": "1"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/usr/lib/python3/dist-packages/PyYAML-6.0.dist-info", ("pyyaml", "6.0")),
        ("/venv/lib/python3.12/site-packages/a.b_c-1.0rc1.dist-info", ("a-b-c", "1.0rc1")),
        ("/usr/lib/python3/dist-packages/six-1.16.0-py3.11.egg-info", ("six", "1.16.0")),
        ("/site-packages/x-1.dist-info/METADATA", None),
        ("/elsewhere/x-1.dist-info", None),
        ("/site-packages/x.dist-info", None),
    ],
)
def test_python(path: str, found: tuple[str, str] | None) -> None:
    packages = PythonPackages()
    packages.look(Change(path, "added", None, Entry(path, "dir")))
    assert [(each.name, each.new) for each in packages.changes()] == ([] if found is None else [found])


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_two_texts(old: bytes, new: bytes) -> None:
    lines = unified(old, new, "a", "b")
    if isinstance(lines, str):
        assert b"\0" in old + new
        return
    shown = list(lines)
    assert bool(shown) == (old != new)
    signs = [line[:1] for line in shown[2:]]
    assert set(signs) <= {"@", " ", "+", "-", "\\"}


def test_what_takes_too_long_is_not_done() -> None:
    assert "1 MiB" in unified(b"x" * (MOST_BYTES + 1), b"", "a", "b")
    many = b"".join(b"%d\n" % (number % 150) for number in range(19_000))
    assert "too many lines" in unified(many, many + b"x", "a", "b")
    assert "too many lines" in unified(b"\n" * 30_000, b"", "a", "b")
    popular = b"".join(b"%d\n\n" % number for number in range(9_000))
    assert list(unified(popular, popular + b"x\n", "a", "b"))[-1] == "+x"
