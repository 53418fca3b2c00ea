"""Text to a `Buildfile`: the instructions gathered into stages."""

from __future__ import annotations

from imgbuild.buildfile.frontend import check_directives
from imgbuild.buildfile.includes import IncludeReader, Includes
from imgbuild.buildfile.instructions import Arg, Buildfile, From, Include, Instruction, Maintainer, Onbuild, StageText
from imgbuild.buildfile.lexer import lex
from imgbuild.buildfile.statements import read_instruction
from imgbuild.errors import BuildfileError, Span


def parse(text: str | bytes, name: str, includes: Includes | None = None, *, any_frontend: bool = False) -> Buildfile:
    """The Buildfile that `text` is; `name` is what errors call it. Raises BuildfileError, with its place. With `any_frontend`
    its ``syntax`` directive does not matter."""
    lexed = lex(text, name)
    if not any_frontend:
        check_directives(lexed.directives)
    global_args: list[Arg] = []
    origin: From | None = None
    body: list[Instruction] = []
    stages: list[StageText] = []
    for instruction in IncludeReader(includes).instructions(lexed):
        if isinstance(instruction, From):
            if origin is not None:
                stages.append(StageText(origin, tuple(body)))
            origin, body = instruction, []
        elif origin is not None:
            body.append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            keyword = instruction.text.split(None, 1)[0]
            raise BuildfileError(f"{keyword} before the first FROM", at=instruction.span, hint="only ARG may stand before FROM")
    if origin is None:
        last = max(1, len(lexed.source.lines))
        what = "has no FROM" if global_args else "has no instructions"
        raise BuildfileError(f"{name} {what}", at=Span(lexed.source, last, last), hint="begin a stage: FROM image")
    stages.append(StageText(origin, tuple(body)))
    return Buildfile(lexed.source, lexed.directives, tuple(global_args), tuple(stages), lexed.escape)


def parse_trigger(text: str, name: str) -> Instruction:
    """One ONBUILD trigger, as a base image's config holds it."""
    lexed = lex(text, name)
    if len(lexed.lines) != 1:
        at = lexed.lines[1].whole if lexed.lines else None
        raise BuildfileError("an ONBUILD trigger is one instruction", at=at)
    (line,) = lexed.lines
    instruction = read_instruction(line, lexed.escape)
    if isinstance(instruction, From | Include | Maintainer | Onbuild):
        raise BuildfileError(f"{type(instruction).__name__.upper()} can't be a trigger of ONBUILD", at=line.whole)
    return instruction
