"""Targets and groups: as build files declare them, and complete."""

from __future__ import annotations

from imgbuild.bake.keys import Value, merged
from imgbuild.bake.nodes import fail
from imgbuild.errors import Span
from imgbuild.hints import Mapping
from imgbuild.light import re
from imgbuild.values import dataclass, field

_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Word:
    """A name in a list, and where it stands."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Group:
    """A name for several targets and groups."""

    name: str
    span: Span
    members: tuple[Word, ...]
    description: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """What one target says, by the names of `keys.KEYS`, and where. `inherits` are those whose sayings come before its own;
    `home` is the context of one that says none."""

    name: str
    span: Span
    inherits: tuple[Word, ...] = ()
    values: Mapping[str, Value] = field(default_factory=dict)
    spans: Mapping[str, Span] = field(default_factory=dict)
    home: str = "."

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def flag(self, key: str) -> bool:
        return self.values.get(key) is True

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        return value if isinstance(value, tuple) else ()

    def pairs(self, key: str) -> Mapping[str, str | None]:
        value = self.values.get(key)
        return value if isinstance(value, Mapping) else {}

    def at(self, key: str) -> Span:
        """Where a key was said last."""
        return self.spans.get(key, self.span)

    def linked(self) -> tuple[str, ...]:
        """The targets whose results it reads."""
        values = (value or "" for value in self.pairs("contexts").values())
        return tuple(dict.fromkeys(value.removeprefix("target:") for value in values if value.startswith("target:")))

    def joined(self, later: Target) -> Target:
        """This target, and then what `later` says; its name and what it inherits are those of `later`."""
        values = dict(self.values)
        for key, value in later.values.items():
            values[key] = merged(key, values.get(key), value)
        if "dockerfile" in later.values and "dockerfile-inline" not in later.values:
            values.pop("dockerfile-inline", None)  # of the two, the later one is meant
        return Target(later.name, later.span, later.inherits, values, {**self.spans, **later.spans}, later.home)


def check_name(name: str, span: Span, what: str) -> str:
    """The name of a target or group, if it can be one."""
    if not _NAME.fullmatch(name):
        fail(span, f"{name!r} can't be the name of a {what}", "it is made of letters, digits, - and _")
    return name
