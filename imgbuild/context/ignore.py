"""Ignore files: which paths of a build context do not exist for a build.

The rules are those of moby's patternmatcher, its oddities included, since the same file must mean the same to both: the last
pattern that matches a path, or that matched a directory above it, decides; ``!`` brings back.
Not here: walking (filtered).
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from imgbuild.context.glob import BadPattern, check
from imgbuild.errors import ContextError, Source, Span
from imgbuild.values import dataclass

_WILDCARD = re.compile(r"[*?\[\]\\]")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line: its text without ``!``, whether it brings back, where it stands, and the regex that paths must match.

    `prefix` is the directory that every match is in or is a part of ("" when that is not known).
    """

    text: str
    exception: bool
    line: int
    regex: re.Pattern[str]
    prefix: str

    def __str__(self) -> str:
        return f"!{self.text}" if self.exception else self.text


State = int
"""Which patterns have matched a directory or one above it, as a bit mask. 0 for the root."""


class Ignore:
    """The patterns of one ignore file, in order. Without patterns nothing is ignored."""

    def __init__(self, patterns: tuple[Pattern, ...] = (), name: str = "") -> None:
        self.patterns = patterns
        self.name = name
        self._any = re.compile("|".join(f"(?:{pattern.regex.pattern})" for pattern in patterns), re.DOTALL) if patterns else None
        self._exceptions = tuple((index, pattern) for index, pattern in enumerate(patterns) if pattern.exception)

    def __bool__(self) -> bool:
        return bool(self.patterns)

    @classmethod
    def parse(cls, text: str, name: str = ".dockerignore") -> Ignore:
        """Read an ignore file's text; ContextError at its line for a pattern that can't be read."""
        lines = text.removeprefix("\ufeff").split("\n")
        patterns = []
        for number, line in enumerate(lines, 1):
            if line.startswith("#") or not line.strip():
                continue
            try:
                patterns.append(_pattern(line, number))
            except (BadPattern, re.error) as error:
                at = Span(Source(name, tuple(lines)), number, number)
                raise ContextError(f"bad pattern in the ignore file: {error}", at=at) from None
        return cls(tuple(patterns), name)

    @classmethod
    def of(cls, lines: tuple[str, ...]) -> Ignore:
        """Patterns that come from elsewhere than a file (--exclude)."""
        return cls.parse("\n".join(lines), "--exclude") if lines else cls()

    @classmethod
    def load(cls, context: Path, buildfile: Path | None = None) -> Ignore:
        """The ignore file of a build: ``<Buildfile>.dockerignore`` beside the Buildfile, else the context's ``.dockerignore``."""
        candidates = [context / ".dockerignore"]
        if buildfile is not None:
            candidates.insert(0, buildfile.with_name(buildfile.name + ".dockerignore"))
        for candidate in candidates:
            try:
                if not stat.S_ISREG(candidate.stat().st_mode):
                    raise ContextError(f"the ignore file {candidate} is not a file")
                return cls.parse(candidate.read_text("utf-8", "surrogateescape"), candidate.name)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise ContextError(f"can't read the ignore file {candidate}: {error.strerror}") from None
        return cls()

    def step(self, path: str, above: State) -> tuple[bool, State]:
        """Whether `path` (relative, clean) is ignored, and the state for what is below it, given its directory's state."""
        if self._any is None or (not above and not self._any.fullmatch(path)):
            return False, 0
        decider, state = self._decide(path, above)
        return decider is not None and not decider.exception, state

    def opens(self, path: str, state: State) -> bool:
        """Whether an exception may bring back something below the ignored directory `path`."""
        return any(
            state >> index & 1 or not pattern.prefix or f"{path}/".startswith(f"{pattern.prefix}/") or pattern.prefix.startswith(f"{path}/")
            for index, pattern in self._exceptions
        )

    def ignores(self, path: str) -> bool:
        """Whether a relative clean path is ignored."""
        decider = self.reason(path)
        return decider is not None and not decider.exception

    def reason(self, path: str) -> Pattern | None:
        """The pattern that decides about a relative clean path; None where none does."""
        names = path.split("/")
        decider: Pattern | None = None
        state = 0
        for depth in range(1, len(names) + 1):
            decider, state = self._decide("/".join(names[:depth]), state)
        return decider

    def _decide(self, path: str, above: State) -> tuple[Pattern | None, State]:
        decider: Pattern | None = None
        ignored = False
        state = 0
        for index, pattern in enumerate(self.patterns):
            if not above >> index & 1 and (pattern.exception != ignored or not pattern.regex.fullmatch(path)):
                continue
            state |= 1 << index
            decider, ignored = pattern, not pattern.exception
        return decider, state


def _pattern(line: str, number: int) -> Pattern:
    text = line.strip()
    exception = text.startswith("!")
    if exception:
        text = text[1:].strip()
        if not text:
            raise BadPattern("'!' alone brings back nothing")
    text = _clean(text)
    if len(text) > 1 and text.startswith("/"):
        text = text[1:]
    check(text)
    return Pattern(text, exception, number, re.compile(_regex(text), re.DOTALL), _literal_prefix(text))


def _clean(path: str) -> str:
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
    return "".join(_linear(_tokens(text)))


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
            out.append(f"(?>(?:.*?/)??{''.join(_linear(between))})")
            position = end
        elif token == "**":
            out.append("(?:.*/)?" if position < len(tokens) else ".*")
        else:
            out.append("[^/]*")
    return out
