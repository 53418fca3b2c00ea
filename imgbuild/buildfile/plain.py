"""The plain Dockerfile that a Buildfile amounts to: INCLUDE resolved, and without what only imgbuild knows.

What is plain is listed here, so that whatever is not is found by itself. Lines that need no change stay as they are written.
"""

from __future__ import annotations

from imgbuild.buildfile.instructions import Buildfile, Copy, Flag, Instruction, Onbuild, Word
from imgbuild.buildfile.lexer import lex
from imgbuild.buildfile.lint import keyword, written
from imgbuild.buildfile.print import print_commented
from imgbuild.errors import Span
from imgbuild.hints import Iterable, Iterator
from imgbuild.light import re
from imgbuild.values import dataclass, replace

_FLAGS: dict[str, frozenset[str]] = {
    "FROM": frozenset({"platform"}),
    "RUN": frozenset({"mount", "network", "security", "device"}),
    "COPY": frozenset({"from", "chown", "chmod", "link", "parents", "exclude"}),
    "ADD": frozenset({"chown", "chmod", "link", "keep-git-dir", "checksum", "exclude", "unpack"}),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
}
"""The flags of BuildKit's Dockerfile."""

_PLAIN = frozenset({"ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "MAINTAINER", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"})
_PLAIN_INSTRUCTIONS = _PLAIN | _FLAGS.keys() | {"ONBUILD"}

_INSTEAD: dict[str, str] = {
    "RUN --memory": "docker build --memory bounds all steps",
    "RUN --memory-swap": "docker build --memory-swap bounds all steps",
    "RUN --cpus": "docker build --cpu-quota bounds all steps",
    "RUN --timeout": "write timeout TIME before the command",
    "RUN --retry": "write a loop around the command",
    "TEST": "write a stage that runs it, and build that as a target",
}
"""What comes near to it, for what has no equivalent."""

_LITERAL = re.compile(r"[^$'\"\\`*?\[\]]*[A-Za-z0-9][^$'\"\\`*?\[\]]*")
_LAST_LETTER = re.compile(r"[A-Za-z0-9](?=[^A-Za-z0-9]*$)")
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Loss:
    """Something that a Dockerfile can't say: ``RUN --timeout=1m``, or a whole instruction."""

    what: str
    span: Span
    instead: str = ""

    def __str__(self) -> str:
        return f"{self.what} has no equivalent in a Dockerfile" + (f": {self.instead}" if self.instead else "")


@dataclass(frozen=True, slots=True)
class Plain:
    """The text, in which bytes that were not UTF-8 are surrogates, and what was lost, in file order."""

    text: str
    losses: tuple[Loss, ...]


def plain_dockerfile(buildfile: Buildfile, text: bytes) -> Plain:
    """What the Buildfile, whose own text is given, amounts to. Raises where an included file's escape character can't be said."""
    lines = text.decode("utf-8", "surrogateescape").removeprefix("\ufeff").split("\n")
    losses: list[Loss] = []
    changed: dict[tuple[int, int], list[str]] = {_lines(span): [] for span in _includes(text, buildfile)}
    for item in written(buildfile):
        place = _top(item.span)
        included = place is not item.span
        made, lost = _plain(item)
        if included:
            changed[_lines(place)] += _printed(item, made, lost, buildfile.escape)
        elif made is not item:
            kept = _without(lines, item, made, lost) if made is not None else None
            notes = [f"# {loss}" for loss in lost]
            changed[_lines(place)] = [*notes, *kept] if kept is not None else _printed(item, made, lost, buildfile.escape, comments=False)
        losses += lost
    result: list[str] = []
    position = 0
    for (first, last), replacement in sorted(changed.items()):
        result += [*lines[position : first - 1], *replacement]
        position = last
    return Plain("\n".join([*result, *lines[position:]]), tuple(losses))


