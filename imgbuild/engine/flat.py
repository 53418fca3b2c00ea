"""A build graph in plain form, for a note, and back: tuples, strings and numbers, as `marshal` takes them.

Each value (`imgbuild.values`) stands once in a table, behind those that it is made of; so what steps share, they share again. A value that
something is made of here must be what it was there: what this does not know makes no graph, and then the build lowers its Buildfile.
"""

from __future__ import annotations

import marshal
import sys

from imgbuild.graph.ops import BuildGraph
from imgbuild.hints import Any, Sequence
from imgbuild.values import fields, is_dataclass

_TUPLE, _SET, _DICT, _VALUE = range(4)
_PLAIN = (type(None), bool, int, float, str, bytes)
_PACKAGE = "imgbuild."
_MOST_LINES, _MOST_BYTES = 500, 1 << 20


class _Strange(Exception):
    """There is something that has no plain form."""


def flat(graph: BuildGraph) -> bytes | None:
    """The plain form; None where there is none, or it is large: then making it would cost more than it spares."""
    if sum(len(stage.lines) for stage in graph.stages.values()) > _MOST_LINES:
        return None
    classes: dict[tuple[str, ...], int] = {}
    table: list[tuple[Any, ...]] = []
    known: dict[int, tuple[int, int]] = {}

    def plain(item: Any) -> Any:
        kind = type(item)
        if kind in _PLAIN:
            return item
        if kind is tuple:
            return (_TUPLE, *map(plain, item))
        if kind is frozenset:
            return (_SET, *map(plain, item))
        if kind is dict:
            return (_DICT, *((plain(key), plain(value)) for key, value in item.items()))
        found = known.get(id(item))
        if found is None:
            table.append(made(item, kind))
            found = known[id(item)] = (_VALUE, len(table) - 1)
        return found

    def made(item: Any, kind: type) -> tuple[Any, ...]:
        if not kind.__module__.startswith(_PACKAGE):
            raise _Strange
        if issubclass(kind, str) and not getattr(item, "__dict__", None):
            return (number_of(kind, ()), str(item))
        if not is_dataclass(item):
            raise _Strange
        names = [each.name for each in fields(item)]
        return (number_of(kind, names), *(plain(getattr(item, name)) for name in names))

    def number_of(kind: type, names: Sequence[str]) -> int:
        return classes.setdefault((kind.__module__, kind.__qualname__, *names), len(classes))

    try:
        top = plain(graph)
        data = marshal.dumps((tuple(classes), table, top))
    except (_Strange, TypeError, ValueError, RecursionError):
        return None
    return data if len(data) <= _MOST_BYTES else None


def restored(data: bytes) -> BuildGraph | None:
    """What `flat` was given. Of data that it made; None where that was of a program that had other classes, and is installed in place."""
    names, table, top = marshal.loads(data)
    try:
        classes = [_class(module, name) for module, name, *_ in names]
    except (ImportError, AttributeError):
        return None
    setters = [None if issubclass(cls, str) else tuple(each.name for each in fields(cls)) for cls in classes]
    if any(tuple(known) != (setter or ()) for (_, _, *known), setter in zip(names, setters, strict=True)):
        return None
    values: list[Any] = []
    put = object.__setattr__

    def item(plain: Any) -> Any:
        if type(plain) is not tuple:
            return plain
        kind = plain[0]
        if kind == _VALUE:
            return values[plain[1]]
        if kind == _TUPLE:
            return tuple(map(item, plain[1:]))
        if kind == _SET:
            return frozenset(map(item, plain[1:]))
        return {item(key): item(value) for key, value in plain[1:]}

    for number, *parts in table:
        cls, names = classes[number], setters[number]
        if names is None:
            values.append(cls(parts[0]))
            continue
        made = cls.__new__(cls)
        for name, part in zip(names, parts, strict=True):
            put(made, name, item(part) if type(part) is tuple else part)
        values.append(made)
    graph: BuildGraph = item(top)
    return graph


def _class(module: str, name: str) -> Any:
    __import__(module)
    return getattr(sys.modules[module], name)
