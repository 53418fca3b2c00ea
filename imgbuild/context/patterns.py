"""One pattern of an ignore file, or of --exclude: which paths it matches, by the rules of moby's patternmatcher.

That one makes a regular expression of the pattern, character by character, for Go's regexp package. Most patterns are made into one here
whose matching takes linear time. In some, characters that mean nothing to a user mean something to Go's: ``|`` ``{`` ``^``, letters
behind a backslash, and what stands in a class. Those are read as Go reads them.
"""

from __future__ import annotations

from imgbuild.context.glob import BadPattern, check
from imgbuild.light import re
from imgbuild.patterns import pattern
from imgbuild.values import dataclass

_WILDCARD = pattern(r"[*?\[\]\\]")
_ODD = pattern(r"[|{}^]|\\(?:[a-zA-Z0-9]|[^\x00-\x7f])|\[[^\]]*[*?\\\[]")
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
"""What Go calls space."""
_ESCAPES = {"d": "[0-9]", "D": "[^0-9]", "w": "[0-9A-Za-z_]", "W": "[^0-9A-Za-z_]", "s": "[\\t\\n\\f\\r ]", "S": "[^\\t\\n\\f\\r ]"}
_LETTERS = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_BORDERS = {"A": "(?:\\A)", "z": "(?:\\Z)", "b": "(?a:\\b)", "B": "(?a:\\B)"}
_REPEAT = pattern(r"\{(0|[1-9][0-9]*)(,(0|[1-9][0-9]*)?)?\}")
_MOST_REPEATS = 1000

_MOST_TRIED = 3
"""How many ``**`` of a pattern may each be tried at every place of a path: the time is a power of its length."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern: its text without ``!``, whether it brings back, where it stands, and the regex that paths must match as a whole.

    `prefix` is the directory that every match is in or is a part of ("" when that is not known).
    """

    text: str
    exception: bool
    line: int
    regex: re.Pattern[str]
    prefix: str

    def leads_on(self, directory: str) -> bool:
        """Whether something below a directory, that does not match itself, may match."""
        if not self.prefix:
            # without a prefix because of a wildcard in the first component, or since it is not known what the pattern means
            return "**" in self.text or _ODD.search(self.text) is not None or directory.count("/") < self.text.count("/")
        if not (self.prefix.startswith(f"{directory}/") or f"{directory}/".startswith(f"{self.prefix}/")):
            return False
        return "**" in self.text or directory.count("/") < self.text.count("/")

    def __str__(self) -> str:
        return f"!{self.text}" if self.exception else self.text


def read_pattern(written: str, number: int) -> Pattern:
    """Read a pattern, which is not only space; BadPattern for one that Go's packages refuse."""
    text = clean(trimmed(written))
    exception = text.startswith("!")
    text = text[1:] if exception else text
    if not text:
        raise BadPattern("'!' alone brings back nothing")
    check(text)
    try:
        return Pattern(text, exception, number, re.compile(_regex(text), re.DOTALL), _literal_prefix(text))
    except re.error as error:
        raise BadPattern(f"{text!r} as a regular expression: {error}") from None


def trimmed(text: str) -> str:
    """As Go's ``strings.TrimSpace``."""
    return text.strip(_SPACES)


def clean(path: str) -> str:
    """As Go's ``filepath.Clean``."""
    rooted = path.startswith("/")
    names: list[str] = []
    for name in path.split("/"):
        if name in ("", "."):
            continue
        if name == ".." and names and names[-1] != "..":
            names.pop()
        elif name != ".." or not rooted:
            names.append(name)
    return ("/" if rooted else "") + "/".join(names) or "."


def _literal_prefix(text: str) -> str:
    if _WILDCARD.search(text) and _ODD.search(text):
        return ""
    names = text.split("/")
    literal = next((index for index, name in enumerate(names) if _WILDCARD.search(name)), len(names))
    return "/".join(names[:literal])


def _regex(text: str) -> str:
    """The pattern as a regex for fullmatch."""
    if not _WILDCARD.search(text):
        return re.escape(text)
    if not _WILDCARD.search(text.removesuffix("**")):
        # 'a/**' is all below a, and 'a**' all that starts with a
        return re.escape(text[:-2]) + ".*"
    if text.startswith("**") and not _WILDCARD.search(text[2:]):
        # '**/a' is an a anywhere, but '**a' all that ends in a
        suffix = re.escape(text[2:])
        return f".*{suffix}|{re.escape(text[3:])}" if text.startswith("**/") else f".*{suffix}"
    if _ODD.search(text):
        # anywhere in the path: where Go's has no anchor, there is none
        return f"(?=.*?(?-s:{_Go(_go_regex(text)).translated()})).*"
    linear = "".join(_linear(_tokens(text)))
    if 2 <= text.count("**") <= _MOST_TRIED:
        # A name with a newline, which Go's dot does not match, may need another place than the leftmost.
        return f"(?:{linear})|(?=.*\\n)(?=(?-s:{_Go(_go_regex(text)).translated()})).*"
    return linear


