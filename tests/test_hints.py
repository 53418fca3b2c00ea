"""What stands for typing and re at run time behaves as far as it is used."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from imgbuild import patterns
from imgbuild.hints import Any, Generic, Literal, NamedTuple, NewType, Protocol, TypedDict, TypeVar, cast
from imgbuild.oci.digest import digest_of
from imgbuild.patterns import ASCII, DOTALL, IGNORECASE, MULTILINE, VERBOSE, pattern

ROOT = Path(__file__).resolve().parents[1]

Kind = Literal["a", "b"]
T = TypeVar("T", bound=str)
Name = NewType("Name", str)


class Shape(Protocol):
    def area(self) -> float: ...


class Box(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value


class Words(TypedDict, total=False):
    one: str


class Row(NamedTuple):
    """A row."""

    name: str
    size: int = 3

    def double(self) -> int:
        return 2 * self.size

    @classmethod
    def of(cls, name: str) -> Row:
        return cls(name, 4)


def test_words_of_the_checker_do_nothing() -> None:
    assert Name("x") == "x"
    assert type(Name("x")) is str
    assert cast("Any", "x") == "x"
    assert Box[Any]("x").value == "x"
    assert Words(one="x") == {"one": "x"}


def test_named_tuples() -> None:
    row = Row("a")
    assert row == ("a", 3)
    assert row.double() == 6
    assert Row.of("b") == Row("b", size=4)
    assert row._replace(size=1)._asdict() == {"name": "a", "size": 1}
    assert repr(row) == "Row(name='a', size=3)"
    assert Row.__doc__ == "A row."
    assert pickle.loads(pickle.dumps(row)) == copy.copy(row) == row
    with pytest.raises(TypeError):
        Row()  # type: ignore[call-arg]


def test_flags_are_those_of_re() -> None:
    for name in ("ASCII", "DOTALL", "IGNORECASE", "MULTILINE", "VERBOSE"):
        assert getattr(patterns, name) == getattr(re, name)


def test_patterns_are_compiled_when_used() -> None:
    found = pattern(r"(a+).(b)", IGNORECASE | DOTALL | ASCII)
    assert found.sub("x", "aA\nb-") == "x-"
    match = found.fullmatch("AA\nB")
    assert match is not None
    assert match[2] == "B"
    assert found.groups == 2
    assert found.pattern == r"(a+).(b)"
    assert pattern(rb"^x$", MULTILINE).findall(b"x\nx") == [b"x", b"x"]
    assert pattern("a b", VERBOSE).match("ab")
    with pytest.raises(AttributeError):
        found.nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(re.error):
        pattern("(").match("x")


def test_both_ways_to_hash_are_one() -> None:
    import hashlib

    for size in (0, 1, 1 << 14, (1 << 14) + 1):
        assert digest_of(b"x" * size) == f"sha256:{hashlib.sha256(b'x' * size).hexdigest()}"


def test_neither_is_imported() -> None:
    code = "import sys, imgbuild.hints, imgbuild.oci.reference; print({'typing', 're', 'enum', '_hashlib'} & set(sys.modules))"
    code = f"import sys; sys.path.insert(0, '.'); {code}"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
