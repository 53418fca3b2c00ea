"""Frozen values at little cost: ``@dataclass(frozen=True, slots=True)`` without compiling code for each class at import.

The standard decorator writes the source of six methods for each class and compiles it, half a millisecond a class: with the hundreds
of values that this program is made of, that would be most of the start of a build in which all is cached. Here the methods are closures
over the fields. What comes out has the fields, and works with `dataclasses.replace`, `fields` and `asdict`, as any dataclass; making an
instance is a little slower, so values that are made by the hundred thousand use the standard one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses
    from collections.abc import Callable
    from inspect import get_annotations
    from typing import Any

    _MISSING = dataclasses.MISSING

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """As `dataclasses.dataclass`; quick for ``frozen=True, slots=True`` with or without ``kw_only``."""
        if cls is not None:
            return dataclasses.dataclass(cls)
        if not (options.get("frozen") and options.get("slots")) or options.keys() - {"frozen", "slots", "kw_only"}:
            return dataclasses.dataclass(**options)
        return lambda plain: _value(plain, options.get("kw_only", False))

    def _value(plain: type, kw_only: bool) -> type:
        own = {name: _field(plain, name, kind, kw_only) for name, kind in get_annotations(plain).items()}
        inherited: dict[str, dataclasses.Field[Any]] = {}
        for base in reversed(plain.__mro__[1:]):
            inherited |= getattr(base, "__dataclass_fields__", {})
        fields = inherited | own
        members = {name: member for name, member in plain.__dict__.items() if name not in ("__dict__", "__weakref__", *own)}
        members["__slots__"] = tuple(name for name in own if name not in inherited)
        members["__dataclass_fields__"] = fields
        members["__match_args__"] = tuple(field.name for field in fields.values() if not field.kw_only)
        made = type(plain)(plain.__name__, plain.__bases__, members)
        made.__qualname__ = plain.__qualname__
        names = tuple(fields)
        compared = tuple(field.name for field in fields.values() if field.compare)
        methods = {
            "__init__": _init(made, fields),
            "__repr__": _repr(tuple(field.name for field in fields.values() if field.repr)),
            "__eq__": _eq(compared),
            "__hash__": _hash(compared),
            "__setattr__": _refuse,
            "__delattr__": _refuse,
            "__reduce__": lambda self: (_restore, (type(self), {name: getattr(self, name) for name in names})),
        }
        for name, method in methods.items():
            if name not in plain.__dict__:
                setattr(made, name, method)
        return made

    def _field(plain: type, name: str, kind: object, kw_only: bool) -> dataclasses.Field[Any]:
        given = plain.__dict__.get(name, _MISSING)
        field = given if isinstance(given, dataclasses.Field) else dataclasses.field(default=given)
        field.name, field.type, field._field_type = name, kind, dataclasses._FIELD
        if field.kw_only is _MISSING:
            field.kw_only = kw_only
        return field

    def _init(made: type, fields: dict[str, dataclasses.Field[Any]]) -> Callable[..., None]:
        positional = made.__match_args__
        # The slots' own descriptors write past __setattr__, which refuses.
        plan = tuple((name, getattr(made, name).__set__, field.default, field.default_factory) for name, field in fields.items())
        has_post = hasattr(made, "__post_init__")

        def __init__(self: Any, *args: Any, **given: Any) -> None:
            if args:
                if len(args) > len(positional):
                    raise TypeError(f"{made.__name__} takes {len(positional)} arguments by position, but {len(args)} were given")
                for name, value in zip(positional, args, strict=False):
                    if name in given:
                        raise TypeError(f"{made.__name__} was given {name!r} twice")
                    given[name] = value
            used = len(given)
            for name, put, default, factory in plan:
                if name in given:
                    put(self, given[name])
                    used -= 1
                elif default is not _MISSING:
                    put(self, default)
                elif factory is not _MISSING:
                    put(self, factory())
                else:
                    raise TypeError(f"{made.__name__} needs {name!r}")
            if used:
                raise TypeError(f"{made.__name__} has no {', '.join(sorted(given.keys() - fields.keys()))}")
            if has_post:
                self.__post_init__()

        return __init__

    def _repr(names: tuple[str, ...]) -> Callable[[Any], str]:
        def __repr__(self: Any) -> str:
            return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

        return __repr__

    def _eq(names: tuple[str, ...]) -> Callable[[Any, object], Any]:
        def __eq__(self: Any, other: object) -> Any:
            if type(self) is not type(other):
                return NotImplemented
            return all(getattr(self, name) == getattr(other, name) for name in names)

        return __eq__

    def _hash(names: tuple[str, ...]) -> Callable[[Any], int]:
        def __hash__(self: Any) -> int:
            return hash(tuple([getattr(self, name) for name in names]))

        return __hash__

    def _refuse(self: Any, name: str, *value: object) -> None:
        raise dataclasses.FrozenInstanceError(f"{type(self).__name__} is a value: {name!r} can't be changed")

    def _restore(cls: type, values: dict[str, Any]) -> Any:
        made = cls.__new__(cls)
        for name, value in values.items():
            getattr(cls, name).__set__(made, value)
        return made


__all__ = ["dataclass"]
