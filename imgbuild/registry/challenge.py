"""``WWW-Authenticate`` as values (RFC 9110, 11.6.1): several challenges in one header, tokens and quoted strings. Pure."""

from __future__ import annotations

from imgbuild.light import re
from imgbuild.values import dataclass

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$))", re.ASCII)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_UNQUOTED = re.compile(r"[^,\s]*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SPACE = re.compile(r"[ \t\r\n]*")
_SEPARATOR = re.compile(r"[ \t\r\n,]*")
_MAX_HEADER = 64 << 10


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: the scheme in lower case, its parameters with lower-case names."""

    scheme: str
    parameters: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """A parameter, or "" where it is missing."""
        return dict(self.parameters).get(name, "")


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """The challenges of a header, in order; what can't be read ends the list, and nothing is ever raised."""
    return tuple(_Parser(header[:_MAX_HEADER]).challenges())


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def challenges(self) -> list[Challenge]:
        found: list[Challenge] = []
        while self._take(_SEPARATOR) is not None and self._at < len(self._text):
            scheme = self._take(_TOKEN)
            if scheme is None:
                break
            found.append(Challenge(scheme.lower(), tuple(self._parameters())))
        return found

    def _parameters(self) -> list[tuple[str, str]]:
        found: dict[str, str] = {}
        self._take(_SPACE)
        # What Negotiate and NTLM have instead of parameters; nobody here can use it.
        if self._take(_TOKEN68) is not None:
            return []
        while True:
            before = self._at
            pair = self._pair()
            if pair is None:
                self._at = before
                return list(found.items())
            found.setdefault(pair[0].lower(), pair[1])
            self._take(_SEPARATOR)

    def _pair(self) -> tuple[str, str] | None:
        name = self._take(_TOKEN)
        if name is None:
            return None
        self._take(_SPACE)
        if self._text[self._at : self._at + 1] != "=":
            return None
        self._at += 1
        self._take(_SPACE)
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is not None:
            self._at = quoted.end()
            return name, _ESCAPE.sub(r"\1", quoted[1])
        value = self._take(_TOKEN)
        # Some servers leave a URL unquoted; read it up to the comma.
        value = (value or "") + (self._take(_UNQUOTED) or "")
        return (name, value) if value else None

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        match = pattern.match(self._text, self._at)
        if match is None:
            return None
        self._at = match.end()
        return match[0]
