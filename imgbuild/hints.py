"""The words of `typing` that this program uses, for who checks it. Running it has no use for them, and does not import what they cost."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import (
        Any,
        BinaryIO,
        Generic,
        Literal,
        NamedTuple,
        NewType,
        NoReturn,
        Protocol,
        Self,
        TextIO,
        TypedDict,
        TypeVar,
        cast,
        overload,
    )  # fmt: skip
else:

    class _Word:
        """Stands where a type would, with whatever is said of it."""

        def __getitem__(self, item: object) -> _Word:
            return self

        def __call__(self, *given: object, **more: object) -> _Word:
            return self

    Any = BinaryIO = Literal = NoReturn = Self = TextIO = TypeVar = _Word()

    class Protocol:
        """What others look like is for the checker to know."""

    class Generic:
        """A class of anything."""

        def __class_getitem__(cls, item: object) -> type:
            return cls

    class TypedDict(dict):
        """A dictionary like any other."""

        def __init_subclass__(cls, **given: object) -> None:
            pass

    def NewType(name: str, kind: type) -> type:
        """The type itself, which its values are of."""
        return kind

    def cast(kind: object, value: object) -> object:
        """The value."""
        return value

    def overload(function: object) -> object:
        """The function, which the next of its name replaces."""
        return function

    class _Named(type):
        def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, object]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, members)
            from collections import namedtuple

            names = tuple(members.get("__annotations__", ()))
            defaults = [members.pop(field) for field in names if field in members]
            made = namedtuple(name, names, defaults=defaults, module=members["__module__"])
            for key, member in members.items():
                if key not in ("__module__", "__qualname__", "__annotations__"):
                    setattr(made, key, member)
            return made

    class NamedTuple(metaclass=_Named):
        """A tuple whose places have names."""


__all__ = [
    "TYPE_CHECKING", "Any", "BinaryIO", "Generic", "Literal", "NamedTuple", "NewType", "NoReturn", "Protocol", "Self", "TextIO", "TypeVar",
    "TypedDict", "cast", "overload",
]  # fmt: skip
