"""The rules of lint that need the file alone: how it is written, and what its stages are called."""

from __future__ import annotations

from imgbuild.buildfile import rules
from imgbuild.buildfile.instructions import Arg, Buildfile, Copy, From, Heredoc, Instruction, Maintainer, Onbuild, Run
from imgbuild.buildfile.lexer import DIRECTIVES, directive_in
from imgbuild.buildfile.rules import Linter
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.buildfile.words import blank_words, split_command
from imgbuild.errors import Span
from imgbuild.hints import Iterator

_RESERVED = ("context", "scratch")


def lint_text(buildfile: Buildfile, linter: Linter) -> None:
    """Check the whole file."""
    stages: dict[str, None] = {}
    for item in written(buildfile):
        _check_lines(item, linter)
        if isinstance(item, From):
            _check_from(item, linter)
            _check_stage_name(item, stages, linter)
            if item.alias:
                _check_description(item, "FROM", [item.alias], linter)
        elif isinstance(item, Arg):
            _check_description(item, "ARG", [name.text for name, _ in item.pairs], linter)
        elif isinstance(item, Maintainer):
            linter.warn(
                rules.MAINTAINER_DEPRECATED, "Maintainer instruction is deprecated in favor of using label", item.span, item.comments
            )
    _check_casing(buildfile, linter)


def written(buildfile: Buildfile) -> Iterator[Instruction]:
    """All instructions in file order."""
    yield from buildfile.global_args
    for stage in buildfile.stages:
        yield stage.origin
        yield from stage.instructions


def misspelt_directive(buildfile: Buildfile) -> tuple[Span, str] | None:
    """The first line that would be a directive, were its name not nearly that of one, and the name that was meant. It is a comment,
    and ends the directives."""
    first = 1 if buildfile.source.lines[:1] and buildfile.source.lines[0].startswith("#!") else 0
    for number, line in enumerate(buildfile.source.lines[first:], first + 1):
        found = directive_in(line)
        if found is None or found[0] not in DIRECTIVES:
            near = did_you_mean(found[0], DIRECTIVES) if found is not None else None
            return (Span(buildfile.source, number, number), near) if near is not None else None
    return None


def keyword(item: Instruction) -> str:
    """The instruction's name as it is written."""
    return split_command(item.text).keyword.text


def described(item: Instruction, name: str) -> str:
    """What the comments just above the instruction say of `name`: the rest of the line that begins with it."""
    for comment in item.comments:
        if name and comment.startswith(f"{name} "):
            return comment[len(name) + 1 :]
    return ""


def _check_lines(item: Instruction, linter: Linter) -> None:
    if item.blank_inside:
        last = item.span.end_line - sum(document.raw.count("\n") + 1 for document in _heredocs(item))
        span = Span(item.span.source, last, last)
        linter.warn(rules.NO_EMPTY_CONTINUATION, "Empty continuation line", span, item.comments)


def _heredocs(item: Instruction) -> tuple[Heredoc, ...]:
    inner = item.trigger if isinstance(item, Onbuild) else item
    if isinstance(inner, Run):
        return inner.command.heredocs
    return inner.heredocs if isinstance(inner, Copy) else ()


def _check_from(item: From, linter: Linter) -> None:
    if item.alias_word is None:
        return
    name = item.alias_word.text
    if name != name.lower():
        linter.warn(rules.STAGE_NAME_CASING, f"Stage name '{name}' should be lowercase", item.span, item.comments)
    split = split_command(item.text)
    own, as_ = split.keyword.text, blank_words(split.rest)[1].text
    if (own == own.lower() and as_ != as_.lower()) or (own == own.upper() and as_ != as_.upper()):
        linter.warn(rules.FROM_AS_CASING, f"'{as_}' and '{own}' keywords' casing do not match", item.span, item.comments)


def _check_stage_name(item: From, seen: dict[str, None], linter: Linter) -> None:
    if not item.alias:
        return
    if item.alias in _RESERVED:
        message = f'Stage name should not use the same name as reserved stage "{item.alias}"'
        linter.warn(rules.RESERVED_STAGE_NAME, message, item.span, item.comments)
    if item.alias in seen:
        message = f'Duplicate stage name "{item.alias}", stage names should be unique'
        linter.warn(rules.DUPLICATE_STAGE_NAME, message, item.span, item.comments)
    seen[item.alias] = None


def _check_description(item: Instruction, name: str, keys: list[str], linter: Linter) -> None:
    if not item.comments or not keys or item.comments[-1].split(" ")[0] in keys:
        return
    example = keys[0] if len(keys) == 1 else "<arg_key>"
    message = f"Comment for {name} should follow the format: `# {example} <description>`"
    linter.warn(rules.INVALID_DEFINITION_DESCRIPTION, message, item.span, item.comments)


def _check_casing(buildfile: Buildfile, linter: Linter) -> None:
    """The minority's case is wrong; ARGs before the first FROM are neither counted nor checked."""
    found = [(keyword(item), item) for stage in buildfile.stages for item in (stage.origin, *stage.instructions)]
    lower = sum(name == name.lower() for name, _ in found)
    upper = sum(name == name.upper() for name, _ in found)
    case, wanted = ("lowercase", str.lower) if lower > upper else ("uppercase", str.upper)
    for name, item in found:
        if name != wanted(name):
            message = f"Command '{name}' should match the case of the command majority ({case})"
            linter.warn(rules.CONSISTENT_INSTRUCTION_CASING, message, item.span, item.comments)
