"""The words of `typing` that this program uses, for who checks it. Running it has no use for them, and does not import what they cost.

Those of `collections.abc` are here for the same reason: that module imports `collections`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from contextlib import AbstractContextManager
    from types import FrameType, TracebackType
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
    from _collections import _tuplegetter
    from _collections_abc import Mapping, Sequence
    from _collections_abc import Set as AbstractSet

    class _Word:
        """Stands where a type would, with whatever is said of it."""

        def __getitem__(self, item: object) -> _Word:
            return self

        def __call__(self, *given: object, **more: object) -> _Word:
            return self

        def __or__(self, other: object) -> _Word:
            return self

        __ror__ = __or__

    Any = BinaryIO = Literal = NoReturn = Self = TextIO = TypeVar = _Word()
    AbstractContextManager = FrameType = TracebackType = Any
    Callable = Collection = Container = Generator = Hashable = Iterable = Iterator = Any

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

    # A tuple's class without compiling code for it: its maker is that of as many places, with these names for them.
    _new = tuple.__new__
    _MAKERS = (
        None,
        lambda _cls, a: _new(_cls, (a,)),
        lambda _cls, a, b: _new(_cls, (a, b)),
        lambda _cls, a, b, c: _new(_cls, (a, b, c)),
        lambda _cls, a, b, c, d: _new(_cls, (a, b, c, d)),
        lambda _cls, a, b, c, d, e: _new(_cls, (a, b, c, d, e)),
        lambda _cls, a, b, c, d, e, f: _new(_cls, (a, b, c, d, e, f)),
        lambda _cls, a, b, c, d, e, f, g: _new(_cls, (a, b, c, d, e, f, g)),
        lambda _cls, a, b, c, d, e, f, g, h: _new(_cls, (a, b, c, d, e, f, g, h)),
        lambda _cls, a, b, c, d, e, f, g, h, i: _new(_cls, (a, b, c, d, e, f, g, h, i)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j: _new(_cls, (a, b, c, d, e, f, g, h, i, j)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k: _new(_cls, (a, b, c, d, e, f, g, h, i, j, k)),
        lambda _cls, a, b, c, d, e, f, g, h, i, j, k, m: _new(_cls, (a, b, c, d, e, f, g, h, i, j, k, m)),
    )

    def _make(cls: type, values: Iterable[object]) -> object:
        made = _new(cls, values)
        if len(made) != len(cls._fields):
            raise TypeError(f"{cls.__name__} has {len(cls._fields)} places, not {len(made)}")
        return made

    def _replace(self: Any, /, **changes: object) -> object:
        made = _make(type(self), [changes.pop(name, value) for name, value in zip(self._fields, self, strict=True)])
        if changes:
            raise ValueError(f"{type(self).__name__} has no {', '.join(changes)}")
        return made

    def _asdict(self: Any) -> dict[str, object]:
        return dict(zip(self._fields, self, strict=True))

    def _repr(self: Any) -> str:
        return f"{type(self).__name__}({', '.join([f'{name}={value!r}' for name, value in zip(self._fields, self, strict=True)])})"

    def _plain(self: Any) -> tuple[object, ...]:
        return tuple(self)

    _SHARED = {
        "__slots__": (), "_make": classmethod(_make), "_replace": _replace, "_asdict": _asdict, "__repr__": _repr,
        "__getnewargs__": _plain,
    }  # fmt: skip

    class _Named(type):
        def __new__(cls, name: str, bases: tuple[type, ...], members: dict[str, object]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, members)
            names = tuple(members.pop("__annotations__", ()))
            defaults = {field: members.pop(field) for field in names if field in members}
            maker = _MAKERS[len(names)]
            maker = type(maker)(
                maker.__code__.replace(co_varnames=("_cls", *names), co_name="__new__"), globals(), "__new__", tuple(defaults.values())
            )
            places = {field: _tuplegetter(number, None) for number, field in enumerate(names)}
            known = {"_fields": names, "_field_defaults": defaults, "__match_args__": names, "__new__": maker}
            return type(name, (tuple,), {**_SHARED, **known, **places, **members})

    class NamedTuple(metaclass=_Named):
        """A tuple whose places, twelve at most, have names."""

__all__ = [
    "TYPE_CHECKING", "AbstractContextManager", "AbstractSet", "Any", "BinaryIO", "Callable", "Collection", "Container", "FrameType",
    "Generator", "Generic", "Hashable", "Iterable", "Iterator", "Literal", "Mapping", "NamedTuple", "NewType", "NoReturn", "Protocol",
    "Self", "Sequence", "TextIO", "TracebackType", "TypeVar", "TypedDict", "cast", "overload",
]  # fmt: skip
