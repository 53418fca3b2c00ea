"""Which heredocs a logical line opens, and what the word that opens one says.

BuildKit looks for them in RUN, COPY and ADD (and so it is with TEST), also as triggers of ONBUILD, and never in a JSON form.
"""

from __future__ import annotations

from imgbuild.buildfile.expand import delimiter_words, raw_words
from imgbuild.buildfile.instructions import Heredoc
from imgbuild.buildfile.words import json_words, split_command
from imgbuild.errors import BuildfileError, Span
from imgbuild.patterns import MULTILINE, pattern
from imgbuild.values import dataclass

_HOLDERS = ("RUN", "COPY", "ADD", "TEST")
_OPENER = pattern(r"([0-9]*)<<(-?)\s*([^<]*)$")
_PLAIN_NAME = pattern(r"[A-Za-z_][\w.-]*")
_LEADING_TABS = pattern(r"^\t+", MULTILINE)


@dataclass(frozen=True, slots=True)
class Opener:
    """``<<NAME`` as a word: `expand` is false where any of the name was quoted."""

    word: str
    name: str
    expand: bool
    strip_tabs: bool
    fd: int | None

    @property
    def may_be_shift(self) -> bool:
        """Whether it may as well be the ``<<`` of an arithmetic expression, as in ``$((1 << 3))``, if nothing ends it."""
        return self.word[self.word.index("<<") + 2] in " \t\r" and _PLAIN_NAME.fullmatch(self.name) is None

    def heredoc(self, text: str, span: Span) -> Heredoc:
        """The heredoc with its text, as it stands in the file."""
        content = _LEADING_TABS.sub("", text) if self.strip_tabs else text
        return Heredoc(self.name, content, text + self.name, self.expand, self.strip_tabs, self.fd, span, self.word)


def openers(text: str) -> list[Opener]:
    """The heredocs that a logical line opens, in order."""
    if "<<" not in text or not _may_hold(text):
        return []
    found = []
    for word in raw_words(text):
        opener = read_opener(word)
        if opener is not None:
            found.append(opener)
    return found


def read_opener(word: str) -> Opener | None:
    """The word as the opening of a heredoc, or None if it is none. Raises if its quotes do not match."""
    match = _OPENER.match(word)
    if match is None or not match.group(3):
        return None
    fd, dash, rest = match.groups()
    plain = delimiter_words(rest, keep_quotes=False)
    raw = delimiter_words(rest, keep_quotes=True)
    if len(plain) != 1 or len(raw) != 1:
        return None
    name = plain[0]
    quoted = sum(raw[0].count(quote) - name.count(quote) for quote in "'\"")
    return Opener(word, name, quoted == 0, bool(dash), _number(fd))


def is_opener(word: str) -> bool:
    """Whether the word opens a heredoc; a malformed one does not."""
    try:
        return read_opener(word) is not None
    except BuildfileError:
        return False


def _number(digits: str) -> int | None:
    return int(digits) if 0 < len(digits) < 20 else None


def _may_hold(text: str) -> bool:
    split = split_command(text)
    if split.keyword.text.upper() == "ONBUILD":
        split = split_command(text, split.rest.start)
    if split.keyword.text.upper() not in _HOLDERS:
        return False
    try:
        return json_words(split.rest.text) is None
    except BuildfileError:
        return False
