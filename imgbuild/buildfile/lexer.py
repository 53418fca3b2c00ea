"""Text to directives and logical lines: bytes, line ends, comments, continuations and heredocs.

As in BuildKit's parser, directives stand only at the very head; a comment or an empty line does not end a continuation;
a heredoc's text begins on the line after its instruction's last.
"""

from __future__ import annotations

from bisect import bisect_right

from imgbuild.buildfile import heredocs
from imgbuild.buildfile.instructions import Directive, Heredoc
from imgbuild.buildfile.words import SPACE, SPACE_CLASS, replace_surrogates
from imgbuild.errors import BuildfileError, Source, Span
from imgbuild.hints import Iterator
from imgbuild.patterns import pattern
from imgbuild.values import dataclass, replace

DIRECTIVES = ("syntax", "escape", "check")
"""What a directive can be about."""

_DIRECTIVE = pattern(f"#[{SPACE_CLASS}]*([a-zA-Z][a-zA-Z0-9]*)[{SPACE_CLASS}]*=[{SPACE_CLASS}]*")
_ESCAPES = ("\\", "`")


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """An instruction's text with its continuations joined, the physical place of each piece of it (offset, line, column),
    its last physical line with heredocs, and the comments just above it."""

    source: Source
    text: str
    pieces: tuple[tuple[int, int, int], ...]
    line: int
    end_line: int
    comments: tuple[str, ...] = ()
    blank_inside: bool = False
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def whole(self) -> Span:
        return Span(self.source, self.line, self.end_line)

    def span(self, start: int, end: int) -> Span:
        """The place of text[start:end]; with columns if it is on one physical line."""
        line, column = self._place(start)
        last_line, last_column = self._place(max(start, end - 1))
        if line != last_line:
            return Span(self.source, line, last_line)
        return Span(self.source, line, line, column, last_column + 1)

    def _place(self, offset: int) -> tuple[int, int]:
        pieces = self.pieces
        begin, line, column = pieces[0] if len(pieces) == 1 else pieces[bisect_right(pieces, (offset, 1 << 62, 0)) - 1]
        return line, column + offset - begin


@dataclass(frozen=True, slots=True)
class Lexed:
    source: Source
    directives: tuple[Directive, ...]
    escape: str
    lines: tuple[LogicalLine, ...]


def lex(text: str | bytes, name: str, included: Span | None = None) -> Lexed:
    """The logical lines of a Buildfile, or of a file that the line `included` names; bytes that are not UTF-8 stay, as surrogates, in
    comments and heredocs only."""
    decoded = _decoded(text, name)
    physical = decoded.split("\n")
    if not physical[-1]:
        physical.pop()
    source = Source(name, tuple(replace_surrogates(line.rstrip("\r")) for line in physical), included)
    directives, escape, start = _directives(physical, source)
    lines = tuple(_logical_lines(physical, start, source, escape))
    return Lexed(source, directives, escape, lines)


def directive_in(line: str) -> tuple[str, str] | None:
    """The name, in lower case, and the value of ``# name=value``; None for any other line."""
    line = line.lstrip(SPACE)
    match = _DIRECTIVE.match(line)
    value = line[match.end() :].rstrip(SPACE) if match else ""
    return (match.group(1).lower(), value) if match is not None and value else None


def _decoded(text: str | bytes, name: str) -> str:
    if isinstance(text, bytes):
        if text.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise BuildfileError(f"{name} is UTF-16, not UTF-8", hint="save it as UTF-8")
        text = text.decode("utf-8", "surrogateescape")
    return text.removeprefix("\ufeff")


def _directives(physical: list[str], source: Source) -> tuple[tuple[Directive, ...], str, int]:
    """The directives, the escape character, and the index of the first line after them."""
    found: dict[str, Directive] = {}
    index = 1 if physical and physical[0].startswith("#!") else 0
    while index < len(physical):
        written = physical[index].rstrip("\r")
        line = written.lstrip(SPACE)
        match = _DIRECTIVE.match(line)
        value = line[match.end() :].rstrip(SPACE) if match else ""
        if match is None or not value or match.group(1).lower() not in DIRECTIVES:
            break
        name = match.group(1).lower()
        indent = len(written) - len(line)
        span = Span(source, index + 1, index + 1, indent + match.start(1) + 1, indent + match.end() + len(value) + 1)
        if name in found:
            raise BuildfileError(f"a second '{name}' directive", at=span, hint=f"the first is on line {found[name].span.line}")
        if name == "escape" and value not in _ESCAPES:
            raise BuildfileError(f"'{value}' can't be the escape character", at=span, hint="it is either \\ or `")
        found[name] = Directive(name, value, span)
        index += 1
    escape = found["escape"].value if "escape" in found else "\\"
    return tuple(found.values()), escape, index


