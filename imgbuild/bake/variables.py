"""``$NAME`` and ``${NAME:-default}`` in build files: how they are written, and what they mean.

$NAME, ${NAME}                  its value
${NAME:-text}, ${NAME-text}     the text where it is unset or empty; where it is unset
${NAME:?text}, ${NAME?text}     an error with this text instead
${NAME:+text}, ${NAME+text}     the text where it is set and not empty; where it is set
$$                              a dollar sign
"""

from __future__ import annotations

from typing import NoReturn

from imgbuild.bake.nodes import Expand, Scalar, fail
from imgbuild.errors import Span
from imgbuild.hints import Callable, Mapping
from imgbuild.light import re

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_-]+)*", re.ASCII)
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OPERATOR = re.compile(r":?[-?+]")
_DEEPEST = 20
_LONGEST = 1 << 20
"""Characters of one expanded text: variables made of variables made of others grow fast."""

Lookup = Callable[[str, Span], str | None]


class Scope:
    """What names mean: those of a matrix, then those that were given, the environment's, and the defaults that build files declare.

    `missing` is asked for the value of a name that none of them has.
    """

    def __init__(
        self,
        given: Mapping[str, str],
        environ: Mapping[str, str],
        missing: Callable[[str, Span], str],
        declared: Mapping[str, Scalar] | None = None,
        bound: Mapping[str, str] | None = None,
    ) -> None:
        self._given = given
        self._environ = environ
        self._missing = missing
        self._declared = declared or {}
        self._bound = bound or {}
        self._open: list[str] = []
        self._made: dict[str, str] = {}

    def bind(self, bound: Mapping[str, str]) -> Scope:
        """The scope with further names, which come before all others."""
        return Scope(self._given, self._environ, self._missing, self._declared, {**self._bound, **bound})

    def value(self, name: str, at: Span) -> str | None:
        """What a name means, if anything."""
        for names in (self._bound, self._given, self._environ):
            if name in names:
                return names[name]
        default = self._declared.get(name)
        if default is None or default.null:
            return None
        if name in self._made:
            return self._made[name]
        if len(self._open) > _DEEPEST:
            fail(default.span, f"the variable {name} is made of variables deeper than {_DEEPEST} in each other")
        if name in self._open:
            cycle = " -> ".join([*self._open[self._open.index(name) :], name])
            fail(default.span, f"the variable {name} is made of itself: {cycle}")
        self._open.append(name)
        try:
            self._made[name] = self.expand(default.text, default.span)
            return self._made[name]
        finally:
            self._open.pop()

    def expand(self, text: str, span: Span) -> str:
        """The text with its variables replaced."""
        return _Expansion(text, span, self.value, self._missing).all() if "$" in text else text

    def expand_templates(self, text: str, span: Span) -> str:
        """As `expand`, where only ``${NAME}`` stands for a value and ``$${`` for ``${``: JSON's build files."""
        if "${" not in text and "%{" not in text:
            return text
        parts = re.split(r"(\$\$\{|%%\{|\$\{[^}]*\}?|%\{)", text)
        return "".join(self._template(part, span) for part in parts)

    def expander(self, *, templates: bool) -> Expand:
        """The one of the two that a form of build files has."""
        return self.expand_templates if templates else self.expand

    def _template(self, part: str, span: Span) -> str:
        if part in ("$${", "%%{"):
            return part[1:]
        if not part.startswith(("${", "%{")):
            return part
        name = part[2:-1].strip()
        if not part.endswith("}") or not _NAME.fullmatch(name):
            fail(span, f"the expression {part!r} can't be evaluated here", "only ${NAME} can; imgbuild.yaml has ${NAME:-default} too")
        value = self.value(name, span)
        return self._missing(name, span) if value is None else value


class _Expansion:
    """One text while it is read from left to right."""

    def __init__(self, text: str, span: Span, value: Lookup, missing: Callable[[str, Span], str]) -> None:
        self._text = text
        self._span = span
        self._value = value
        self._missing = missing
        self._position = 0
        self._left = _LONGEST

    def all(self) -> str:
        """The whole text, expanded."""
        return self._read(live=True, depth=0)

    def _read(self, *, live: bool, depth: int) -> str:
        """Up to the end, or inside braces to the one that closes them. What is not `live` is read and not looked up."""
        if depth > _DEEPEST:
            fail(self._span, "variables stand too deep inside each other here")
        parts: list[str] = []
        text = self._text
        while self._position < len(text):
            character = text[self._position]
            if character == "}" and depth:
                return "".join(parts)
            self._position += 1
            if character != "$":
                parts.append(character)
            elif text.startswith("$", self._position):
                self._position += 1
                parts.append("$")
            elif text.startswith("{", self._position):
                self._position += 1
                parts.append(self._braced(live=live, depth=depth))
            else:
                name = self._name(_BARE)
                parts.append(self._plain(name) if live else "")
        if depth:
            self._malformed("a brace is not closed")
        return "".join(parts)

    def _braced(self, *, live: bool, depth: int) -> str:
        name = self._name(_NAME)
        match = _OPERATOR.match(self._text, self._position)
        operator = match[0] if match else ""
        self._position += len(operator)
        value = self._value(name, self._span) if live else None
        there = value is not None and (bool(value) or not operator.startswith(":"))
        wanted = live and (there if operator.endswith("+") else not there) and bool(operator)
        argument = self._read(live=wanted, depth=depth + 1) if operator else ""
        if not self._text.startswith("}", self._position):
            self._malformed("a brace is not closed" if self._position == len(self._text) else "this is no operator")
        self._position += 1
        if not live:
            return ""
        if not operator:
            return self._plain(name)
        if wanted and operator.endswith("?"):
            fail(self._span, f"the variable {name} is needed{': ' + argument if argument else ''}")
        if wanted:
            return argument
        return "" if operator.endswith("+") else self._plain(name)

    def _plain(self, name: str) -> str:
        value = self._value(name, self._span)
        if value is None:
            return self._missing(name, self._span)
        self._left -= len(value)
        if self._left < 0:
            fail(self._span, "the variables here make a text that is too long")
        return value

    def _name(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        if match is None:
            self._malformed("no name follows")
        self._position = match.end()
        return match[0]

    def _malformed(self, why: str) -> NoReturn:
        fail(self._span, f"a dollar sign here begins no variable: {why}", "write $NAME or ${NAME:-default}, and $$ for a dollar sign")
