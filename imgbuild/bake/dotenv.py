"""A ``.env`` file: NAME=VALUE lines that compose files take variables from."""

from __future__ import annotations

from imgbuild.bake.nodes import fail
from imgbuild.bake.variables import Scope
from imgbuild.errors import Source, Span
from imgbuild.hints import Mapping
from imgbuild.light import re

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*[=:](.*)", re.ASCII)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$"}


def read_dotenv(text: str, name: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the file. Values in single quotes stand as they are; others may name variables of the environment, which come
    first, or of lines above."""
    source = Source(name, tuple(text.splitlines()))
    found: dict[str, str] = {}
    lines = iter(enumerate(source.lines, 1))
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        span = Span(source, number, number)
        match = _LINE.match(line)
        if match is None:
            fail(span, "a line here is NAME=VALUE, or begins with #")
        value = match[2].strip()
        quote = value[:1] if value[:1] in ("'", '"') else ""
        while quote and _closing(value, quote) is None:
            following = next(lines, None)
            if following is None:
                fail(span, "the quote is not closed")
            value += "\n" + following[1]
        scope = Scope({}, {**found, **environ}, lambda name, at: "")
        found[match[1]] = _unquoted(value, quote, scope, span)
    return found


def _closing(value: str, quote: str) -> int | None:
    """Where the quote that opens the value is closed."""
    position = 1
    while position < len(value):
        if value[position] == "\\" and quote == '"':
            position += 1
        elif value[position] == quote:
            return position
        position += 1
    return None


def _unquoted(value: str, quote: str, scope: Scope, span: Span) -> str:
    if not quote:
        return scope.expand(re.split(r"(?:^|\s)#", value, maxsplit=1)[0].rstrip(), span)
    inside = value[1 : _closing(value, quote)]
    if quote == "'":
        return inside
    return scope.expand(re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[0]), inside, flags=re.DOTALL), span)
