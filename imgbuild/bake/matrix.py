"""A matrix: the cross product of lists of values, each combination of which makes a target."""

from __future__ import annotations

from imgbuild.bake.nodes import Items, Node, Reader, Table, entries, fail
from imgbuild.hints import Mapping
from imgbuild.light import re
from imgbuild.values import dataclass

_MOST = 1000
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Combination:
    """What the names of a matrix mean in one of its targets, and a name made of that."""

    values: Mapping[str, str]
    name: str


def combinations(reader: Reader, node: Node) -> tuple[Combination, ...]:
    """All combinations, the last key's values changing fastest. A value that is a mapping is meant by ``${key.field}``."""
    found: list[tuple[dict[str, str], tuple[str, ...]]] = [({}, ())]
    keys = entries(node, "matrix")
    if not keys:
        fail(node.span, "a matrix needs a key with a list of values")
    for entry in keys:
        if not isinstance(entry.value, Items) or not entry.value.items:
            fail(entry.value.span, f"the values of {entry.key} must be a list with something in it")
        choices = [_choice(reader, entry.key, item) for item in entry.value.items]
        if len(found) * len(choices) > _MOST:
            fail(entry.span, f"the matrix makes more than {_MOST} targets")
        found = [({**bound, **values}, (*names, name)) for bound, names in found for values, name in choices]
    return tuple(Combination(values, _NO_NAME.sub("-", "-".join(names))) for values, names in found)


def _choice(reader: Reader, key: str, node: Node) -> tuple[dict[str, str], str]:
    if not isinstance(node, Table):
        text = reader.text(node)
        return {key: text}, text
    fields = {f"{key}.{field.key}": reader.text(field.value) for field in node.entries}
    return fields, "-".join(fields.values())
