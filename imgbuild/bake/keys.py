"""What a target can say: its keys, how each is read, and how what is said later joins what was said before.

The names are docker buildx's, as its JSON has them; those of our own are other words for the same.
"""

from __future__ import annotations

import posixpath

from imgbuild.bake.nodes import Node, Reader, Table, fail
from imgbuild.hints import Mapping
from imgbuild.light import re
from imgbuild.light.enum import Enum
from imgbuild.values import dataclass

Value = str | bool | tuple[str, ...] | Mapping[str, str | None]


class Kind(Enum):
    """How a key's value is read and merged."""

    TEXT = "text"
    FLAG = "flag"
    LIST = "a list that replaces the one before"
    LONGER = "a list that is added to the one before"
    RECORDS = "a list of records that replaces the one before"
    LONGER_RECORDS = "a list of records that is added to the one before"
    PAIRS = "names with values, which replace one by one"


KEYS: Mapping[str, Kind] = {
    "description": Kind.TEXT,
    "context": Kind.TEXT,
    "contexts": Kind.PAIRS,
    "dockerfile": Kind.TEXT,
    "dockerfile-inline": Kind.TEXT,
    "target": Kind.TEXT,
    "args": Kind.PAIRS,
    "labels": Kind.PAIRS,
    "annotations": Kind.LONGER,
    "tags": Kind.LIST,
    "platforms": Kind.LIST,
    "secret": Kind.LONGER_RECORDS,
    "ssh": Kind.LONGER,
    "output": Kind.RECORDS,
    "pull": Kind.TEXT,
    "no-cache": Kind.FLAG,
    "no-cache-filter": Kind.LONGER,
    "network": Kind.TEXT,
    "shm-size": Kind.TEXT,
    "ulimits": Kind.LONGER,
    "extra-hosts": Kind.PAIRS,
    "entitlements": Kind.LONGER,
    "compression": Kind.TEXT,
    "source-date-epoch": Kind.TEXT,
    "call": Kind.TEXT,
    "cache-from": Kind.LONGER_RECORDS,
    "cache-to": Kind.RECORDS,
    "attest": Kind.LONGER_RECORDS,
}

OTHER_NAMES: Mapping[str, str] = {
    "buildfile": "dockerfile",
    "buildfile-inline": "dockerfile-inline",
    "build-args": "args",
    "tag": "tags",
    "label": "labels",
    "annotation": "annotations",
    "platform": "platforms",
    "secrets": "secret",
    "outputs": "output",
    "add-hosts": "extra-hosts",
    "allow": "entitlements",
    "build-contexts": "contexts",
}

_URL = re.compile(r"[a-z][a-z0-9+.-]*://|git@|[a-z][a-z0-9-]*:(?!/)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Base:
    """What relative paths of a build file start from; "" is the current directory."""

    directory: str = ""

    def path(self, text: str) -> str:
        """A local path from here; one that is absolute, or no path, stays."""
        if text.startswith("cwd://"):
            return text.removeprefix("cwd://") or "."
        if not self.directory or not text or text == "-" or _URL.match(text) or text.startswith(("/", "~")):
            return text
        return posixpath.normpath(posixpath.join(self.directory, text))

    def within(self, key: str, value: Value) -> Value:
        """A key's value with its paths so."""
        if not self.directory:
            return value
        if key == "context" and isinstance(value, str):
            return self.path(value)
        if key == "contexts" and isinstance(value, Mapping):
            return {name: text and self.path(text) for name, text in value.items()}
        if key in ("secret", "output") and isinstance(value, tuple):
            return tuple(self._record(text, key) for text in value)
        if key == "ssh" and isinstance(value, tuple):
            return tuple(self._ssh(text) for text in value)
        return value

    def _record(self, text: str, key: str) -> str:
        if key == "output" and "=" not in text:
            return self.path(text)
        fields = [part.partition("=") for part in text.split(",")]
        if any(name == "type" and value == "env" for name, _, value in fields):
            return text
        paths = ("src", "source") if key == "secret" else ("dest",)
        return ",".join(f"{name}{mark}{self.path(value) if name in paths else value}" for name, mark, value in fields)

    def _ssh(self, text: str) -> str:
        identity, mark, paths = text.partition("=")
        return f"{identity}{mark}{','.join(self.path(path) for path in paths.split(','))}" if mark else text


def canonical(key: str) -> str:
    """The one name of a key; what is no key stays."""
    return OTHER_NAMES.get(key, key)


def read(reader: Reader, key: str, node: Node) -> Value:
    """A key's value, as it is written."""
    kind = KEYS[key]
    if kind is Kind.TEXT:
        return reader.text(node)
    if kind is Kind.FLAG:
        return reader.flag(node)
    if key == "extra-hosts":
        return reader.pairs(node, separators="=:", joined=",")
    if kind is Kind.PAIRS:
        return reader.pairs(node)
    if key == "ulimits" and isinstance(node, Table):
        return tuple(f"{entry.key}={_ulimit(reader, entry.value)}" for entry in node.entries)
    if key in ("annotations", "ssh") and isinstance(node, Table):
        return tuple(name if value is None else f"{name}={value}" for name, value in reader.pairs(node).items())
    if kind in (Kind.RECORDS, Kind.LONGER_RECORDS):
        return reader.records(node)
    return reader.texts(node)


def _ulimit(reader: Reader, node: Node) -> str:
    """Both limits in one number, or ``soft`` and ``hard``."""
    if not isinstance(node, Table):
        return reader.text(node)
    limits = {entry.key: reader.text(entry.value) for entry in node.entries}
    if set(limits) != {"soft", "hard"}:
        fail(node.span, "a limit is one number, or has soft and hard")
    return f"{limits['soft']}:{limits['hard']}"


def merged(key: str, before: Value | None, later: Value) -> Value:
    """What is meant where something is said after something else was."""
    if before is None:
        return later
    if isinstance(before, Mapping) and isinstance(later, Mapping):
        return {**before, **later}
    if KEYS[key] in (Kind.LONGER, Kind.LONGER_RECORDS) and isinstance(before, tuple) and isinstance(later, tuple):
        return tuple(dict.fromkeys((*before, *later)))
    return later
