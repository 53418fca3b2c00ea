"""Our quick frozen values behave as the standard library's."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from imgbuild.values import asdict, dataclass, field, fields, is_dataclass, replace


@dataclass(frozen=True, slots=True)
class Plain:
    name: str
    size: int = 1
    note: str = field(default="", compare=False, metadata={"keyed": False})
    extra: list[int] = field(default_factory=list, repr=False, compare=False)

    @property
    def double(self) -> int:
        return 2 * self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class More(Plain):
    color: str
    checked: bool = False

    def __post_init__(self) -> None:
        if self.color == "none":
            raise ValueError


def test_it_is_made_and_compared_by_its_fields() -> None:
    value = Plain("a", note="x")
    assert (value.name, value.size, value.note, value.extra, value.double) == ("a", 1, "x", [], 2)
    assert value == Plain("a") != Plain("b")
    assert hash(value) == hash(Plain("a"))
    assert value != More("a", color="red")
    assert repr(value) == "Plain(name='a', size=1, note='x')"
    assert Plain("a").extra is not Plain("a").extra


def test_it_inherits() -> None:
    value = More("a", 3, color="red")
    assert replace(value, color="blue") == More("a", 3, color="blue")
    assert asdict(value) == {"name": "a", "size": 3, "note": "", "extra": [], "color": "red", "checked": False}
    assert [item.name for item in fields(value)] == ["name", "size", "note", "extra", "color", "checked"]
    assert fields(Plain)[2].metadata == {"keyed": False}
    with pytest.raises(ValueError):
        More("a", color="none")


def test_it_can_be_matched_copied_and_pickled() -> None:
    match Plain("a", 5):
        case Plain(name, size):
            assert (name, size) == ("a", 5)
    for value in (Plain("a", 5, "n", [1]), More("a", color="red")):
        assert copy.copy(value) == value == pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize(
    "arguments",
    [((), {}), (("a",), {"name": "b"}), (("a", 1, "", [], 5), {}), (("a",), {"unknown": 1})],
    ids=["missing", "twice", "many", "unknown"],
)
def test_wrong_arguments_are_refused(arguments: tuple[tuple[object, ...], dict[str, object]]) -> None:
    with pytest.raises(TypeError):
        Plain(*arguments[0], **arguments[1])  # type: ignore[arg-type]


def test_it_is_frozen_and_has_no_room_for_more() -> None:
    value = Plain("a")
    with pytest.raises(FrozenInstanceError):
        value.name = "b"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del value.name
    with pytest.raises((FrozenInstanceError, AttributeError)):
        value.other = 1  # type: ignore[attr-defined]
    assert not hasattr(value, "__dict__")


@dataclass(slots=True)
class Open:
    name: str
    inner: tuple[Plain, ...] = ()
    found: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Foreign:
    """Fields as the standard module declares them."""

    name: str
    seen: list[int] = dataclasses.field(default_factory=list, compare=False, kw_only=True)


@dataclasses.dataclass(frozen=True)
class Standard:
    inner: Plain
    number: int = 1


def test_an_open_one_can_be_changed_and_has_no_hash() -> None:
    value = Open("a")
    value.name = "b"
    value.found["x"] = 1
    assert value == Open("b", (), {"x": 1}) != Open("a")
    with pytest.raises(TypeError):
        hash(value)
    with pytest.raises(AttributeError):
        value.other = 1  # type: ignore[attr-defined]
    assert copy.deepcopy(value) == value


def test_the_standard_module_sees_what_is_here() -> None:
    value = Open("a", (Plain("b", 2),), {"c": 3})
    assert dataclasses.is_dataclass(value)
    assert dataclasses.is_dataclass(Open)
    assert dataclasses.asdict(value) == asdict(value)
    assert asdict(value) == {"name": "a", "inner": ({"name": "b", "size": 2, "note": "", "extra": []},), "found": {"c": 3}}
    assert dataclasses.replace(value, name="z") == replace(value, name="z")
    mine, theirs = fields(Plain), dataclasses.fields(Plain)
    assert [(item.name, item.repr, item.compare, item.metadata) for item in mine] == [
        (item.name, item.repr, item.compare, item.metadata) for item in theirs
    ]
    assert Foreign("a", seen=[1]) == Foreign("a")
    assert Foreign("a").seen is not Foreign("a").seen


def test_the_standard_ones_are_taken_too() -> None:
    value = Standard(Plain("a"))
    assert is_dataclass(value)
    assert not is_dataclass(1)
    assert [item.name for item in fields(value)] == ["inner", "number"]
    assert replace(value, number=2) == Standard(Plain("a"), 2)
    assert asdict(value) == dataclasses.asdict(value)
    with pytest.raises(TypeError):
        asdict({})  # type: ignore[call-overload]


def test_it_does_not_import_what_parses_python() -> None:
    code = "import sys, imgbuild.errors; print({'dataclasses', 'inspect', 'ast', 'tokenize'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def _fresh() -> Any:
    @dataclass(frozen=True, slots=True)
    class Base:
        one: int
        two: list[int] = field(default_factory=list, compare=False)

        def __post_init__(self) -> None:
            if self.one < 0:
                raise ValueError

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Derived(Base):
        three: str = "3"

    class Plain(Derived):
        def __init__(self) -> None:
            super().__init__(1, three="4")

    return Base, Derived, Plain


@pytest.mark.parametrize(
    "first",
    [
        lambda base, derived, plain: plain(),
        lambda base, derived, plain: derived(5) == base(5),
        lambda base, derived, plain: hash(derived(5)),
        lambda base, derived, plain: (derived.__match_args__, base.__match_args__),
        lambda base, derived, plain: fields(derived),
        lambda base, derived, plain: dataclasses.fields(plain),
        lambda base, derived, plain: repr(plain()),
        lambda base, derived, plain: copy.copy(derived(5)),
        lambda base, derived, plain: replace(plain.__mro__[1](5), one=6),
    ],
)
def test_a_class_is_whole_whatever_is_asked_first(first: Any) -> None:
    base, derived, plain = _fresh()
    first(base, derived, plain)
    one, other = derived(1, three="4"), plain()
    assert (base(1) == base(1, [2]), hash(base(1)) == hash(base(1, [2])), base(1) == base(2), one == other) == (True, True, False, False)
    assert (one == derived(1, [3], three="4"), one == derived(1), other == plain()) == (True, False, True)
    assert (base.__match_args__, derived.__match_args__, plain.__match_args__) == (("one", "two"),) * 3
    assert [item.name for item in fields(derived)] == ["one", "two", "three"]
    shown = [repr(value).rpartition(".")[2] for value in (one, other)]
    assert shown == ["Derived(one=1, two=[], three='4')", "Plain(one=1, two=[], three='4')"]
    assert replace(one, one=2, three="5") == derived(2, three="5")
    assert asdict(one) == {"one": 1, "two": [], "three": "4"}
    for wrong in (derived, lambda: derived(1, [], "x"), lambda: base(1, four=4)):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError):
        derived(-1)
    with pytest.raises(FrozenInstanceError):
        one.three = "x"
