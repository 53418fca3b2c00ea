"""Ignore files: which paths of a build context do not exist for a build.

The rules are those of moby's patternmatcher, its oddities included, since the same file must mean the same to both: the last
pattern that matches a path, or that matched a directory above it, decides; ``!`` brings back.
Not here: what one pattern matches (patterns), walking (filtered).
"""

from __future__ import annotations

import stat

from imgbuild.context.glob import BadPattern
from imgbuild.context.patterns import Pattern, clean, read_pattern, trimmed
from imgbuild.errors import ContextError, Source, Span
from imgbuild.light import re
from imgbuild.light.pathlib import Path

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
            text = "" if line.startswith("#") else _normal(line)
            if not text:
                continue
            try:
                patterns.append(read_pattern(text, number))
            except BadPattern as error:
                at = Span(Source(name, tuple(lines)), number, number)
                raise ContextError(f"bad pattern in the ignore file: {error}", at=at) from None
        return cls(tuple(patterns), name)

    @classmethod
    def of(cls, texts: tuple[str, ...]) -> Ignore:
        """Patterns that stand in no file (--exclude): each is one, without comments, and a slash at its start stays. BadPattern."""
        return cls(tuple(read_pattern(text, number) for number, text in enumerate(texts, 1) if trimmed(text)), "--exclude")

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
                return cls.parse(candidate.read_bytes().decode("utf-8", "surrogateescape"), candidate.name)
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


def _normal(line: str) -> str:
    """A line of a file as the pattern that it stands for: relative to the context's root, whether it brings back or not."""
    text = trimmed(line)
    exception = text.startswith("!")
    text = trimmed(text[1:]) if exception else text
    if text:
        text = clean(text)
        text = text[1:] if len(text) > 1 and text.startswith("/") else text
    return f"!{text}" if exception else text
