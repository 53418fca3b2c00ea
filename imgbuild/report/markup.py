"""HTML that is made of elements, never of strings put together: what is not markup by its type is text, and is escaped.

Text is shown as what it is. Characters that are not seen, or would change how others are (controls, marks of direction, bytes that were
no text), stand there as their code.
"""

from __future__ import annotations

from imgbuild.hints import Iterable

_VOID = frozenset(("br", "col", "input", "link", "meta"))
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Child = str | Iterable["Child"] | None


def element(name: str, /, *children: Child, **attributes: object) -> Html:
    """An element. Attributes are written ``class_``, ``aria_label``; None and False leave one out, True has no value."""
    head = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Html(head) if name in _VOID else Html(f"{head}{joined(children)}</{name}>")


def joined(children: Iterable[Child]) -> Html:
    """Elements and texts after each other."""
    return Html("".join(_flat(child) for child in children))


def escaped(text: str) -> str:
    """A text as it may stand in an element or in an attribute's value."""
    return visible(text).translate(_ESCAPES)


def visible(text: str) -> str:
    """The text with codes in the place of what is not seen. Lines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else " " if c.isspace() and c not in "\x1c\x1d\x1e\x1f\x85" else _code(c) for c in text
    )


def one_line(text: str) -> str:
    """The text with every space one blank."""
    return " ".join(text.split())


def short(text: str, most: int) -> str:
    """The beginning of a text, in one line."""
    line = one_line(text)
    return line if len(line) <= most else line[: max(0, most - 1)].rstrip() + "…"


def _flat(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return escaped(child) if isinstance(child, str) else "".join(map(_flat, child))


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escaped(str(value))}"'


def _code(character: str) -> str:
    number = ord(character)
    if "\udc80" <= character <= "\udcff":
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
