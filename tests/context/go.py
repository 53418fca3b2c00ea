"""What Go's and moby's packages do with patterns, as slowly as it can be read: the oracle for ignore files and for COPY's wildcards.

From the documentation of path/filepath (Match, Clean), regexp/syntax, moby/patternmatcher and its ignorefile. It shares nothing with
imgbuild: no regular expressions of Python, but sets of places that a match may end at.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"


class Bad(Exception):
    """Go refuses the pattern."""


class Unread(Exception):
    """This oracle does not know what Go does."""


# path/filepath


def clean(path: str) -> str:
    if not path:
        return "."
    made = posixpath.normpath(path)
    return "/" + made.lstrip("/") if made.startswith("/") else made


def glob(pattern: str, name: str) -> bool:
    """filepath.Match; Bad for a malformed pattern, whether it comes to that or not."""
    tokens = list(_glob_tokens(pattern))
    places = {0}
    for kind, accepts in tokens:
        if kind == "*":
            reached = set()
            for place in places:
                reached.add(place)
                while place < len(name) and name[place] != "/":
                    place += 1
                    reached.add(place)
            places = reached
        else:
            places = {place + 1 for place in places if place < len(name) and accepts(name[place])}
    return len(name) in places


Accepts = Callable[[str], bool]


def _is(wanted: str) -> Accepts:
    return lambda character: character == wanted


def _nothing(character: str) -> bool:
    raise AssertionError(character)


def _glob_tokens(pattern: str) -> Iterable[tuple[str, Accepts]]:
    rest = list(pattern)
    while rest:
        character = rest.pop(0)
        if character == "*":
            yield "*", _nothing
        elif character == "?":
            yield "?", lambda character: character != "/"
        elif character == "[":
            yield "[", _glob_class(rest)
        elif character == "\\":
            if not rest:
                raise Bad("a lone backslash")
            yield "c", _is(rest.pop(0))
        else:
            yield "c", _is(character)


def _glob_class(rest: list[str]) -> Accepts:
    negated = rest[:1] == ["^"]
    if negated:
        rest.pop(0)
    ranges: list[tuple[str, str]] = []
    while not ranges or rest[:1] != ["]"]:
        low = high = _glob_member(rest)
        if rest[0] == "-":
            rest.pop(0)
            high = _glob_member(rest)
        ranges.append((low, high))
    rest.pop(0)
    return lambda character: any(low <= character <= high for low, high in ranges) != negated


def _glob_member(rest: list[str]) -> str:
    if not rest or rest[0] in "-]":
        raise Bad("a class without a member")
    character = rest.pop(0)
    if character == "\\":
        if not rest:
            raise Bad("a lone backslash")
        character = rest.pop(0)
    if not rest:
        raise Bad("a class without an end")
    return character


# regexp


@dataclass(frozen=True)
class Regexp:
    """A regular expression of Go, as far as patternmatcher can come to one."""

    ends: Callable[[str, int], set[int]]

    def search(self, text: str) -> bool:
        return any(self.ends(text, start) for start in range(len(text) + 1))


def compile_regexp(source: str) -> Regexp:
    rest = list(source)
    made = _alternatives(rest, inside=False)
    if rest:
        raise Bad("a parenthesis too many")
    return made


def _alternatives(rest: list[str], *, inside: bool) -> Regexp:
    branches = [_sequence(rest)]
    while rest and rest[0] == "|":
        rest.pop(0)
        branches.append(_sequence(rest))
    if inside:
        assert rest.pop(0) == ")"
    return Regexp(lambda text, start: set().union(*(branch.ends(text, start) for branch in branches)))


def _sequence(rest: list[str]) -> Regexp:
    parts: list[Regexp] = []
    repeated = False
    while rest and rest[0] not in "|)":
        character = rest.pop(0)
        bounds = {"*": (0, None), "?": (0, 1)}.get(character) or (_bounds(rest) if character == "{" else None)
        if bounds is not None:
            if not parts:
                raise Bad("nothing to repeat")
            if repeated:
                raise Bad("a repetition of a repetition")
            parts[-1] = _repeated(parts[-1], *bounds)
            repeated = True
            continue
        parts.append(_atom(character, rest))
        repeated = False

    def ends(text: str, start: int) -> set[int]:
        places = {start}
        for part in parts:
            places = set().union(*(part.ends(text, place) for place in places)) if places else set()
        return places

    return Regexp(ends)


def _bounds(rest: list[str]) -> tuple[int, int | None] | None:
    """What stands behind a brace, taken from the rest; None, and nothing taken, where the brace is a brace."""
    text = "".join(rest)
    inside, end, _ = text.partition("}")
    low, comma, high = inside.partition(",")
    numbers = [low] if not comma or not high else [low, high]
    if not end or not all(_is_number(number) for number in numbers):
        return None
    del rest[: len(inside) + 1]
    least = int(low)
    most = None if comma and not high else int(high or low)
    if least > 1000 or (most is not None and (most > 1000 or least > most)):
        raise Bad("a bad number of repetitions")
    return least, most


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or not text.startswith("0"))


def _repeated(part: Regexp, least: int, most: int | None) -> Regexp:
    def ends(text: str, start: int) -> set[int]:
        places = {start}
        found = {start} if least == 0 else set()
        count = 0
        while places and (most is None or count < most) and count <= least + len(text) + 1:
            places = set().union(*(part.ends(text, place) for place in places))
            count += 1
            if count >= least:
                found |= places
        return found

    return Regexp(ends)


def _atom(character: str, rest: list[str]) -> Regexp:
    if character == "(":
        return _alternatives(rest, inside=True)
    if character == "^":
        return Regexp(lambda text, start: {start} if start == 0 else set())
    if character == "$":
        return Regexp(lambda text, start: {start} if start == len(text) else set())
    if character == ".":
        return _one(lambda one: one != "\n")
    if character == "[":
        return _one(_class(rest))
    if character != "\\":
        return _one(_is(character))
    character = rest.pop(0)
    if character in "bB":
        at = character == "b"
        return Regexp(lambda text, start: {start} if (_word(text, start - 1) != _word(text, start)) == at else set())
    if character in "Az":
        return Regexp(lambda text, start: {start} if start == (0 if character == "A" else len(text)) else set())
    return _one(_kind(character) or _is(_plain(character)))


def _one(accepts: Accepts) -> Regexp:
    return Regexp(lambda text, start: {start + 1} if start < len(text) and accepts(text[start]) else set())


def _word(text: str, place: int) -> bool:
    return 0 <= place < len(text) and text[place].isascii() and (text[place].isalnum() or text[place] == "_")


def _kind(character: str) -> Accepts | None:
    kinds = {"d": "0123456789", "s": "\t\n\f\r ", "w": "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"}
    if character.lower() not in kinds:
        return None
    members = kinds[character.lower()]
    return lambda one: (one in members) == character.islower()


def _plain(character: str) -> str:
    """The character that is meant behind a backslash."""
    if character in "QEpPCx01234567":
        raise Unread(character)
    letters = {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
    if character in letters:
        return letters[character]
    if not character.isascii() or character.isalnum():
        raise Bad(f"an escape of {character}")
    return character


def _class(rest: list[str]) -> Accepts:
    negated = rest[:1] == ["^"]
    if negated:
        rest.pop(0)
    members: list[Accepts] = []
    while not members or rest[:1] != ["]"]:
        if "".join(rest[:2]) == "[:" and ":]" in "".join(rest):
            raise Unread("a named class")
        members.append(_class_member(rest))
    rest.pop(0)
    return lambda one: any(member(one) for member in members) != negated


def _class_member(rest: list[str]) -> Accepts:
    if not rest:
        raise Bad("a class without an end")
    low = rest.pop(0)
    if low == "\\":
        if not rest:
            raise Bad("a class without an end")
        low = rest.pop(0)
        kind = _kind(low)
        if kind is not None:
            if low.isupper():
                raise Unread("a kind that is none, in a class")
            return kind
        low = _plain(low)
    high = low
    if rest[:1] == ["-"] and rest[1:2] != ["]"]:
        rest.pop(0)
        if not rest:
            raise Bad("a class without an end")
        high = rest.pop(0)
        if high == "\\":
            if not rest:
                raise Bad("a class without an end")
            high = _plain(rest.pop(0))
    if high < low:
        raise Bad("a range the wrong way round")
    return lambda one: low <= one <= high


# moby/patternmatcher


def read_all(text: str) -> list[str]:
    """The patterns of an ignore file."""
    patterns = []
    for number, line in enumerate(text.split("\n")):
        line = line.removeprefix("\ufeff") if number == 0 else line
        if line.startswith("#") or not (line := line.strip(SPACES)):
            continue
        invert = line[0] == "!"
        line = line[1:].strip(SPACES) if invert else line
        if line:
            line = clean(line)
            line = line[1:] if len(line) > 1 and line[0] == "/" else line
        patterns.append("!" * invert + line)
    return patterns


class Pattern:
    """One pattern: `exception`, and what it matches."""

    def __init__(self, text: str) -> None:
        text = clean(text)
        self.exception = text[0] == "!"
        self.text = text[1:] if self.exception else text
        if not self.text:
            raise Bad("an exclamation mark alone")
        list(_glob_tokens(self.text))
        self._kind, regexp = self._read()
        self._regexp = compile_regexp(f"^{regexp}$") if self._kind == "regexp" else None

    def _read(self) -> tuple[str, str]:
        kind, out, first = "exact", "", True
        rest = list(self.text)
        while rest:
            character = rest.pop(0)
            if character == "*" and rest[:1] == ["*"]:
                rest.pop(0)
                if rest[:1] == ["/"]:
                    rest.pop(0)
                if rest:
                    out, kind = out + "(.*/)?", "regexp"
                elif kind == "exact":
                    kind = "prefix"
                else:
                    out, kind = out + ".*", "regexp"
                kind = "suffix" if first else kind
            elif character == "*":
                out, kind = out + "[^/]*", "regexp"
            elif character == "?":
                out, kind = out + "[^/]", "regexp"
            elif character in ".+()$":
                out += "\\" + character
            elif character == "\\":
                out, kind = out + "\\" + rest.pop(0), "regexp"
            else:
                out, kind = out + character, "regexp" if character in "[]" else kind
            first = False
        return kind, out

    def matches(self, path: str) -> bool:
        if self._regexp is not None:
            return self._regexp.search(path)
        if self._kind == "exact":
            return path == self.text
        if self._kind == "prefix":
            return path.startswith(self.text[:-2])
        suffix = self.text[2:]
        return path.endswith(suffix) or (suffix[0] == "/" and path == suffix[1:])


class Matcher:
    """The patterns of a file, or of --exclude, in order."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.patterns = [Pattern(text) for written in texts if (text := written.strip(SPACES))]

    def ignores(self, path: str) -> bool:
        names = path.split("/")
        above = [False] * len(self.patterns)
        ignored = False
        for depth in range(1, len(names) + 1):
            ignored, here = False, []
            for pattern, matched in zip(self.patterns, above, strict=True):
                if not matched and pattern.exception == ignored:
                    matched = pattern.matches("/".join(names[:depth]))
                here.append(matched)
                ignored = not pattern.exception if matched else ignored
            above = here
        return ignored
