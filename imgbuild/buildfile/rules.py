"""The rules of lint: their names, what each is about, and how a Buildfile chooses among them.

The names are those of ``docker build --check``, so that directives and pipelines that name them keep their meaning.
"""

from __future__ import annotations

from imgbuild.buildfile.instructions import Buildfile
from imgbuild.buildfile.lexer import directive_in
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.errors import BuildfileError, Span
from imgbuild.hints import Iterable
from imgbuild.values import dataclass

_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_OPTIONS = ("skip", "error", "experimental")
ARGUMENT = "BUILDKIT_DOCKERFILE_CHECK"
"""The build argument that takes the place of the directive."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of lint; an experimental one is checked only where it is asked for."""

    name: str
    description: str
    experimental: bool = False


@dataclass(frozen=True, slots=True)
class LintWarning:
    """What a rule found: `message` is about the lines of `span`."""

    rule: Rule
    message: str
    span: Span


STAGE_NAME_CASING = Rule("StageNameCasing", "Names of stages are lower-case")
FROM_AS_CASING = Rule("FromAsCasing", "AS is written in the case of its FROM")
NO_EMPTY_CONTINUATION = Rule("NoEmptyContinuation", "No empty line stands within a continued instruction")
CONSISTENT_INSTRUCTION_CASING = Rule("ConsistentInstructionCasing", "All instructions are written in one case, upper or lower")
DUPLICATE_STAGE_NAME = Rule("DuplicateStageName", "Each stage has a name of its own")
RESERVED_STAGE_NAME = Rule("ReservedStageName", "No stage has a name with a meaning of its own")
JSON_ARGS_RECOMMENDED = Rule("JSONArgsRecommended", "CMD and ENTRYPOINT are in JSON form, so that signals reach the program itself")
MAINTAINER_DEPRECATED = Rule("MaintainerDeprecated", "A label names the author, as MAINTAINER is deprecated")
UNDEFINED_ARG_IN_FROM = Rule("UndefinedArgInFrom", "What FROM uses is declared by an ARG before the first FROM")
WORKDIR_RELATIVE_PATH = Rule("WorkdirRelativePath", "The first WORKDIR is absolute, so that it does not depend on the base")
UNDEFINED_VAR = Rule("UndefinedVar", "A variable is defined before it is used")
MULTIPLE_INSTRUCTIONS = Rule("MultipleInstructionsDisallowed", "An instruction of which only the last counts stands once in a stage")
LEGACY_KEY_VALUE_FORMAT = Rule("LegacyKeyValueFormat", "ENV and LABEL are written with '='")
INVALID_BASE_IMAGE_PLATFORM = Rule("InvalidBaseImagePlatform", "A base is for the platform that is built for")
REDUNDANT_TARGET_PLATFORM = Rule("RedundantTargetPlatform", "FROM does not ask for the platform that is built for anyway")
SECRETS_USED_IN_ARG_OR_ENV = Rule("SecretsUsedInArgOrEnv", "No secret is passed by ARG or ENV, which are kept in the image")
INVALID_DEFAULT_ARG_IN_FROM = Rule("InvalidDefaultArgInFrom", "The defaults of global ARGs make valid base names")
FROM_PLATFORM_CONST = Rule("FromPlatformFlagConstDisallowed", "FROM --platform is a variable, not a fixed platform")
COPY_IGNORED_FILE = Rule("CopyIgnoredFile", "What is copied is not left out by the ignore file")
INVALID_DEFINITION_DESCRIPTION = Rule(
    "InvalidDefinitionDescription",
    "A comment just above a FROM or ARG is its description: # <name> <description>; an empty line or comment keeps others apart",
    experimental=True,
)
EXPOSE_PROTO_CASING = Rule("ExposeProtoCasing", "Protocols in EXPOSE are lower-case")
EXPOSE_INVALID_FORMAT = Rule("ExposeInvalidFormat", "EXPOSE has ports alone, without addresses and ports of the host")

RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        STAGE_NAME_CASING, FROM_AS_CASING, NO_EMPTY_CONTINUATION, CONSISTENT_INSTRUCTION_CASING, DUPLICATE_STAGE_NAME,
        RESERVED_STAGE_NAME, JSON_ARGS_RECOMMENDED, MAINTAINER_DEPRECATED, UNDEFINED_ARG_IN_FROM, WORKDIR_RELATIVE_PATH,
        UNDEFINED_VAR, MULTIPLE_INSTRUCTIONS, LEGACY_KEY_VALUE_FORMAT, INVALID_BASE_IMAGE_PLATFORM, REDUNDANT_TARGET_PLATFORM,
        SECRETS_USED_IN_ARG_OR_ENV, INVALID_DEFAULT_ARG_IN_FROM, FROM_PLATFORM_CONST, COPY_IGNORED_FILE,
        INVALID_DEFINITION_DESCRIPTION, EXPOSE_PROTO_CASING, EXPOSE_INVALID_FORMAT,
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rules are checked, and whether what they find is an error. "all" is every rule; names that no rule has
    are kept, as a newer builder may know them."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def checks(self, rule: Rule) -> bool:
        if rule.experimental:
            return bool(self.experimental & {rule.name, "all"})
        return not self.skip & {rule.name, "all"}

    @property
    def checks_any(self) -> bool:
        return "all" not in self.skip or bool(self.experimental)

    def with_comments(self, comments: Iterable[str]) -> Choice:
        """As one instruction sees it, whose comments may hold ``check=skip=Rule``. A malformed one says nothing."""
        for comment in comments:
            found = directive_in(f"#{comment}")
            if found is None or found[0] != "check":
                continue
            try:
                own = parse_choice(_first(found[1]))
            except BuildfileError:
                return self
            return Choice(self.skip | own.skip, self.experimental | own.experimental, self.error)
        return self


def parse_choice(text: str, at: Span | None = None) -> Choice:
    """``skip=Rule,Rule;experimental=Rule;error=true``, as the directive and the build argument have it."""
    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error = False
    for part in text.split(";") if text.strip() else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in _OPTIONS or not equals:
            hint = did_you_mean(name, _OPTIONS) or "write skip=RULE,RULE;experimental=RULE;error=true"
            raise BuildfileError(f"'{part.strip()}' is not an option of check", at=at, hint=hint)
        if name == "error":
            if value not in _TRUE and value not in _FALSE:
                raise BuildfileError(f"'{value}' is not a value for error", at=at, hint="it is true or false")
            error = value in _TRUE
        elif name == "skip":
            skip = _names(value)
        else:
            experimental = _names(value)
    return Choice(skip, experimental, error)


def choice_of(buildfile: Buildfile, argument: str | None) -> Choice:
    """What the build argument says, if it was given, else what the file's directive does."""
    if argument is not None:
        try:
            return parse_choice(argument)
        except BuildfileError as error:
            raise BuildfileError(f"{ARGUMENT}: {error.message}", hint=error.hint) from None
    for directive in buildfile.directives:
        if directive.name == "check":
            return parse_choice(_first(directive.value), directive.span)
    return Choice()


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(","))


def _first(text: str) -> str:
    """A directive's value up to the first space: what follows is a comment on it."""
    return text.partition(" ")[0]


class Linter:
    """Gathers warnings of the rules that are chosen, each once."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self._found: dict[LintWarning, None] = {}

    def warn(self, rule: Rule, message: str, span: Span, comments: Iterable[str] = ()) -> None:
        """Note it, unless it is skipped for all, or by the `comments` of its instruction."""
        if self.choice.with_comments(comments).checks(rule):
            self._found.setdefault(LintWarning(rule, message, span))

    @property
    def warnings(self) -> tuple[LintWarning, ...]:
        """By their first line; those of one line in the order in which they were found."""
        return tuple(sorted(self._found, key=lambda warning: warning.span.line))
