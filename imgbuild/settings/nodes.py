"""YAML nodes read as what a key means, with errors that point at them."""

from __future__ import annotations

from typing import NoReturn, TypeVar

import yaml

from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.errors import BuildfileError, LayerError, SettingsError, Source, Span
from imgbuild.hints import Callable, Mapping
from imgbuild.light.pathlib import Path
from imgbuild.settings.text import node_span

Value = TypeVar("Value")
_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
_TAG = "tag:yaml.org,2002:"
_WORDS = frozenset(_TAG + kind for kind in ("str", "int", "float", "bool", "timestamp"))


class Document:
    """The settings file while it is read: where its nodes stand, and what relative paths in it start from."""

    def __init__(self, source: Source, directory: Path) -> None:
        self._source = source
        self._directory = directory

    def fail(self, node: yaml.Node, message: str, hint: str | None = None) -> NoReturn:
        """SettingsError at this node."""
        raise SettingsError(message, at=self.span(node), hint=hint)

    def span(self, node: yaml.Node) -> Span:
        """Where the node stands."""
        return node_span(self._source, node)

    def entries(self, node: yaml.Node, what: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """A mapping's (key, its node, value's node); none twice. Nothing at all counts as an empty one."""
        if node.tag == _TAG + "null":
            return []
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"{what} must be a mapping of keys to values")
        found: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.fail(key_node, f"a key of {what} must be a word")
            if key_node.value in found:
                first = found[key_node.value][0].start_mark.line + 1
                self.fail(key_node, f"the key {key_node.value!r} of {what} stands here twice", f"the first one is in line {first}")
            found[key_node.value] = (key_node, value_node)
        return [(key, *nodes) for key, nodes in found.items()]

    def fields(self, node: yaml.Node, what: str, readers: Mapping[str, Callable[[yaml.Node], object]]) -> dict[str, object]:
        """A mapping whose keys are known: each key's value as its reader has it. Values left empty are left out."""
        values: dict[str, object] = {}
        for key, key_node, value_node in self.entries(node, what):
            if key not in readers:
                hint = did_you_mean(key.replace("_", "-"), readers) or f"{what} has: {', '.join(readers)}"
                self.fail(key_node, f"unknown key {key!r} in {what}", hint)
            if value_node.tag != _TAG + "null":
                values[key] = readers[key](value_node)
        return values

    def text(self, node: yaml.Node) -> str:
        """A scalar as it is written, numbers too."""
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _WORDS or not node.value:
            self.fail(node, "a word is expected here")
        return str(node.value)

    def texts(self, node: yaml.Node) -> tuple[str, ...]:
        """A list of scalars."""
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, "a list is expected here", "write it as [a, b], or one a line after '- '")
        return tuple(self.text(item) for item in node.value)

    def boolean(self, node: yaml.Node) -> bool:
        """true or false."""
        value = _BOOLEANS.get(str(node.value).lower()) if node.tag == _TAG + "bool" else None
        if value is None:
            self.fail(node, "true or false is expected here")
        return value

    def path(self, node: yaml.Node) -> Path:
        """A path, from the settings file's directory where it is relative."""
        return self._directory / self.text(node)

    def quantity(self, parse: Callable[[str], Value]) -> Callable[[yaml.Node], Value]:
        """A reader of what `parse` understands, whose errors become errors at the node."""

        def read(node: yaml.Node) -> Value:
            try:
                return parse(self.text(node))
            except (BuildfileError, LayerError, SettingsError) as error:
                raise SettingsError(error.message, at=error.at or self.span(node), hint=error.hint) from None

        return read
