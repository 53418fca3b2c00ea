"""A Buildfile as text again: what it prints is parsed to the same meaning (places and layout differ).

Text that was not UTF-8 is printed as surrogates: encode it with ``surrogateescape``.
"""

from __future__ import annotations

from typing import Any

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.words import SPACE, SPACE_CLASS, json_words
from imgbuild.errors import BuildfileError, UnsupportedError
from imgbuild.hints import Callable, Sequence
from imgbuild.light import json, re
from imgbuild.values import fields

_QUOTED_IN_FLAGS = re.compile(rf"[{SPACE_CLASS}'\"\\]")
_QUOTED_BESIDE_HEREDOCS = re.compile(rf"[{SPACE_CLASS}'\"\\$]")
_ESCAPES = ("\\", "`")


def print_buildfile(buildfile: ast.Buildfile) -> str:
    """The text of a whole Buildfile, comments above instructions and the instructions of included files among it. Raises
    for an instruction of an included file whose own escape character can't be said in this one."""
    parts = [f"# {directive.name}={directive.value}\n" for directive in buildfile.directives]
    written: list[ast.Instruction] = [*buildfile.global_args]
    for stage in buildfile.stages:
        written += [stage.origin, *stage.instructions]
    for instruction in written:
        first = instruction is written[0]
        if (first or isinstance(instruction, ast.From)) and (parts or instruction.comments):
            parts.append("\n")  # before the first one: so that a comment is not taken for a directive
        parts.append(print_commented(instruction, buildfile.escape))
    return "".join(parts)


def print_instruction(instruction: ast.Instruction, escape: str = "\\") -> str:
    """One instruction with its heredocs, without a newline at the end."""
    found = _heredocs(instruction)
    line = _line(instruction)
    stripped = line.rstrip(" \t")
    if stripped.endswith(escape) and not stripped.endswith(escape + escape):
        line += "\v"  # a blank that does not let the line continue
    return "\n".join([line, *(heredoc.raw for heredoc in found)])


def print_commented(instruction: ast.Instruction, escape: str) -> str:
    """One instruction with the comments above it, for a file with that escape character. Raises where it can't be said with it."""
    if instruction.escape != escape and _has_escapes(instruction):
        raise UnsupportedError(
            f"this instruction's escape character is {instruction.escape}, but that of the file that includes it is {escape}",
            at=instruction.span,
            hint=f"begin the included file with: # escape={escape}",
        )
    comments = "".join(f"# {comment}\n" for comment in instruction.comments)
    return f"{comments}{print_instruction(instruction, escape)}\n"


def _has_escapes(value: object) -> bool:
    """Whether what the value says depends on the escape character: a word or a flag with one in it."""
    match value:
        case ast.Word(text=text) | ast.Flag(value=str(text)):
            return any(escape in text for escape in _ESCAPES)
        case ast.Heredoc():
            return value.expand and any(escape in value.content for escape in _ESCAPES)
        case ast.Run():
            return _has_escapes(value.flags)
        case ast.Instruction():
            return any(_has_escapes(getattr(value, item.name)) for item in fields(value))
        case tuple():
            return any(_has_escapes(item) for item in value)
    return False


def _heredocs(instruction: ast.Instruction) -> tuple[ast.Heredoc, ...]:
    match instruction:
        case ast.Onbuild():
            return _heredocs(instruction.trigger)
        case ast.Run():
            return instruction.command.heredocs
        case ast.Copy():
            return instruction.heredocs
    return ()


def _line(instruction: ast.Instruction) -> str:
    name = type(instruction).__name__.upper()
    quoted = _QUOTED_BESIDE_HEREDOCS if _heredocs(instruction) else _QUOTED_IN_FLAGS
    flags = [_flag(flag, quoted) for flag in instruction.flags]
    arguments = _PRINTERS[type(instruction)](instruction)
    if arguments.startswith("--"):
        flags.append("--")
    return " ".join([name, *flags, arguments]) if arguments else " ".join([name, *flags])


def _flag(flag: ast.Flag, quoted: re.Pattern[str]) -> str:
    text = f"--{flag.name}" if flag.value is None else f"--{flag.name}={flag.value}"
    return quoted.sub(lambda match: f"\\{match.group()}", text)


def _from(origin: ast.From) -> str:
    if origin.alias is None:
        return origin.image.text
    return f"{origin.image.text} AS {origin.alias_word.text if origin.alias_word else origin.alias}"


def _json(words: Sequence[str]) -> str:
    return json.dumps(list(words), ensure_ascii=False)


def _command(command: ast.Command) -> str:
    return command.line or "" if command.words is None else _json(command.words)


def _list(words: Sequence[str]) -> str:
    plain = " ".join(words)
    if any(not word or any(character in SPACE for character in word) or "<<" in word for word in words):
        return _json(words)
    try:
        return plain if json_words(plain) is None else _json(words)
    except BuildfileError:
        return _json(words)


def _copy(copy: ast.Copy) -> str:
    words = [source.text for source in copy.sources] + [copy.destination.text]
    if not copy.heredocs:
        return _list(words)
    return " ".join([heredoc.word or _opener(heredoc) for heredoc in copy.heredocs] + words)


def _opener(heredoc: ast.Heredoc) -> str:
    """The word that opens a heredoc that was not read from a text."""
    fd = "" if heredoc.fd is None else str(heredoc.fd)
    name = heredoc.name if heredoc.expand else f"'{heredoc.name}'"
    return f"{fd}<<{'-' if heredoc.strip_tabs else ''}{name}"


def _pairs(instruction: ast.Env | ast.Label) -> str:
    if instruction.legacy:
        ((name, value),) = instruction.pairs
        return f"{name.text}{'  ' if name.text.endswith(_ESCAPES) else ' '}{value.text}"  # an escape would take a single blank
    return " ".join(f"{name.text}={value.text}" for name, value in instruction.pairs)


def _arg(arg: ast.Arg) -> str:
    return " ".join(name.text if value is None else f"{name.text}={value.text}" for name, value in arg.pairs)


def _healthcheck(healthcheck: ast.Healthcheck) -> str:
    return "NONE" if healthcheck.command is None else f"CMD {_command(healthcheck.command)}"


_PRINTERS: dict[type[ast.Instruction], Callable[[Any], str]] = {
    ast.Add: _copy,
    ast.Arg: _arg,
    ast.Cmd: lambda i: _command(i.command),
    ast.Copy: _copy,
    ast.Entrypoint: lambda i: _command(i.command),
    ast.Env: _pairs,
    ast.Expose: lambda i: " ".join(port.text for port in i.ports),
    ast.From: _from,
    ast.Healthcheck: _healthcheck,
    ast.Include: lambda i: i.path.text,
    ast.Label: _pairs,
    ast.Maintainer: lambda i: i.name.text,
    ast.Onbuild: lambda i: _line(i.trigger),
    ast.Run: lambda i: _command(i.command),
    ast.Shell: lambda i: _json(i.words),
    ast.Test: lambda i: _command(i.command),
    ast.Stopsignal: lambda i: i.signal.text,
    ast.User: lambda i: i.user.text,
    ast.Volume: lambda i: _list([path.text for path in i.paths]),
    ast.Workdir: lambda i: i.path.text,
}
