"""A build graph in plain form, for a note, and back: tuples, strings and numbers, as `marshal` takes them.

Each value (`imgbuild.values`) stands once in a table, behind those that it is made of; so what steps share, they share again. A value that
something is made of here must be what it was there: what this does not know makes no graph, and then the build lowers its Buildfile.
"""

from __future__ import annotations

import marshal
import sys

from imgbuild.graph.ops import BuildGraph
from imgbuild.hints import Any
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
    classes: dict[tuple[str, str], int] = {}
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
        name = classes.setdefault((kind.__module__, kind.__qualname__), len(classes))
        if issubclass(kind, str) and not getattr(item, "__dict__", None):
            return (name, str(item))
        if not is_dataclass(item):
            raise _Strange
        return (name, *(plain(getattr(item, each.name)) for each in fields(item)))

    try:
        top = plain(graph)
        data = marshal.dumps((tuple(classes), table, top))
    except (_Strange, TypeError, ValueError, RecursionError):
        return None
    return data if len(data) <= _MOST_BYTES else None


def restored(data: bytes) -> BuildGraph:
    """What `flat` was given. Of data that it made, by the same program."""
    names, table, top = marshal.loads(data)
    classes = [_class(*name) for name in names]
    setters = [None if issubclass(cls, str) else tuple(each.name for each in fields(cls)) for cls in classes]
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
