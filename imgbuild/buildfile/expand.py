"""Variables, quotes and escapes in a word: what BuildKit's shell lexer makes of it.

The rules are those of moby/buildkit frontend/dockerfile/shell (ProcessWord, ProcessWords); an unset variable is empty.
"""

from __future__ import annotations

from imgbuild.buildfile.globs import Glob
from imgbuild.buildfile.words import SPACE_CLASS
from imgbuild.errors import BuildfileError, Span
from imgbuild.hints import Mapping
from imgbuild.light import re
from imgbuild.light.contextlib import suppress
from imgbuild.light.functools import cache
from imgbuild.patterns import pattern
from imgbuild.values import replace

_PARAMETERS = "@*#?-$!"  # the special parameters of POSIX sh; ${0} is read as a number
_DEEPEST = 64
_LONGEST = 16 << 20  # characters that variables put into one word: more than any kernel takes, and less than a machine has
_SPACES = pattern(f"[{SPACE_CLASS}]")


def expand(word: str, env: Mapping[str, str], escape: str = "\\", at: Span | None = None) -> str:
    """The word with its variables replaced, its quotes removed and its escapes resolved."""
    if not any(character in word for character in ("$", "'", '"', escape)):
        return word
    return _Expansion(word, env, escape, at).whole()


def expand_words(word: str, env: Mapping[str, str], escape: str = "\\", at: Span | None = None) -> tuple[str, ...]:
    """As `expand`, but split at the spaces that were not quoted or escaped, those of unquoted variables included.
    Empty words vanish, quoted ones too."""
    words = _Words()
    _Expansion(word, env, escape, at).whole(words)
    return tuple(words.found())


def expand_heredoc(content: str, env: Mapping[str, str], escape: str = "\\", at: Span | None = None) -> str:
    """The text of a COPY or ADD heredoc: variables are replaced and escapes resolved, quotes are only text."""
    if "$" not in content and escape not in content:
        return content
    return _Expansion(content, env, escape, at, quotes_are_text=True).whole()


def expand_seen(
    word: str, env: Mapping[str, str], escape: str = "\\", at: Span | None = None, quotes_are_text: bool = False
) -> tuple[str, frozenset[str]]:
    """As `expand`, with the names that were looked up, special parameters too."""
    if "$" not in word:
        return expand(word, env, escape, at), frozenset()
    expansion = _Expansion(word, env, escape, at, quotes_are_text=quotes_are_text)
    return expansion.whole(), frozenset(expansion.seen)


def variables(word: str, escape: str = "\\", quotes_are_text: bool = False) -> frozenset[str]:
    """The names that `word` refers to, those in defaults and patterns too; of a malformed word, those up to the fault.
    Special parameters such as ``$$``, which are always empty, are not among them."""
    if "$" not in word:
        return frozenset()
    expansion = _Expansion(word, {}, escape, None, quotes_are_text=quotes_are_text, keep_unset=True)
    with suppress(BuildfileError):
        expansion.whole()
    return frozenset(name for name in expansion.seen if name and name not in _PARAMETERS and not name.isdecimal())


def raw_words(line: str) -> tuple[str, ...]:
    """The line split into words with quotes, escapes and variables kept, as heredocs are looked for; () if it is
    malformed, for then it holds none."""
    words = _Words()
    try:
        _Expansion(line, {}, "\\", None, keep_quotes=True, keep_escapes=True, keep_unset=True).whole(words)
    except BuildfileError:
        return ()
    return tuple(words.found())


def delimiter_words(text: str, keep_quotes: bool) -> tuple[str, ...]:
    """A heredoc's delimiter as words, with or without its quotes; variables in it are only text."""
    words = _Words()
    _Expansion(text, {}, "\\", None, keep_quotes=keep_quotes, keep_unset=True).whole(words)
    return tuple(words.found())


@cache
def _patterns(escape: str, quotes: str) -> tuple[dict[str, re.Pattern[str]], re.Pattern[str]]:
    """Runs of text without meaning: by the character that ends them, and within double quotes."""
    special = re.escape("$<" + quotes + escape)
    return {stop: pattern(f"[^{special}{stop}]+") for stop in ("", "/", "}")}, pattern(f'[^"${re.escape(escape)}]+')


