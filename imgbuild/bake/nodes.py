"""A build file as a tree whose every node knows where it stands, and reading it as what a key means."""

from __future__ import annotations

from typing import NoReturn

from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.errors import BuildfileError, Span
from imgbuild.hints import Callable, Iterable
from imgbuild.values import dataclass

_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A word, a number or a text, as it is written; `null` where nothing is."""

    text: str
    span: Span
    null: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: tuple[Node, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a table, where it stands, and its value."""

    key: str
    span: Span
    value: Node


@dataclass(frozen=True, slots=True)
class Table:
    """Keys with values; no key is in it twice."""

    entries: tuple[Entry, ...]
    span: Span


Node = Scalar | Items | Table

Expand = Callable[[str, Span], str]
"""What a scalar's text becomes: variables replaced by what they mean."""


def verbatim(text: str, span: Span) -> str:
    """The text as it stands."""
    return text


def fail(at: Span, message: str, hint: str | None = None) -> NoReturn:
    """BuildfileError at a place of a build file."""
    raise BuildfileError(message, at=at, hint=hint)


def unknown(entry: Entry, what: str, known: Iterable[str]) -> NoReturn:
    """An error for a key that means nothing there."""
    names = tuple(known)
    hint = did_you_mean(entry.key.replace("_", "-"), names) or f"{what} has: {', '.join(names)}"
    fail(entry.span, f"unknown key {entry.key!r} in {what}", hint)


def is_null(node: Node) -> bool:
    """Whether nothing is written there."""
    return isinstance(node, Scalar) and node.null


def entries(node: Node, what: str) -> tuple[Entry, ...]:
    """A table's entries; nothing at all counts as an empty one."""
    if is_null(node):
        return ()
    if not isinstance(node, Table):
        fail(node.span, f"{what} must be a mapping of keys to values")
    return node.entries


class Reader:
    """Reads nodes whose scalars are expanded by `expand`. Every error stands at its node."""

    def __init__(self, expand: Expand = verbatim) -> None:
        self._expand = expand

    def text(self, node: Node) -> str:
        """A scalar."""
        if not isinstance(node, Scalar) or node.null:
            fail(node.span, "a word is expected here")
        return self._expand(node.text, node.span)

    def flag(self, node: Node) -> bool:
        """true or false."""
        value = _FLAGS.get(self.text(node).lower())
        if value is None:
            fail(node.span, "true or false is expected here")
        return value

    def texts(self, node: Node) -> tuple[str, ...]:
        """A list of scalars."""
        if not isinstance(node, Items):
            fail(node.span, "a list is expected here", "write it as [a, b], or one a line after '- '")
        return tuple(self.text(item) for item in node.items)

    def pairs(self, node: Node, *, separators: str = "=", joined: str | None = None) -> dict[str, str | None]:
        """A mapping of names to values, or a list of NAME=VALUE; None where a name has no value. `joined` is what several values of one
        name are joined by, where that is possible."""
        found: dict[str, str | None] = {}
        if isinstance(node, Items):
            for item in node.items:
                text = self.text(item)
                at = min((place for mark in separators if (place := text.find(mark)) >= 0), default=len(text))
                if not text[:at]:
                    fail(item.span, f"{text!r} has no name before its value")
                value = text[at + 1 :] if at < len(text) else None
                before = found.get(text[:at])
                again = joined is not None and before is not None and value is not None
                found[text[:at]] = f"{before}{joined}{value}" if again else value
            return found
        for entry in entries(node, "this"):
            if isinstance(entry.value, Items) and joined is not None:
                found[entry.key] = joined.join(self.texts(entry.value))
            else:
                found[entry.key] = None if is_null(entry.value) else self.text(entry.value)
        return found

    def records(self, node: Node) -> tuple[str, ...]:
        """A list of ``key=value,key=value``, each of them perhaps written as a mapping."""
        if not isinstance(node, Items):
            fail(node.span, "a list is expected here", "write it as [a, b], or one a line after '- '")
        return tuple(self._record(item) for item in node.items)

    def _record(self, node: Node) -> str:
        if not isinstance(node, Table):
            return self.text(node)
        fields = []
        for key, value in self.pairs(node).items():
            if value is None or "," in value:
                fail(node.span, f"{key} can't be {'empty' if value is None else repr(value)} here")
            fields.append(f"{key}={value}")
        return ",".join(fields)
