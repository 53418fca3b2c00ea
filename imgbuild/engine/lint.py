"""Lint around a build: which rules are chosen, what the ignore file leaves out, and what becomes of what is found."""

from __future__ import annotations

from imgbuild.buildfile.instructions import Buildfile
from imgbuild.buildfile.lint import lint_text, misspelt_directive
from imgbuild.buildfile.rules import ARGUMENT, RULES, Linter, LintWarning, choice_of
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.context.ignore import Ignore
from imgbuild.errors import BuildfileError
from imgbuild.graph.lint import Ignores, lint_origins, lint_stages
from imgbuild.graph.ops import Base, BaseKey
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import make_outline
from imgbuild.hints import Callable, Mapping
from imgbuild.solve.events import Notice, Warned


class BuildLint:
    """Says what lint finds, once and as early as it is known; a build for several platforms is linted for each by one of these."""

    def __init__(self, buildfile: Buildfile, options: LowerOptions, ignore: Ignore, on_event: Callable[[object], None]) -> None:
        self._buildfile = buildfile
        self._ignore = ignore
        self._on_event = on_event
        self._linter = make_linter(buildfile, options)
        self._said: set[LintWarning] = set()
        say_misspelt(buildfile, self._linter, on_event)

    def check_text(self, options: LowerOptions) -> None:
        """What the file alone tells, before bases are looked for."""
        lint_text(self._buildfile, self._linter)
        lint_origins(self._buildfile, options, self._linter)
        self._say()

    def check_stages(self, options: LowerOptions, bases: Mapping[BaseKey, Base]) -> None:
        """What the stages that are needed do; BuildfileError if anything was found and ``error=true`` is chosen."""
        if self._linter.choice.checks_any:
            outline = make_outline(self._buildfile, options, bases)
            lint_stages(self._buildfile, outline, options, bases, self._linter, ignores_of(self._ignore))
            self._say()
        if self._linter.choice.error and self._linter.warnings:
            raise violation(self._linter.warnings)

    def _say(self) -> None:
        for warning in self._linter.warnings:
            if warning not in self._said:
                self._said.add(warning)
                self._on_event(Warned(warning.rule.name, warning.message, warning.span))


def say_misspelt(buildfile: Buildfile, linter: Linter, on_event: Callable[[object], None]) -> None:
    """A directive with a slip in its name is a comment for every builder, and one in a rule's name does nothing: no rule says so, but it
    is worth a word."""
    if (misspelt := misspelt_directive(buildfile)) is not None:
        span, near = misspelt
        on_event(Notice(f"{span.lines} is only a comment: {near}"))
    for name in sorted((linter.choice.skip | linter.choice.experimental) - RULES.keys() - {"all"}):
        if (hint := did_you_mean(name, RULES)) is not None:
            on_event(Notice(f"check: there is no rule {name}: {hint}"))


def make_linter(buildfile: Buildfile, options: LowerOptions) -> Linter:
    """A linter with the rules that the Buildfile, or the build argument, chooses."""
    return Linter(choice_of(buildfile, options.build_args.get(ARGUMENT)))


def ignores_of(ignore: Ignore) -> Ignores | None:
    """Whether a path is left out; None where exceptions make that depend on what is below it, or where nothing is."""
    if not ignore or any(pattern.exception for pattern in ignore.patterns):
        return None
    return ignore.ignores


def violation(warnings: tuple[LintWarning, ...]) -> BuildfileError:
    """The error that warnings are where ``error=true`` is chosen."""
    names = ", ".join(dict.fromkeys(warning.rule.name for warning in warnings))
    hint = "check=error=true makes an error of what lint finds; skip a rule by check=skip=RULE above an instruction, or in the directive"
    return BuildfileError(f"lint violation found for rules: {names}", at=warnings[0].span, hint=hint)