def _includes(text: bytes, buildfile: Buildfile) -> Iterator[Span]:
    """The INCLUDE lines of the Buildfile itself, those of empty files too."""
    if b"include" in text.lower():
        for line in lex(text, buildfile.source.name).lines:
            if line.text.split(None, 1)[0].upper() == "INCLUDE":
                yield line.whole


def _lines(span: Span) -> tuple[int, int]:
    return span.line, span.end_line


def _top(span: Span) -> Span:
    """The place in the Buildfile itself: of what is included, the line that includes it."""
    while span.source.included is not None:
        span = span.source.included
    return span


def _plain(item: Instruction) -> tuple[Instruction | None, list[Loss]]:
    """The instruction as a Dockerfile says it, itself if that is the same, None if it has none; and what is lost."""
    if isinstance(item, Onbuild):
        trigger, lost = _plain(item.trigger)
        if trigger is item.trigger:
            return item, []
        return (None if trigger is None else replace(item, trigger=trigger)), lost
    name = type(item).__name__.upper()
    if name not in _PLAIN_INSTRUCTIONS:
        return None, [Loss(keyword(item).upper(), item.span, _INSTEAD.get(name, ""))]
    known = _FLAGS.get(name, frozenset())
    extra = [flag for flag in item.flags if flag.name not in known]
    if not extra:
        return item, []
    kept = tuple(flag for flag in item.flags if flag.name in known)
    made: Instruction = replace(item, flags=kept)
    lost = []
    for flag in extra:
        if flag.name == "optional" and isinstance(made, Copy):
            if (flag.value or "true").lower() == "false":
                continue
            if (sources := _optional(made.sources)) is not None:
                made = replace(made, sources=sources)
                continue
        lost.append(Loss(f"{name} {_written(flag)}", flag.span, _INSTEAD.get(f"{name} --{flag.name}", "")))
    return made, lost


def _optional(sources: Iterable[Word]) -> tuple[Word, ...] | None:
    """The sources as patterns that match nothing else: a pattern may match nothing. None where one can't be written so."""
    found = []
    for source in sources:
        if _WILDCARD.search(source.text) is None:
            if _LITERAL.fullmatch(source.text) is None:
                return None
            source = replace(source, text=_LAST_LETTER.sub(lambda match: f"[{match.group()}]", source.text))
        found.append(source)
    return tuple(found)


def _written(flag: Flag) -> str:
    return f"--{flag.name}" if flag.value is None else f"--{flag.name}={flag.value}"


def _without(lines: list[str], item: Instruction, made: Instruction, lost: list[Loss]) -> list[str] | None:
    """The instruction's own lines without the flags that are lost; None where that is not all that is changed."""
    inner, other = (part.trigger if isinstance(part, Onbuild) else part for part in (item, made))
    gone = [loss.span for loss in lost if loss.span.column]
    if len(gone) != len(lost) or replace(inner, flags=other.flags) != other or len(inner.flags) - len(other.flags) != len(gone):
        return None
    found = lines[item.span.line - 1 : item.span.end_line]
    for span in reversed(gone):
        line = found[span.line - item.span.line]
        line = line[: span.column - 1] + line[span.end_column - 1 :].lstrip(" \t")
        if line.strip() == item.escape:
            del found[span.line - item.span.line]
        else:
            found[span.line - item.span.line] = line
    return found


def _printed(item: Instruction, made: Instruction | None, lost: list[Loss], escape: str, comments: bool = True) -> list[str]:
    """The lines that stand for an instruction: what is lost, then what remains of it, or its own lines as comments."""
    notes = [f"# {loss}" for loss in lost]
    if made is None:
        # An empty line after it, so that no line of it is taken for a comment on what follows.
        return [*notes, *(f"# {line}" for line in item.span.source.lines[item.span.line - 1 : item.span.end_line]), ""]
    if not comments:
        made = replace(made, comments=())
    printed = print_commented(made, escape).removesuffix("\n").split("\n")
    apart = [""] if made.comments else []  # so that the first of them is not taken for a directive
    return [*apart, *notes, *printed]
