"""What a command takes, declared once: click reads it for help, errors and all that is unusual; `quick` reads it for plain lines.

The decorators have click's names and order, and pass on to it what they were given. Not here: click, whose import takes longer than
a whole build in which everything is cached.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Function = Callable[..., Any]

_ATTRIBUTES = frozenset((
    "callback", "default", "expose_value", "help", "hidden", "is_flag", "metavar", "multiple", "nargs", "required", "show_default", "type",
))  # fmt: skip


class Choice:
    """One of these words."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)


class AtLeast:
    """A whole number that is no less."""

    def __init__(self, least: int) -> None:
        self.least = least


class Unprocessed:
    """A word as it came."""


class Parameter:
    """An option, or an argument (`positional`), with the attributes that were given for it, which are click's."""

    __slots__ = ("attributes", "declarations", "positional")

    def __init__(self, declarations: tuple[str, ...], attributes: dict[str, Any], *, positional: bool) -> None:
        if unknown := attributes.keys() - _ATTRIBUTES:
            raise TypeError(f"{declarations[0]}: {', '.join(sorted(unknown))} would be read by click alone")
        self.declarations = declarations
        self.attributes = attributes
        self.positional = positional


class Command:
    """A function with what it takes, in the order of its declarations. It is called with the invocation, and the rest by name.

    `interspersed`: options may stand behind arguments, too. `rewrite` is applied to the words before they are read.
    """

    def __init__(
        self, function: Function, name: str, parameters: tuple[Parameter, ...], *,
        interspersed: bool, rewrite: Callable[[list[str]], list[str]] | None,
    ) -> None:  # fmt: skip
        self.function = function
        self.name = name
        self.parameters = parameters
        self.interspersed = interspersed
        self.rewrite = rewrite


def option(*declarations: str, **attributes: Any) -> Callable[[Function], Function]:
    """As click.option."""
    return _taking(Parameter(declarations, attributes, positional=False))


def argument(*declarations: str, **attributes: Any) -> Callable[[Function], Function]:
    """As click.argument."""
    return _taking(Parameter(declarations, attributes, positional=True))


def command(
    name: str = "", *, interspersed: bool = True, rewrite: Callable[[list[str]], list[str]] | None = None
) -> Callable[[Function], Command]:
    """As click.command, of a function that is given the invocation first."""

    def declared(function: Function) -> Command:
        parameters = tuple(reversed(function.__dict__.pop("parameters", ())))
        return Command(function, name or function.__name__, parameters, interspersed=interspersed, rewrite=rewrite)

    return declared


def _taking(parameter: Parameter) -> Callable[[Function], Function]:
    def taking(function: Function) -> Function:
        function.__dict__.setdefault("parameters", []).append(parameter)
        return function

    return taking
