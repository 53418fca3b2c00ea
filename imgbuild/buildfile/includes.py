"""INCLUDE: the instructions of another file stand in the place of the line that names it.

A file is named relative to the one that includes it, and never above the top that the reader knows: the parser hands it
paths without ``..``. Every file has directives, and so an escape character, of its own; its lines know who included it.
"""

from __future__ import annotations

import posixpath

from imgbuild.buildfile.expand import expand_words, variables
from imgbuild.buildfile.frontend import check_directives
from imgbuild.buildfile.instructions import Include, Instruction
from imgbuild.buildfile.lexer import Lexed, lex
from imgbuild.buildfile.statements import read_instruction
from imgbuild.errors import BuildfileError
from imgbuild.hints import Callable, Iterator
from imgbuild.values import dataclass

DEEPEST = 16
MOST_FILES = 256


@dataclass(frozen=True, slots=True)
class Includes:
    """Where INCLUDE finds files: `place` is the Buildfile's own path below the top, "" if it has none; `read` gives, for such
    a path, the name that errors call the file by, and its bytes. It raises BuildfileError, without a place, for what can't be read."""

    read: Callable[[str], tuple[str, bytes]]
    place: str = "Buildfile"


class IncludeReader:
    """Reads the instructions of a text, those of included files among them."""

    def __init__(self, includes: Includes | None) -> None:
        self._includes = includes
        self._files = 0

    def instructions(self, lexed: Lexed) -> Iterator[Instruction]:
        """The instructions in order; none of them is an Include."""
        yield from self._instructions(lexed, (self._includes.place,) if self._includes else ())

    def _instructions(self, lexed: Lexed, places: tuple[str, ...]) -> Iterator[Instruction]:
        for line in lexed.lines:
            item = read_instruction(line, lexed.escape)
            if isinstance(item, Include):
                yield from self._instructions(*self._included(item, places))
            else:
                yield item

    def _included(self, item: Include, places: tuple[str, ...]) -> tuple[Lexed, tuple[str, ...]]:
        at = item.path.span
        if self._includes is None:
            raise BuildfileError("INCLUDE can't stand here", at=item.span)
        path = _path(item, places[-1])
        if path in places:
            raise BuildfileError(f"{path} includes itself: that is a cycle", at=at)
        if len(places) > DEEPEST:
            raise BuildfileError("files include each other too deeply", at=at, hint=f"at most {DEEPEST} files may stand within each other")
        self._files += 1
        if self._files > MOST_FILES:
            raise BuildfileError("too many files are included", at=at, hint=f"at most {MOST_FILES} in one build")
        try:
            name, text = self._includes.read(path)
            lexed = lex(text, name, included=item.span)
        except BuildfileError as error:
            raise error.located(at) from None
        check_directives(lexed.directives)
        return lexed, (*places, path)


def _path(item: Include, including: str) -> str:
    """The path that is meant, below the top."""
    written, at = item.path.text, item.path.span
    if variables(written, item.escape):
        raise BuildfileError("variables are not replaced in INCLUDE", at=at, hint="files are included before arguments are known")
    words = expand_words(written, {}, item.escape, at)
    if len(words) != 1:
        raise BuildfileError("INCLUDE takes one file", at=at, hint="write INCLUDE path, with a path that has spaces in quotes")
    path = words[0]
    if "://" in path:
        raise BuildfileError(f"INCLUDE reads files beside the Buildfile, not {path}", at=at, hint="fetch it first")
    if path.startswith("/"):
        raise BuildfileError(f"INCLUDE takes a relative path, not {path}", at=at, hint="relative to the file that it stands in")
    found = posixpath.normpath(posixpath.join(posixpath.dirname(including), path))
    if found == ".." or found.startswith("../"):
        raise BuildfileError(
            f"{path} is outside of the build context", at=at, hint="INCLUDE reads below the context, or beside a Buildfile outside of it"
        )
    return found
