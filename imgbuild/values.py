"""Values at little cost: ``@dataclass(frozen=True, slots=True)``, or open ones with slots, without compiling code for each class at import.

The standard decorator writes the source of six methods for each class and compiles it, half a millisecond a class, and its module
brings in what parses Python: with the hundreds of values that this program is made of, that would be most of the start of a build in
which all is cached. Here the methods are shared, or made when a class is first used, and the standard module is imported only by what asks
for its view of them. What comes out has the fields, and works with `dataclasses.replace`, `fields` and `asdict`, as any dataclass; up to
twelve fields with plain defaults are set as quickly, too. `field`, `fields`, `replace`, `asdict` and `is_dataclass` are the standard ones'
equals, quick for these values and right for others.
"""

from __future__ import annotations

TYPE_CHECKING = False  # which needs no import of typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
    from typing import Any
else:
    from _operator import attrgetter

    FunctionType, MappingProxyType = type(lambda: None), type(type.__dict__)  # as types has them

    _MISSING = object()
    _NOTHING = MappingProxyType({})

    class _Field:
        """What is known of a field, under the names that `dataclasses.Field` has for it."""

        __slots__ = ("compare", "default", "default_factory", "kw_only", "metadata", "name", "repr", "type")

        def __init__(self, default: object, default_factory: object, repr: bool, compare: bool, metadata: object, kw_only: object) -> None:
            self.default = default
            self.default_factory = default_factory
            self.repr = repr
            self.compare = compare
            self.metadata = metadata
            self.kw_only = kw_only

    class _StandardFields:
        """``__dataclass_fields__``: made when somebody asks, which is the standard library."""

        def __get__(self, instance: object, owner: type) -> dict[str, Any]:
            import dataclasses

            made: dict[str, Any] = {}
            for name, own in owner.__values__.items():
                given = {key: value for key in ("default", "default_factory") if (value := getattr(own, key)) is not _MISSING}
                made[name] = dataclasses.field(repr=own.repr, compare=own.compare, metadata=own.metadata, kw_only=own.kw_only, **given)
                made[name].name, made[name].type, made[name]._field_type = name, own.type, dataclasses._FIELD
            return made

    def field(
        *, default: Any = _MISSING, default_factory: Any = _MISSING, repr: bool = True, compare: bool = True,
        metadata: Any = None, kw_only: Any = _MISSING,
    ) -> Any:  # fmt: skip
        """As `dataclasses.field`."""
        return _Field(default, default_factory, repr, compare, _NOTHING if metadata is None else MappingProxyType(metadata), kw_only)

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """As `dataclasses.dataclass`; quick with ``slots=True``, with or without ``frozen`` and ``kw_only``."""
        if cls is None and options.get("slots") and not options.keys() - {"frozen", "slots", "kw_only"}:
            return lambda plain: _value(plain, options.get("kw_only", False), options.get("frozen", False))
        import dataclasses

        return dataclasses.dataclass(**options) if cls is None else dataclasses.dataclass(cls)

    def fields(value: Any) -> tuple[Any, ...]:
        """As `dataclasses.fields`."""
        own = getattr(value, "__values__", None)
        if own is not None:
            return tuple(own.values())
        import dataclasses

        return dataclasses.fields(value)

    def is_dataclass(value: object) -> bool:
        """As `dataclasses.is_dataclass`."""
        cls = value if isinstance(value, type) else type(value)
        return hasattr(cls, "__values__") or hasattr(cls, "__dataclass_fields__")

    def replace(value: Any, /, **changes: Any) -> Any:
        """As `dataclasses.replace`."""
        own = getattr(type(value), "__values__", None)
        if own is None:
            import dataclasses

            return dataclasses.replace(value, **changes)
        for name in own:
            if name not in changes:
                changes[name] = getattr(value, name)
        return type(value)(**changes)

    def asdict(value: Any) -> dict[str, Any]:
        """As `dataclasses.asdict`; what is neither a value nor holds any is not copied."""
        if isinstance(value, type) or not is_dataclass(value):
            raise TypeError("asdict() takes a value")
        return _plain(value)

    def _plain(value: Any) -> Any:
        kind = type(value)
        if is_dataclass(value):
            return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
        if kind in (tuple, list):
            return kind(map(_plain, value))
        if kind is dict:
            return {_plain(key): _plain(item) for key, item in value.items()}
        return value

    def _value(plain: type, kw_only: bool, frozen: bool) -> type:
        # Little is made here: most classes are not used in a run.
        members = dict(plain.__dict__)
        members.pop("__dict__", None)
        members.pop("__weakref__", None)
        own = _annotations(plain)
        values = _Values(own, {name: members.pop(name) for name in own if name in members}, kw_only)
        bases = plain.__mro__[1:-1]
        inherited = {name for base in bases for name in getattr(base, "__values__", ())}

        def __init__(self: Any, /, *args: Any, **given: Any) -> None:
            made.__init__ = _init(made.__name__, made.__values__, hasattr(made, "__post_init__"))
            made.__init__(self, *args, **given)

        members = {
            "__init__": __init__,
            **_SHARED,
            **(_FROZEN if frozen else _OPEN),
            **members,
            "__slots__": tuple([name for name in own if name not in inherited]),
            "__values__": values,
        }
        values.owner = made = type(plain)(plain.__name__, plain.__bases__, members)
        made.__qualname__ = plain.__qualname__
        return made

    class _Values:
        """``__values__``: the fields by name, made when somebody asks for them."""

        __slots__ = ("_annotated", "_given", "_kw_only", "owner")

        def __init__(self, annotated: dict[str, object], given: dict[str, object], kw_only: bool) -> None:
            self._annotated = annotated
            self._given = given
            self._kw_only = kw_only

        def __get__(self, instance: object, owner: type) -> dict[str, _Field]:
            known: dict[str, _Field] = {}
            for base in reversed(self.owner.__mro__[1:-1]):
                known |= getattr(base, "__values__", ())
            for name, kind in self._annotated.items():
                known[name] = _field(self._given.get(name, _MISSING), name, kind, self._kw_only)
            self.owner.__values__ = known
            return known

    class _Matched:
        """``__match_args__``."""

        def __get__(self, instance: object, owner: type) -> tuple[str, ...]:
            return tuple([name for name, item in owner.__values__.items() if not item.kw_only])

    class _Look:
        """``__look__``: what two values are compared by, made when the first are."""

        def __get__(self, instance: object, owner: type) -> Callable[[object], object]:
            names = [name for name, item in owner.__values__.items() if item.compare]
            owner.__look__ = look = attrgetter(*names) if names else type
            return look

    def _annotations(plain: type) -> dict[str, object]:
        return plain.__dict__.get("__annotations__") or {}  # noqa: RUF063  (inspect, which has a word for it, parses Python)

    def _field(given: object, name: str, kind: object, kw_only: bool) -> _Field:
        if isinstance(given, _Field):
            made = given
        elif type(given).__name__ == "Field" and type(given).__module__ == "dataclasses":
            import dataclasses

            values = [_MISSING if item is dataclasses.MISSING else item for item in (given.default, given.default_factory, given.kw_only)]
            made = _Field(values[0], values[1], given.repr, given.compare, given.metadata, values[2])
        else:
            made = _Field(given, _MISSING, True, True, _NOTHING, _MISSING)
        made.name, made.type = name, kind
        if made.kw_only is _MISSING:
            made.kw_only = kw_only
        return made

    def _init(title: str, known: dict[str, _Field], has_post: bool) -> Callable[..., None]:
        if len(known) < len(_INITS) and not has_post and all(item.default_factory is _MISSING for item in known.values()):
            return _plain_init(known)
        positional = tuple([name for name, item in known.items() if not item.kw_only])
        plan = tuple([(name, item.default, item.default_factory) for name, item in known.items()])

        def __init__(self: Any, *args: Any, **given: Any) -> None:
            if args:
                if len(args) > len(positional):
                    raise TypeError(f"{title} takes {len(positional)} arguments by position, but {len(args)} were given")
                for name, value in zip(positional, args, strict=False):
                    if name in given:
                        raise TypeError(f"{title} was given {name!r} twice")
                    given[name] = value
            used = len(given)
            for name, default, factory in plan:
                if name in given:
                    p(self, name, given[name])
                    used -= 1
                elif default is not _MISSING:
                    p(self, name, default)
                elif factory is not _MISSING:
                    p(self, name, factory())
                else:
                    raise TypeError(f"{title} needs {name!r}")
            if used:
                raise TypeError(f"{title} has no {', '.join(sorted(given.keys() - known.keys()))}")
            if has_post:
                self.__post_init__()

        return __init__

    p = object.__setattr__  # past our own, which refuses; it returns None
    _INITS = (
        lambda self: None,
        lambda self, a: p(self, "a", a),
        lambda self, a, b: p(self, "a", a) or p(self, "b", b),
        lambda self, a, b, c: p(self, "a", a) or p(self, "b", b) or p(self, "c", c),
        lambda self, a, b, c, d: p(self, "a", a) or p(self, "b", b) or p(self, "c", c) or p(self, "d", d),
        lambda self, a, b, c, d, e: p(self, "a", a) or p(self, "b", b) or p(self, "c", c) or p(self, "d", d) or p(self, "e", e),
        lambda self, a, b, c, d, e, f: (
            p(self, "a", a) or p(self, "b", b) or p(self, "c", c) or p(self, "d", d) or p(self, "e", e) or p(self, "f", f)
        ),
        lambda self, a, b, c, d, e, f, g: (
            p(self, "a", a) or p(self, "b", b) or p(self, "c", c) or p(self, "d", d) or p(self, "e", e) or p(self, "f", f)
            or p(self, "g", g)
        ),
        lambda self, a, b, c, d, e, f, g, h: (
            p(self, "a", a) or p(self, "b", b) or p(self, "c", c) or p(self, "d", d) or p(self, "e", e) or p(self, "f", f)
            or p(self, "g", g) or p(self, "h", h)
        ),
        lambda self, a, b, c, d, e, f, g, h, i: (
            p(self, "a", a) or p(self, "b", b) or p(self, "c", c) or p(self, "d", d) or p(self, "e", e) or p(self, "f", f)
            or p(self, "g", g) or p(self, "h", h) or p(self, "i", i)
        ),
        lambda self, a, b, c, d, e, f, g, h, i, j: (
            p(self, "a", a) or p(self, "b", b) or p(self, "c", c) or p(self, "d", d) or p(self, "e", e) or p(self, "f", f)
            or p(self, "g", g) or p(self, "h", h) or p(self, "i", i) or p(self, "j", j)
        ),
        lambda self, a, b, c, d, e, f, g, h, i, j, k: (
            p(self, "a", a) or p(self, "b", b) or p(self, "c", c) or p(self, "d", d) or p(self, "e", e) or p(self, "f", f)
            or p(self, "g", g) or p(self, "h", h) or p(self, "i", i) or p(self, "j", j) or p(self, "k", k)
        ),
        lambda self, a, b, c, d, e, f, g, h, i, j, k, m: (
            p(self, "a", a) or p(self, "b", b) or p(self, "c", c) or p(self, "d", d) or p(self, "e", e) or p(self, "f", f)
            or p(self, "g", g) or p(self, "h", h) or p(self, "i", i) or p(self, "j", j) or p(self, "k", k) or p(self, "m", m)
        ),
    )  # fmt: skip
    """For each number of fields what sets them, whatever they are called: the names are put into the code."""

    def _plain_init(known: dict[str, _Field]) -> Callable[..., None]:
        """As quick as if it had been written for these fields."""
        names = (*(name for name, item in known.items() if not item.kw_only), *(name for name, item in known.items() if item.kw_only))
        count = sum(not item.kw_only for item in known.values())
        code = _INITS[len(names)].__code__
        called = dict(zip(code.co_varnames[1:], names, strict=True))
        made = FunctionType(
            code.replace(
                co_argcount=1 + count,
                co_kwonlyargcount=len(names) - count,
                co_varnames=("self", *names),
                co_consts=tuple([called.get(item, item) if type(item) is str else item for item in code.co_consts]),
                co_name="__init__",
            ),
            globals(),
            "__init__",
        )
        defaults = {name: known[name].default for name in names if known[name].default is not _MISSING}
        made.__defaults__ = tuple([defaults[name] for name in names[:count] if name in defaults]) or None
        made.__kwdefaults__ = {name: defaults[name] for name in names[count:] if name in defaults} or None
        return made

    def _repr(self: Any) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name, item in self.__values__.items() if item.repr]
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _equal(self: Any, other: object) -> Any:
        cls = type(self)
        if cls is not type(other):
            return NotImplemented
        look = cls.__look__
        return look(self) == look(other)

    def _hash(self: Any) -> int:
        return hash(type(self).__look__(self))

    _SHARED = {
        "__repr__": _repr, "__eq__": _equal, "__hash__": _hash, "__dataclass_fields__": _StandardFields(), "__match_args__": _Matched(),
        "__look__": _Look(),
    }  # fmt: skip

    def _refuse(self: Any, name: str, *value: object) -> None:
        import dataclasses

        raise dataclasses.FrozenInstanceError(f"{type(self).__name__} is a value: {name!r} can't be changed")

    def _reduce(self: Any) -> tuple[Any, ...]:
        return _restore, (type(self), {name: getattr(self, name) for name in self.__values__})

    _FROZEN = {"__setattr__": _refuse, "__delattr__": _refuse, "__reduce__": _reduce}
    _OPEN = {"__hash__": None}

    def _restore(cls: type, values: dict[str, Any]) -> Any:
        made = cls.__new__(cls)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made


__all__ = ["asdict", "dataclass", "field", "fields", "is_dataclass", "replace"]
