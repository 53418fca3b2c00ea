"""One logical line to one instruction: the arguments of each.

What BuildKit's parser and instructions packages accept is accepted; their refusals are refused, in our words.
"""

from __future__ import annotations

from imgbuild.buildfile import heredocs
from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.flags import read_flags
from imgbuild.buildfile.lexer import LogicalLine
from imgbuild.buildfile.mounts import split_mount
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.buildfile.words import (
    BLANKS,
    SPACE,
    SPACE_CLASS,
    Slice,
    Split,
    blank_words,
    json_words,
    quoted_words,
    split_command,
    words_with_heredocs,
)
from imgbuild.errors import BuildfileError, Span
from imgbuild.hints import Callable, TypedDict
from imgbuild.patterns import pattern
from imgbuild.values import dataclass, replace

_STAGE_NAME = pattern(r"[a-z][a-z0-9-_.]*")
_FIRST_WORD = pattern(f"([^{SPACE_CLASS}]*)[{SPACE_CLASS}]*")
_FIRST_BLANKS = pattern(rf"[{BLANKS}]+")
_NO_TRIGGERS = ("ONBUILD", "FROM", "MAINTAINER", "INCLUDE", "TEST")


class _Common(TypedDict):
    span: Span
    text: str
    flags: tuple[ast.Flag, ...]
    comments: tuple[str, ...]
    blank_inside: bool
    escape: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A logical line (or the trigger within one), split; what the readers below work on."""

    line: LogicalLine
    escape: str
    split: Split
    name: str
    flags: tuple[ast.Flag, ...]

    @property
    def common(self) -> _Common:
        line = self.line
        text = line.text[self.split.keyword.start :].rstrip(SPACE)
        return {
            "span": line.whole,
            "text": text,
            "flags": self.flags,
            "comments": line.comments,
            "blank_inside": line.blank_inside,
            "escape": self.escape,
        }

    @property
    def rest(self) -> Slice:
        return self.split.rest

    def word(self, part: Slice) -> ast.Word:
        return ast.Word(part.text, self.line.span(part.start, part.end))

    def fault(self, message: str, hint: str | None = None, part: Slice | None = None) -> BuildfileError:
        part = part or (self.rest if self.rest.text else self.split.keyword)
        return BuildfileError(message, at=self.line.span(part.start, part.end), hint=hint)

    def json(self, part: Slice) -> tuple[str, ...] | None:
        try:
            words = json_words(part.text)
        except BuildfileError as error:
            raise error.located(self.line.span(part.start, part.end)) from None
        if words is not None and any("\0" in word for word in words):
            raise self.fault("a NUL byte in a JSON form", part=part)
        return words

    def only(self) -> ast.Word:
        """The whole rest of the line as the one argument."""
        if not self.rest.text:
            raise self.fault(f"{self.name} needs an argument")
        return self.word(self.rest)


def read_instruction(line: LogicalLine, escape: str, start: int = 0) -> ast.Instruction:
    """The instruction that begins at `start` of the line."""
    split = split_command(line.text, start)
    name = split.keyword.text.upper()
    at = line.span(split.keyword.start, split.keyword.end)
    if not name:
        raise BuildfileError("a continued line with no instruction", at=line.whole)
    reader = _READERS.get(name)
    if reader is None:
        hint = did_you_mean(name, _READERS) or "an instruction stands at the beginning of a line; end the line before with \\ to go on"
        raise BuildfileError(f"unknown instruction {_shortened(split.keyword.text)}", at=at, hint=hint)
    # BuildKit does not look at the flags of these two.
    ignored = name == "STOPSIGNAL" or (name == "HEALTHCHECK" and split.rest.text.upper() == "NONE")
    flags = () if ignored else read_flags(name, split.flags, line.span)
    return reader(Statement(line, escape, split, name, flags))


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "..."


def _from(s: Statement) -> ast.From:
    words = blank_words(s.rest)
    if len(words) == 1:
        return ast.From(image=s.word(words[0]), alias=None, **s.common)
    if len(words) != 3 or words[1].text.lower() != "as":
        raise s.fault("FROM takes one image, and a name after AS", hint="write FROM image AS name")
    alias = words[2].text.lower()
    if _STAGE_NAME.fullmatch(alias) is None:
        raise s.fault(
            f"'{words[2].text}' can't be the name of a stage",
            hint="a name begins with a letter and holds letters, digits, '-', '_' and '.'",
            part=words[2],
        )
    return ast.From(image=s.word(words[0]), alias=alias, alias_word=s.word(words[2]), **s.common)


def _command(s: Statement, part: Slice) -> ast.Command:
    words = s.json(part)
    if words is not None:
        return ast.Command(words, None)
    script = len(s.line.heredocs) == 1 and heredocs.is_opener(part.text)
    return ast.Command(None, part.text, s.line.heredocs, script)


def _run(s: Statement) -> ast.Run:
    mounts = tuple(split_mount(flag) for flag in s.flags if flag.name == "mount")
    return ast.Run(command=_command(s, s.rest), mounts=mounts, **s.common)


def _test(s: Statement) -> ast.Test:
    mounts = tuple(split_mount(flag) for flag in s.flags if flag.name == "mount")
    return ast.Test(command=_command(s, s.rest), mounts=mounts, **s.common)


def _cmd(s: Statement) -> ast.Cmd:
    return ast.Cmd(command=_command(s, s.rest), **s.common)


def _entrypoint(s: Statement) -> ast.Entrypoint:
    return ast.Entrypoint(command=_command(s, s.rest), **s.common)


def _shell(s: Statement) -> ast.Shell:
    words = s.json(s.rest)
    if not words:
        raise s.fault("SHELL takes a JSON form", hint='write SHELL ["executable", "argument"], with \\\\ for a backslash')
    return ast.Shell(words=words, **s.common)


def _copy(s: Statement) -> ast.Copy:
    sources, destination, found = _copied(s)
    return ast.Copy(sources=sources, destination=destination, heredocs=found, **s.common)


def _add(s: Statement) -> ast.Add:
    sources, destination, found = _copied(s)
    return ast.Add(sources=sources, destination=destination, heredocs=found, **s.common)


def _copied(s: Statement) -> tuple[tuple[ast.Word, ...], ast.Word, tuple[ast.Heredoc, ...]]:
    strings = s.json(s.rest)
    if strings is not None:
        at = s.line.span(s.rest.start, s.rest.end)
        words = [ast.Word(text, at) for text in strings]
    else:
        split = words_with_heredocs if s.line.heredocs else blank_words
        words = [s.word(part) for part in split(s.rest)]
    if len(words) < 2:
        raise s.fault(f"{s.name} needs a source and a destination", hint=f"write {s.name} SOURCE DESTINATION")
    if strings is not None:
        return tuple(words[:-1]), words[-1], ()
    if heredocs.is_opener(words[-1].text):
        raise BuildfileError("a heredoc can't be the destination", at=words[-1].span, hint=f"write {s.name} <<NAME /path")
    by_name = {heredoc.name: heredoc for heredoc in s.line.heredocs}
    sources, found = [], []
    for word in words[:-1]:
        opener = heredocs.read_opener(word.text) if heredocs.is_opener(word.text) else None
        if opener is None:
            sources.append(word)
        elif opener.name in by_name:
            found.append(by_name[opener.name])
        else:
            raise BuildfileError(
                f"the heredoc '{opener.name}' is not opened", at=word.span, hint="a quote or variable of the line is wrong"
            )
    used = {heredoc.name for heredoc in found}
    for heredoc in s.line.heredocs:
        if heredoc.name not in used:  # its word was split at a blank that only a heredoc's word knows
            raise BuildfileError(f"the heredoc '{heredoc.name}' is no source", at=heredoc.span, hint="put plain blanks around it")
    return tuple(sources), words[-1], tuple(found)


def _pairs(s: Statement) -> tuple[tuple[tuple[ast.Word, ast.Word], ...], bool]:
    """The pairs of ENV or LABEL, and whether they are in the form ``NAME VALUE``."""
    words = quoted_words(s.rest, s.escape)
    if not words:
        raise s.fault(f"{s.name} needs a name and a value", hint=f"write {s.name} NAME=VALUE")
    if "=" not in words[0].text:
        blanks = _FIRST_BLANKS.search(s.rest.text)
        if blanks is None:
            raise s.fault(f"{s.name} {_shortened(s.rest.text)} has no value", hint=f"write {s.name} NAME=VALUE")
        start, end = s.rest.start, s.rest.end
        name = Slice(s.rest.text[: blanks.start()], start, start + blanks.start())
        value = Slice(s.rest.text[blanks.end() :], start + blanks.end(), end)
        return ((s.word(name), s.word(value)),), True
    pairs = []
    for word in words:
        left, right = _pair(s, word)
        if right is None:
            raise s.fault(
                f"'{_shortened(word.text)}' has no '='", hint="write NAME=VALUE, with a value that has spaces in quotes", part=word
            )
        pairs.append((s.word(left), s.word(right)))
    return tuple(pairs), False


def _pair(s: Statement, word: Slice) -> tuple[Slice, Slice | None]:
    name, equals, value = word.text.partition("=")
    if not name:
        raise s.fault(f"a blank name in {s.name}", part=word)
    if not equals:
        return word, None
    middle = word.start + len(name)
    return Slice(name, word.start, middle), Slice(value, middle + 1, word.end)


def _env(s: Statement) -> ast.Env:
    pairs, legacy = _pairs(s)
    return ast.Env(pairs=pairs, legacy=legacy, **s.common)


def _label(s: Statement) -> ast.Label:
    pairs, legacy = _pairs(s)
    return ast.Label(pairs=pairs, legacy=legacy, **s.common)


def _arg(s: Statement) -> ast.Arg:
    split = [_pair(s, word) for word in quoted_words(s.rest, s.escape)]
    if not split:
        raise s.fault("ARG needs a name", hint="write ARG NAME or ARG NAME=DEFAULT")
    pairs = tuple((s.word(name), None if value is None else s.word(value)) for name, value in split)
    return ast.Arg(pairs=pairs, **s.common)


def _workdir(s: Statement) -> ast.Workdir:
    return ast.Workdir(path=s.only(), **s.common)


def _user(s: Statement) -> ast.User:
    return ast.User(user=s.only(), **s.common)


def _stopsignal(s: Statement) -> ast.Stopsignal:
    return ast.Stopsignal(signal=s.only(), **s.common)


def _maintainer(s: Statement) -> ast.Maintainer:
    return ast.Maintainer(name=s.only(), **s.common)


def _expose(s: Statement) -> ast.Expose:
    ports = tuple(s.word(part) for part in blank_words(s.rest))
    if not ports:
        raise s.fault("EXPOSE needs a port")
    return ast.Expose(ports=ports, **s.common)


def _volume(s: Statement) -> ast.Volume:
    strings = s.json(s.rest)
    if strings is None:
        paths = tuple(replace(s.word(part), text=part.text.strip(SPACE)) for part in blank_words(s.rest))
    else:
        at = s.line.span(s.rest.start, s.rest.end)
        paths = tuple(ast.Word(text.strip(SPACE), at) for text in strings)
    if not paths:
        raise s.fault("VOLUME needs a path")
    if any(not path.text for path in paths):
        raise s.fault("a path of VOLUME is empty")
    return ast.Volume(paths=paths, **s.common)


def _healthcheck(s: Statement) -> ast.Healthcheck:
    match = _FIRST_WORD.match(s.rest.text)
    kind = match.group(1).upper() if match else ""
    if match is None or not kind:
        raise s.fault("HEALTHCHECK needs CMD or NONE", hint="write HEALTHCHECK CMD command, or HEALTHCHECK NONE")
    command = Slice(s.rest.text[match.end() :], s.rest.start + match.end(), s.rest.end)
    if kind == "NONE":
        if command.text:
            raise s.fault("HEALTHCHECK NONE takes no arguments", part=command)
        return ast.Healthcheck(command=None, **s.common)
    if kind != "CMD":
        word = Slice(match.group(1), s.rest.start, s.rest.start + match.end(1))
        hint = did_you_mean(kind, ("CMD", "NONE")) or "write HEALTHCHECK CMD command"
        raise s.fault(f"unknown kind {_shortened(match.group(1))} of HEALTHCHECK", hint=hint, part=word)
    if not command.text or s.json(command) == ():
        raise s.fault("HEALTHCHECK CMD needs a command")
    return ast.Healthcheck(command=_command(s, command), **s.common)


def _include(s: Statement) -> ast.Include:
    return ast.Include(path=s.only(), **s.common)


def _onbuild(s: Statement) -> ast.Onbuild:
    if not s.rest.text:
        raise s.fault("ONBUILD needs an instruction")
    inner = split_command(s.line.text, s.rest.start)
    name = inner.keyword.text.upper()
    if name in _NO_TRIGGERS:
        raise s.fault(f"{name} can't be a trigger of ONBUILD", part=inner.keyword)
    text = s.line.text[s.rest.start :]
    text += "".join(f"\n{heredoc.raw}" for heredoc in s.line.heredocs)
    trigger = read_instruction(s.line, s.escape, s.rest.start)
    return ast.Onbuild(trigger=trigger, trigger_text=text, **s.common)


_READERS: dict[str, Callable[[Statement], ast.Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "INCLUDE": _include,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "TEST": _test,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