def _go_regex(text: str) -> str:
    """The regular expression that patternmatcher hands to Go's package."""
    out = ["^"]
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if character == "*" and text.startswith("*", position):
            position += 1
            position += text.startswith("/", position)
            out.append("(.*/)?" if position < len(text) else ".*")
        elif character == "\\":
            out.append(f"\\{text[position]}")
            position += 1
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(character) or (f"\\{character}" if character in ".+()$" else character))
    return "".join(out) + "$"


class _Go:
    """Go's syntax of regular expressions, as far as it gets here, in Python's."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def translated(self) -> str:
        out: list[str] = []
        while self._at < len(self._text):
            character = self._next()
            if character == "\\":
                out.append(self._escape())
            elif character == "[":
                out.append(self._class())
            elif character == "{":
                out.append(self._repeat())
            elif character == "$":
                out.append("\\Z")
            elif character == "^":
                out.append("(?:^)")  # which Go lets be repeated
            elif character in "|.*?()":
                out.append(character)
            else:
                out.append(re.escape(character))
        return "".join(out)

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise BadPattern("a class has no end")
        self._at += 1
        return self._text[self._at - 1]

    def _escape(self) -> str:
        character = self._next()
        return _ESCAPES.get(character) or _BORDERS.get(character) or re.escape(self._escaped(character))

    @staticmethod
    def _escaped(character: str) -> str:
        """The character that a backslash before another one means."""
        if character in _LETTERS:
            return _LETTERS[character]
        if not character.isascii() or character.isalnum():
            raise BadPattern(f"\\{character} has no meaning of its own")
        return character

    def _repeat(self) -> str:
        match = _REPEAT.match(self._text, self._at - 1)
        if match is None:
            return "\\{"
        if any(int(number) > _MOST_REPEATS for number in (match[1], match[3]) if number):
            raise BadPattern(f"{match[0]} repeats too often")
        self._at = match.end()
        return match[0]

    def _class(self) -> str:
        negated = self._text.startswith("^", self._at)
        self._at += negated
        members: list[str] = []
        while not members or not self._text.startswith("]", self._at):
            if self._text.startswith("[:", self._at) and ":]" in self._text[self._at :]:
                raise BadPattern("classes with a name are not read")
            members.append(self._member())
        self._at += 1
        return f"[{'^' * negated}{''.join(members)}]"

    def _member(self) -> str:
        low = self._next()
        if low == "\\":
            low = self._next()
            if low in _ESCAPES:
                if low.isupper():
                    raise BadPattern(f"\\{low} within a class is not read")
                return _ESCAPES[low][1:-1]
            low = self._escaped(low)
        if not self._text.startswith("-", self._at) or self._text.startswith("-]", self._at):
            return re.escape(low)
        self._at += 1
        high = self._next()
        if high == "\\":
            high = self._escaped(self._next())
        if high < low:
            raise BadPattern(f"the range {low}-{high} is the wrong way round")
        return f"{re.escape(low)}-{re.escape(high)}"


def _tokens(text: str) -> list[str]:
    """The parts of a pattern: ``**`` (with the slash that follows it, which it swallows), ``*``, and regexes of one character."""
    tokens: list[str] = []
    position = 0
    in_class = False
    while position < len(text):
        character = text[position]
        position += 1
        if character == "\\":
            character = re.escape(text[position])
            position += 1
            if in_class:
                tokens[-1] += character
            else:
                tokens.append(character)
        elif in_class:
            tokens[-1] += character if character in "]^-" else re.escape(character)
            in_class = character != "]"
        elif character == "[":
            tokens.append("[")
            in_class = True
        elif character == "*" and text.startswith("*", position):
            position += 1
            position += text.startswith("/", position)
            tokens.append("**")
        else:
            tokens.append({"*": "*", "?": "[^/]"}.get(character) or re.escape(character))
    return tokens


def _linear(tokens: list[str]) -> list[str]:
    """Wildcards as regexes, so that as few of them as possible are ever tried twice.

    Between two stars of one component, and between two ``**``, the leftmost place for what stands there is always good
    enough: an atomic group.
    """
    out: list[str] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        position += 1
        if token not in ("*", "**"):
            out.append(token)
            continue
        ends = ("**",) if token == "**" else ("*", "**", "/")
        end = next((index for index in range(position, len(tokens)) if tokens[index] in ends), len(tokens))
        between = tokens[position:end]
        if token == "*" and end < len(tokens) and tokens[end] == "*":
            out.append(f"(?>[^/]*?{''.join(between)})")
            position = end
        elif token == "**" and end < len(tokens) and between and between[-1] == "/":
            out.append(f"(?>(?:[^\\n]*?/)??{''.join(_linear(between))})")
            position = end
        elif token == "**":
            # as Go's dot, this does not match a newline
            out.append("(?:[^\\n]*/)?" if position < len(tokens) else "[^\\n]*")
        else:
            out.append("[^/]*")
    return out
