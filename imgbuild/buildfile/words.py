"""Splitting one logical line: its keyword, its flags, its words. Nothing here knows what an instruction means.

Whitespace is Go's: `SPACE` where BuildKit trims with unicode.IsSpace, `BLANKS` where it splits with its own pattern.
"""

from __future__ import annotations

from imgbuild.errors import BuildfileError
from imgbuild.light import json, re
from imgbuild.patterns import DOTALL, pattern
from imgbuild.values import dataclass

SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
SPACE_CLASS = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # the same, within a pattern's brackets
BLANKS = "\t\v\f\r "

_KEYWORD = pattern(rf"[^{BLANKS}]*")
_SPACES = pattern(f"[{SPACE_CLASS}]*")
_WORD = pattern(rf"[^{BLANKS}]+")
_FLAG_PLAIN = pattern(rf"[^{SPACE_CLASS}'\"\\]+")
_HEREDOC_WORD = pattern(rf"[0-9]*<<(?:-|[ \t\r]+)?(?:'[^']*'|\"[^\"]*\"|\\(?:.|$)|[^{BLANKS}<'\"\\])+|[^{BLANKS}]+")


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a logical line: what it says (flags: unquoted) and where, as offsets."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Split:
    """``KEYWORD --flags rest``: the keyword as written, each flag without its quotes, the rest trimmed."""

    keyword: Slice
    flags: tuple[Slice, ...]
    rest: Slice


def split_command(text: str, start: int = 0) -> Split:
    """Split the line from `start` on."""
    start, end = _trimmed(text, start, len(text))
    match = _KEYWORD.match(text, start, end)
    assert match is not None
    keyword = Slice(match.group(), start, match.end())
    flags, position = _flags(text, match.end(), end)
    first, last = _trimmed(text, position, end)
    return Split(keyword, flags, Slice(text[first:last], first, last))


def blank_words(part: Slice) -> list[Slice]:
    """The words of `part`, split at blanks alone: quotes have no meaning here."""
    return [Slice(m.group(), part.start + m.start(), part.start + m.end()) for m in _WORD.finditer(part.text)]


def words_with_heredocs(part: Slice) -> list[Slice]:
    """As `blank_words`, but a quoted heredoc delimiter, and one after a blank, is part of its word."""
    return [Slice(m.group(), part.start + m.start(), part.start + m.end()) for m in _HEREDOC_WORD.finditer(part.text)]


def quoted_words(part: Slice, escape: str) -> list[Slice]:
    """The words of `part`, quotes respected and kept; an escape at the very end is dropped (as BuildKit's parseWords)."""
    e = re.escape(escape)
    words = pattern(rf"(?:{e}.|'[^']*(?:'|$)|\"(?:{e}.|[^\"{e}])*(?:\"|{e}?$)|[^{SPACE_CLASS}'\"{e}])+|{e}$", DOTALL)
    found = []
    for match in words.finditer(part.text):
        word = match.group()
        end = match.end()
        if end == len(part.text) and _ends_with_lone_escape(word, escape):
            word, end = word[:-1], end - 1
        if word:
            found.append(Slice(word, part.start + match.start(), part.start + end))
    return found


def json_words(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array, or None if `text` is not valid JSON (then it is the shell form). Raises if the array
    holds anything but strings, as BuildKit does."""
    text = text.lstrip(SPACE)
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text, parse_constant=_not_json)
    except ValueError:
        return None
    except RecursionError:
        value = [None]
    if any(not isinstance(item, str) for item in value):
        raise BuildfileError("a JSON form holds strings only", hint='quote each word: ["executable", "argument"]')
    return tuple(replace_surrogates(item) for item in value)


def replace_surrogates(text: str) -> str:
    """The text with U+FFFD where it is not Unicode."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def split_csv(text: str) -> tuple[str, ...]:
    """One CSV record: fields are separated by commas, and may stand in double quotes, where ``""`` is one quote."""
    fields: list[str] = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted_field(text, position)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            field = text[position:end]
            if '"' in field:
                raise BuildfileError(f"a quote inside an unquoted field: {field}", hint='put the whole field in quotes: "key=value"')
            position = end
        fields.append(field)
        if position == len(text):
            return tuple(fields)
        position += 1


def _quoted_field(text: str, position: int) -> tuple[str, int]:
    parts = []
    position += 1
    while True:
        end = text.find('"', position)
        if end < 0:
            raise BuildfileError("a quoted field has no closing quote")
        parts.append(text[position:end])
        position = end + 1
        if not text.startswith('"', position):
            break
        parts.append('"')
        position += 1
    if position < len(text) and text[position] != ",":
        raise BuildfileError("text after the closing quote of a field", hint="a comma must follow it")
    return "".join(parts), position


def _not_json(constant: str) -> None:
    raise ValueError(constant)  # NaN and Infinity, which Python's reader would take


def _ends_with_lone_escape(word: str, escape: str) -> bool:
    """Whether the last character is an escape that escapes nothing."""
    position, quote = 0, ""
    while position < len(word):
        character = word[position]
        if character == escape and quote != "'":
            if position + 1 == len(word):
                return True
            position += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        position += 1
    return False


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    match = _SPACES.match(text, start, end)
    assert match is not None
    start = match.end()
    while end > start and text[end - 1] in SPACE:
        end -= 1
    return start, end


def _flags(text: str, position: int, end: int) -> tuple[tuple[Slice, ...], int]:
    found: list[Slice] = []
    while True:
        match = _SPACES.match(text, position, end)
        assert match is not None
        position = match.end()
        if not text.startswith("--", position, end):
            return tuple(found), position
        flag, blank = _flag_word(text, position, end)
        position = flag.end
        if flag.text == "--":
            return tuple(found), position
        if flag.text or blank:
            found.append(flag)


def _flag_word(text: str, start: int, end: int) -> tuple[Slice, bool]:
    """The word at `start` without quotes and escapes, and whether it had quotes. The escape is always a backslash here."""
    parts: list[str] = []
    position, quote, blank = start, "", False
    while position < end:
        character = text[position]
        if character == "\\":
            parts.append(text[position + 1 : min(position + 2, end)])
            position += 2
        elif quote:
            if character == quote:
                quote = ""
            else:
                parts.append(character)
            position += 1
        elif character in "'\"":
            quote, blank = character, True
            position += 1
        else:
            match = _FLAG_PLAIN.match(text, position, end)
            if match is None:
                break
            parts.append(match.group())
            position = match.end()
    return Slice("".join(parts), start, min(position, end)), blank
