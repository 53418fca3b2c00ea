"""Regular expressions that are compiled when they are first used: most of a program's are not, in a run, and each costs 0.1 ms."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import ASCII, DOTALL, IGNORECASE, MULTILINE, VERBOSE
    from re import compile as compiled
    from re import compile as pattern
    from typing import Any
else:
    ASCII, DOTALL, IGNORECASE, MULTILINE, VERBOSE = 256, 16, 2, 8, 64

    def compiled(text: str | bytes, flags: int) -> Any:
        """As re.compile, now."""
        import re

        return re.compile(text, flags)

    class _Pattern:
        """As re.compile() makes it, once somebody asks for any of it."""

        def __init__(self, text: str | bytes, flags: int) -> None:
            self._given = text, flags

        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):
                raise AttributeError(name)
            made = compiled(*self._given)
            for known in ("fullmatch", "match", "search", "sub", "finditer", "findall", "split", "pattern", "flags"):
                setattr(self, known, getattr(made, known))
            return getattr(made, name)

    def pattern(text: str | bytes, flags: int = 0) -> _Pattern:
        """As re.compile, later."""
        return _Pattern(text, int(flags))


__all__ = ["ASCII", "DOTALL", "IGNORECASE", "MULTILINE", "VERBOSE", "compiled", "pattern"]
