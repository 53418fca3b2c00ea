"""Build files (YAML, and JSON, which is YAML) as trees of located values, for the room `bake`.

An alias is the node that it names, not a copy; what a text would be with all of them written out is bounded, and none may be in itself.
"""

from __future__ import annotations

import yaml

from imgbuild.bake.nodes import Entry, Items, Node, Scalar, Table, fail
from imgbuild.errors import BuildfileError, Source
from imgbuild.light.pathlib import Path
from imgbuild.settings.text import compose, decoded, node_span, read_text

_TAG = "tag:yaml.org,2002:"
_PLAIN = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "timestamp", "null", "merge", "value", "seq", "map"))
_DEEPEST = 100
_MOST_NODES = 200_000


def load_tree(path: Path) -> Node:
    """The tree of a build file; BuildfileError where it can't be read, or is not YAML."""
    return parse_tree(read_text(path, "the build file", BuildfileError), str(path))


def decode_tree(data: bytes, name: str) -> Node:
    """As `load_tree`, of bytes that were read."""
    return parse_tree(decoded(data, name, "the build file", BuildfileError), name)


def parse_tree(text: str, name: str) -> Node:
    """As `load_tree`, of a text."""
    source = Source(name, tuple(text.splitlines()))
    root = compose(text, source, "the build file is", BuildfileError)
    if root is None:
        raise BuildfileError(f"the build file {name} is empty", hint="write targets: {NAME: {context: .}}")
    return _Tree(source).of(root)


class _Tree:
    """Makes each node once, and counts what it would be with its aliases written out."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._made: dict[int, tuple[Node, int]] = {}
        self._open: set[int] = set()

    def of(self, root: yaml.Node) -> Node:
        return self._node(root, 0)[0]

    def _node(self, node: yaml.Node, depth: int) -> tuple[Node, int]:
        known = self._made.get(id(node))
        if known is not None:
            return known
        span = node_span(self._source, node)
        if id(node) in self._open:
            fail(span, "an alias names what it stands in")
        if depth > _DEEPEST:
            fail(span, f"this stands deeper than {_DEEPEST} levels")
        if node.tag not in _PLAIN:
            fail(span, f"the tag {node.tag.removeprefix(_TAG)!r} means nothing here", "only plain words, lists and mappings are read")
        self._open.add(id(node))
        made, size = self._make(node, depth)
        self._open.discard(id(node))
        if size > _MOST_NODES:
            fail(span, f"this is larger than a build file can be: it has more than {_MOST_NODES} words, aliases written out")
        self._made[id(node)] = (made, size)
        return made, size

    def _make(self, node: yaml.Node, depth: int) -> tuple[Node, int]:
        span = node_span(self._source, node)
        if isinstance(node, yaml.SequenceNode):
            items = [self._node(item, depth + 1) for item in node.value]
            return Items(tuple(item for item, _ in items), span), 1 + sum(size for _, size in items)
        if isinstance(node, yaml.MappingNode):
            return self._table(node, depth)
        return Scalar(str(node.value), span, null=node.tag == _TAG + "null"), 1

    def _table(self, node: yaml.MappingNode, depth: int) -> tuple[Node, int]:
        found: dict[str, Entry] = {}
        merges: list[Entry] = []
        total = 1
        for key, value in node.value:
            span = node_span(self._source, key)
            if not isinstance(key, yaml.ScalarNode):
                fail(span, "a key must be a word")
            if key.tag == _TAG + "merge":
                made, size = self._node(value, depth + 1)
                merges += self._merged(made)
            else:
                made, size = self._node(value, depth + 1)
                if key.value in found:
                    fail(span, f"the key {key.value!r} stands here twice", f"the first one is in line {found[key.value].span.line}")
                found[key.value] = Entry(str(key.value), span, made)
            total += 1 + size
        for entry in merges:
            found.setdefault(entry.key, entry)
        return Table(tuple(found.values()), node_span(self._source, node)), total

    def _merged(self, node: Node) -> list[Entry]:
        """The entries that ``<<`` brings: of one mapping, or of several, the first of which wins."""
        tables = node.items if isinstance(node, Items) else (node,)
        found: list[Entry] = []
        for table in tables:
            if not isinstance(table, Table):
                fail(table.span, "<< takes a mapping, or a list of them")
            found += table.entries
        return found
