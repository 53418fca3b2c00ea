"""Regular expressions that are not used at once: their flags, and what is done to text before it becomes one.

Patterns that are known when this program is written are `imgbuild.patterns`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from re import ASCII, DOTALL, IGNORECASE, MULTILINE, VERBOSE, Match, Pattern, compile, error, escape, fullmatch, match, split, sub
else:
    from imgbuild.patterns import ASCII, DOTALL, IGNORECASE, MULTILINE, VERBOSE

    _ESCAPED = {ord(character): f"\\{character}" for character in "()[]{}?*+-|^$\\.&~# \t\n\r\v\f"}

    def escape(text: str | bytes) -> str | bytes:
        """As `re.escape`."""
        return text.translate(_ESCAPED) if isinstance(text, str) else text.decode("latin-1").translate(_ESCAPED).encode("latin-1")

    def __getattr__(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        import re

        return getattr(re, name)


__all__ = [
    "ASCII", "DOTALL", "IGNORECASE", "MULTILINE", "VERBOSE", "Match", "Pattern", "compile", "error", "escape", "fullmatch", "match",
    "split", "sub",
]  # fmt: skip
