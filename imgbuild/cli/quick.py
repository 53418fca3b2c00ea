"""Reads plain command lines from their declarations as click would, or leaves them to it: errors, help, and all that is unusual.

Where this gives an answer, it is click's answer; a test compares the two. It never says what is wrong with a line.
"""

from __future__ import annotations

from imgbuild.cli.declare import AtLeast, Choice, Command, Unprocessed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from imgbuild.cli.declare import Parameter

_WITH_VALUE = {"--root": "root", "--config": "config"}


def split(arguments: Sequence[str]) -> tuple[dict[str, Any], str, list[str]] | None:
    """The options before the command, the command's name, and its words."""
    given: dict[str, Any] = {"root": None, "config": None, "debug": False}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word == "--debug":
            given["debug"] = True
        elif name in _WITH_VALUE:
            if not equals:
                if not rest:
                    return None
                value = rest.pop(0)
            if not value or value.startswith("-"):
                return None
            given[_WITH_VALUE[name]] = value
        elif word.isidentifier():
            return given, word, rest
        else:
            return None
    return None


def read(command: Command, words: Sequence[str]) -> dict[str, Any] | None:
    """What the function is called with; None where click has to look."""
    rest = command.rewrite(list(words)) if command.rewrite is not None else list(words)
    values: dict[str, Any] = {}
    by_word: dict[str, _Option] = {}
    arguments: list[Parameter] = []
    for parameter in command.parameters:
        if parameter.positional:
            arguments.append(parameter)
            continue
        taken = _Option(parameter)
        if taken.exposed:
            values[taken.name] = taken.default
        by_word.update(taken.words)
    positional: list[str] = []
    while rest:
        word = rest.pop(0)
        if not word or word == "--":
            return None
        if word[0] == "-" and word != "-":
            if not _option(word, rest, by_word, values):
                return None
        elif command.interspersed:
            positional.append(word)
        else:
            positional += [word, *rest]
            break
    return values if _assign(arguments, positional, values) else None


class _Option:
    """An option: `words` are those that mean it, each with itself or, where it is the second of a pair of switches, its opposite."""

    def __init__(self, parameter: Parameter, value: object = True) -> None:
        attributes = parameter.attributes
        first = [word for word in parameter.declarations if word.startswith("-")]
        pairs = [word.partition("/")[::2] for word in first]
        named = [word for word in parameter.declarations if not word.startswith("-")]
        longest = max((word for word, _ in pairs), key=lambda word: len(word) - len(word.lstrip("-")))
        self.name = named[0] if named else longest.lstrip("-").replace("-", "_").lower()
        self.value = value
        self.is_flag = bool(attributes.get("is_flag")) or any(second for _, second in pairs)
        self.multiple = bool(attributes.get("multiple"))
        self.kind = attributes.get("type")
        self.exposed = attributes.get("expose_value", True)
        self.plain = self.exposed and "callback" not in attributes and not attributes.get("required") and "nargs" not in attributes
        self.default = attributes.get("default", () if self.multiple else False if self.is_flag else None)
        self.words: dict[str, _Option] = {}
        if value is True:
            self.words = {word: self for word, _ in pairs}
            self.words |= {second: _Option(parameter, False) for _, second in pairs if second}


def _option(word: str, rest: list[str], by_word: dict[str, _Option], values: dict[str, Any]) -> bool:
    """Read one option with its value; False where that is for click."""
    name, equals, value = word.partition("=")
    option = by_word.get(name if name.startswith("--") else word)
    if option is None:
        return _cluster(word, by_word, values)
    if not option.plain:
        return False
    if option.is_flag:
        values[option.name] = option.value
        return not equals
    if not equals:
        if not rest:
            return False
        value = rest.pop(0)
        if value.startswith("-") and value != "-":
            return False
    known, result = _converted(option.kind, value)
    if known:
        values[option.name] = (*values[option.name], result) if option.multiple else result
    return known


def _cluster(word: str, by_word: dict[str, _Option], values: dict[str, Any]) -> bool:
    """Switches of one letter, written together."""
    switches = [by_word.get(f"-{letter}") for letter in word[1:]]
    if word.startswith("--") or not all(switch is not None and switch.plain and switch.is_flag for switch in switches):
        return False
    values.update({switch.name: switch.value for switch in switches if switch is not None})
    return True


def _converted(kind: object, value: str) -> tuple[bool, object]:
    """Whether the value is surely one of that kind, and what it is then."""
    if kind is None or isinstance(kind, Unprocessed):
        return bool(value), value
    if isinstance(kind, Choice):
        return value in kind.words, value
    if value.isascii() and value.isdecimal() and len(value) < 10:
        if isinstance(kind, AtLeast):
            return int(value) >= kind.least, int(value)
        if kind is float:
            return True, float(value)
    return False, None


def _assign(arguments: list[Parameter], positional: list[str], values: dict[str, Any]) -> bool:
    """Give the words that are no options to the arguments; the last one may take any number."""
    for parameter in arguments:
        (name,) = parameter.declarations
        attributes = parameter.attributes
        if not (attributes.get("type") is None or isinstance(attributes["type"], Unprocessed)):
            return False
        if attributes.get("nargs") == -1:
            if parameter is not arguments[-1] or (attributes.get("required") and not positional):
                return False
            values[name], positional = tuple(positional), []
        elif positional:
            values[name], positional = positional[0], positional[1:]
        elif "default" in attributes:
            values[name] = attributes["default"]
        else:
            return False
    return not positional