def _logical_lines(physical: list[str], index: int, source: Source, escape: str) -> Iterator[LogicalLine]:
    comments: list[str] = []
    while index < len(physical):
        written = physical[index].rstrip("\r")
        line = written.lstrip(SPACE)
        index += 1
        if line.startswith("#"):
            comment = line[1:].strip(SPACE)
            if comment:
                comments.append(comment)
            else:
                comments.clear()
            continue
        if not line:
            comments.clear()
            continue
        first = index
        pieces, offset, blank = [(0, index, len(written) - len(line) + 1)], 0, False
        texts: list[str] = []
        while (kept := _continued(line, escape)) is not None:
            texts.append(kept)
            offset += len(kept)
            found, skipped, index = _continuation(physical, index)
            blank = blank or skipped
            if found is None:
                line = ""
                break
            line = found
            pieces.append((offset, index, 1))
        texts.append(line)
        logical = LogicalLine(source, "".join(texts), tuple(pieces), first, index, tuple(comments), blank)
        logical = _of_characters(logical)
        comments.clear()
        if "<<" in logical.text:
            logical, index = _with_heredocs(logical, physical, index)
        yield logical


def _continued(line: str, escape: str) -> str | None:
    """The line without the escape that continues it, or None. Two escapes are none."""
    stripped = line.rstrip(" \t")
    if not stripped.endswith(escape) or stripped.endswith(escape + escape):
        return None
    return stripped[:-1]


def _continuation(physical: list[str], index: int) -> tuple[str | None, bool, int]:
    """The next line that continues, whether an empty one was skipped, and the index after it."""
    blank = False
    while index < len(physical):
        line = physical[index].rstrip("\r")
        index += 1
        start = line.lstrip(SPACE)
        if start and not start.startswith("#"):
            return line, blank, index
        blank = blank or not start
    return None, blank, index


def _with_heredocs(logical: LogicalLine, physical: list[str], index: int) -> tuple[LogicalLine, int]:
    """The line with its heredocs, if it has any, and the index of the line after them."""
    found: list[Heredoc] = []
    search = 0
    for opener in heredocs.openers(logical.text):
        at = logical.text.find(opener.word, search)
        start = max(at, 0)
        search = start + len(opener.word)
        span = logical.span(start, search)
        end = _terminator(opener, physical, index)
        if end is None and opener.may_be_shift:
            continue
        if end is None:
            hint = f"a line that holds only {opener.name} must follow it"
            raise BuildfileError(f"the heredoc '{opener.name}' does not end", at=span, hint=hint)
        found.append(opener.heredoc("".join(f"{line}\n" for line in physical[index:end]), span))
        index = end + 1
    if not found:
        return logical, index
    return replace(logical, end_line=index, heredocs=tuple(found)), index


def _terminator(opener: heredocs.Opener, physical: list[str], index: int) -> int | None:
    """The index of the line that ends the heredoc, None if none does."""
    for number in range(index, len(physical)):
        line = physical[number].rstrip("\r")
        if (line.lstrip("\t") if opener.strip_tabs else line) == opener.name:
            return number
    return None


def _of_characters(logical: LogicalLine) -> LogicalLine:
    """The line, if it is text. Names of people were long written in other encodings: in what only describes the image, a byte
    that is not UTF-8 becomes U+FFFD, as in BuildKit."""
    nul = logical.text.find("\0")
    if nul >= 0:
        raise BuildfileError("a NUL byte in an instruction", at=logical.span(nul, nul + 1))
    if logical.text.isascii():
        return logical
    try:
        logical.text.encode()
    except UnicodeEncodeError as error:
        if logical.text.split(None, 1)[0].upper() in ("MAINTAINER", "LABEL"):
            return replace(logical, text=replace_surrogates(logical.text))
        at = logical.span(error.start, error.start + 1)
        raise BuildfileError("a byte that is not UTF-8 in an instruction", at=at, hint="save the file as UTF-8") from None
    return logical
