"""COPY's patterns against what Go's filepath.Match answers."""

from __future__ import annotations

import pytest

from imgbuild.context.glob import BadPattern, check, compile_component, is_pattern


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*b*c*d*e*", "axbxcxdxe", True),
        ("a*b*c*d*e*", "axbxcxdxxx", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a\u263ab", True),
        ("a[^a]b", "a\u263ab", True),
        ("a???b", "a\u263ab", False),
        ("[a-\u03b6]*", "\u03b1", True),
        ("*[a-\u03b6]", "A", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[\\-x]", "a", False),
        ("*x", "xxx", True),
        ("a+b.c", "a+b.c", True),
        ("[d-b]", "c", False),
        ("[^d-b]", "c", True),
        ("a\nb*", "a\nbc", True),
    ],
)
def test_table(pattern: str, name: str, matches: bool) -> None:
    assert (compile_component(pattern).fullmatch(name) is not None) is matches


@pytest.mark.parametrize("pattern", ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "a\\", "[a-b-c]"])
def test_malformed(pattern: str) -> None:
    with pytest.raises(BadPattern):
        check(pattern)


@pytest.mark.parametrize(("text", "pattern"), [("a", False), ("a*", True), ("a\\*", False), ("a\\\\*", True), ("[a]", True), ("a?", True)])
def test_what_is_a_pattern(text: str, pattern: bool) -> None:
    assert is_pattern(text) is pattern