class _Words:
    """Collects words: `plain` text is split at spaces, `solid` text is not."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._parts: list[str] = []

    def plain(self, text: str) -> None:
        pieces = _SPACES.split(text)
        for piece in pieces[:-1]:
            self.solid(piece)
            self._end()
        self.solid(pieces[-1])

    def solid(self, text: str) -> None:
        if text:
            self._parts.append(text)

    def found(self) -> list[str]:
        self._end()
        return self._words

    def _end(self) -> None:
        if self._parts:
            self._words.append("".join(self._parts))
            self._parts = []


class _Expansion:
    """One pass over one word. `position` moves; the methods read from it and leave it behind what they read."""

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        escape: str,
        at: Span | None,
        *,
        keep_quotes: bool = False,
        keep_escapes: bool = False,
        keep_unset: bool = False,
        quotes_are_text: bool = False,
    ) -> None:
        self.text = text
        self.env = env
        self.escape = escape
        self.at = at
        self.keep_quotes = keep_quotes
        self.keep_escapes = keep_escapes
        self.keep_unset = keep_unset
        self.quotes = "" if quotes_are_text else "'\""
        self.position = 0
        self.depth = 0
        self.left = _LONGEST
        self.seen: set[str] = set()
        self.plain, self.plain_in_double = _patterns(escape, self.quotes)

    def whole(self, words: _Words | None = None) -> str:
        return self._until("", self.keep_escapes, words)

    def _fault(self, message: str, start: int | None = None, hint: str | None = None) -> BuildfileError:
        return BuildfileError(message, at=self._place(start), hint=hint)

    def _place(self, start: int | None) -> Span | None:
        """The part of the word from `start` to here, where the word's span is exact."""
        at = self.at
        if at is None or start is None or not at.column or at.end_column - at.column != len(self.text):
            return at
        return replace(at, column=at.column + start, end_column=at.column + max(min(self.position, len(self.text)), start + 1))

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _next(self) -> str:
        character = self.text[self.position : self.position + 1]
        self.position += 1
        return character

    def _until(self, stop: str, keep_escapes: bool, words: _Words | None = None, opened: int = 0) -> str:
        """Up to an unquoted `stop` of the variable `opened`, or to the end if that is empty."""
        saved, self.keep_escapes = self.keep_escapes, keep_escapes
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self._fault("variables are nested too deeply")
        parts: list[str] = []
        plain = self.plain[stop]
        while self.position < len(self.text):
            match = plain.match(self.text, self.position)
            if match is not None:
                self.position = match.end()
                parts.append(match.group())
                if words is not None:
                    words.plain(match.group())
                continue
            character = self.text[self.position]
            if character == stop:
                self.position += 1
                break
            text, splits = self._special(character)
            parts.append(text)
            if words is not None:
                (words.plain if splits else words.solid)(text)
        else:
            if stop:
                raise self._fault(f"a '{stop}' is missing in the variable", opened)
        self.depth -= 1
        self.keep_escapes = saved
        return "".join(parts)

    def _special(self, character: str) -> tuple[str, bool]:
        """What the special character here, with what it governs, stands for, and whether that is split at spaces."""
        if character == "$":
            return self._variable(), True
        if character == "<":
            return self._arrows(), False
        if character in self.quotes:
            return (self._single() if character == "'" else self._double()), False
        self.position += 1
        escaped = self._next()
        return (character + escaped if self.keep_escapes else escaped), False

    def _arrows(self) -> str:
        """``<`` or ``<<`` with the blanks behind it, which belong to a heredoc's word."""
        start = self.position
        self.position += 1
        if self._peek() == "<":
            self.position += 1
            while self._peek() and self._peek() in " \t\r":
                self.position += 1
        return self.text[start : self.position]

    def _single(self) -> str:
        start = self.position
        end = self.text.find("'", start + 1)
        if end < 0:
            self.position = len(self.text)
            raise self._fault("a single quote is not closed", start, hint="close it, or put it in double quotes")
        self.position = end + 1
        return self.text[start : end + 1] if self.keep_quotes else self.text[start + 1 : end]

    def _double(self) -> str:
        start = self.position
        self.position += 1
        parts: list[str] = []
        while True:
            match = self.plain_in_double.match(self.text, self.position)
            if match is not None:
                parts.append(match.group())
                self.position = match.end()
            character = self._peek()
            if not character:
                raise self._fault("a double quote is not closed", start, hint="close it, or put it in single quotes")
            if character == "$":
                parts.append(self._variable())
                continue
            self.position += 1
            if character == '"':
                text = "".join(parts)
                return f'"{text}"' if self.keep_quotes else text
            if self.keep_escapes:
                parts.append(character)
            following = self._peek()
            if following and following in ('"', "$", self.escape):
                parts.append(following)
                self.position += 1
            elif following:
                parts.append(character)

    def _variable(self) -> str:
        start = self.position
        self.position += 1
        if self._peek() != "{":
            name = self._name()
            if not name:
                return "$"
            value = self._value(name)
            return f"${name}" if value is None and self.keep_unset else value or ""
        self.position += 1
        if not self._peek():
            raise self._fault("a '}' is missing to end the variable", start)
        if self._peek() in "{}:":
            self.position += 1
            raise self._fault("a variable has no name", start, hint="write ${name}, or \\$ for a dollar sign")
        name = self._name()
        modifier = self._next()
        if modifier == "}":
            value = self._value(name)
            return f"${{{name}}}" if value is None and self.keep_unset else value or ""
        if modifier == "/":
            return self._replaced(name, start)
        colon = modifier == ":"
        if colon:
            modifier = self._next()
        if not modifier:
            raise self._fault("a '}' is missing to end the variable", start)
        if modifier not in ("-+?" if colon else "-+?#%"):
            raise self._fault(f"an unknown modifier '{':' if colon else ''}{modifier}' in a variable", start, hint=_MODIFIERS)
        return self._modified(name, colon, modifier, start)

    def _modified(self, name: str, colon: bool, modifier: str, start: int) -> str:
        word = self._until("}", modifier in "#%", opened=start)
        value = self._value(name)
        if value is None and self.keep_unset:
            return f"${{{name}{':' if colon else ''}{modifier}{word}}}"
        missing = value is None or (colon and not value)
        if modifier == "-":
            return word if missing else value or ""
        if modifier == "+":
            return "" if missing else word
        if modifier == "?":
            if missing:
                raise self._fault(f"{name}: {word or ('is not set' if value is None else 'is empty')}", start, hint=f"give {name} a value")
            return value or ""
        longest = word.startswith(modifier)
        glob = self._glob(word[1:] if longest else word, start)
        text = value or ""
        if modifier == "#":
            end = glob.prefix(text, longest)
            return text if end is None else text[end:]
        begin = glob.suffix(text, longest)
        return text if begin is None else text[:begin]

    def _replaced(self, name: str, start: int) -> str:
        every = self._peek() == "/"
        self.position += every
        pattern = self._until("/", True, opened=start)
        replacement = self._until("}", True, opened=start)
        value = self._value(name)
        if value is None and self.keep_unset:
            return f"${{{name}{'//' if every else '/'}{pattern}/{replacement}}}"
        return self._glob(pattern, start).replace(value or "", replacement, every)

    def _glob(self, pattern: str, start: int) -> Glob:
        try:
            return Glob(pattern)
        except ValueError as error:
            raise self._fault(f"a bad pattern in a variable: {error}", start, hint="\\ may stand before *, ?, \\, / and }") from None

    def _name(self) -> str:
        start = self.position
        character = self._peek()
        if character and character in _PARAMETERS:
            self.position += 1
        elif character.isdecimal():
            while self._peek().isdecimal():
                self.position += 1
        else:
            while (character := self._peek()) and (character == "_" or character.isalpha() or character.isdecimal()):
                self.position += 1
        return self.text[start : self.position]

    def _value(self, name: str) -> str | None:
        self.seen.add(name)
        value = self.env.get(name)
        self.left -= len(value or "")
        if self.left < 0:
            raise self._fault(f"with the value of {name}, this is longer than {_LONGEST >> 20} MiB")
        return value


_MODIFIERS = "known are ${v:-w} ${v-w} ${v:+w} ${v+w} ${v:?m} ${v?m} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/p/r} ${v//p/r}"
