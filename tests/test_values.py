"""Our quick frozen values behave as the standard library's."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, field, fields, replace

import pytest

from imgbuild.values import dataclass


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
