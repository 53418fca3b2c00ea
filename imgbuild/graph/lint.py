"""The rules of lint that need values: what FROM lines amount to, and what each stage's instructions see.

A walk beside lowering, over the same outline: lowering refuses, this only warns, and what it can't expand it leaves to lowering.
"""

from __future__ import annotations

import posixpath

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile import rules
from imgbuild.buildfile.expand import expand, expand_seen, expand_words
from imgbuild.buildfile.lint import keyword
from imgbuild.buildfile.mounts import expandable
from imgbuild.buildfile.rules import Linter, Rule
from imgbuild.buildfile.suggest import nearest
from imgbuild.errors import BuildfileError, ImageError, Span
from imgbuild.graph.arguments import global_arguments
from imgbuild.graph.ops import Base, BaseKey
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import Outline, StageOutline
from imgbuild.hints import Callable, Collection, Iterable, Mapping
from imgbuild.light import json
from imgbuild.light.contextlib import suppress
from imgbuild.oci.platform import parse_platform
from imgbuild.oci.reference import parse_reference
from imgbuild.values import replace

Ignores = Callable[[str], bool]
"""Whether the ignore file leaves out a path of the context; only for one without exceptions, of which no path can be judged alone."""

_SECRET = frozenset({"apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"})
_HARMLESS = frozenset({"public", "file", "version"})
"""Words of a name, between its underscores, in any case: those that a secret is called by, and those that tell that it is none."""

_NOT_IN_ENVIRONMENT = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
_REMOTE = ("http://", "https://", "git://", "git@", "ssh://")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def lint_origins(buildfile: ast.Buildfile, options: LowerOptions, linter: Linter) -> None:
    """Check the FROM lines, by the global ARGs alone."""
    with suppress(BuildfileError):
        _check_defaults(buildfile, options, linter)
    with suppress(BuildfileError):
        values = global_arguments(buildfile.global_args, options)
        declared = [name.text for item in buildfile.global_args for name, _ in item.pairs]
        known = dict.fromkeys([*declared, *values])
        for stage in buildfile.stages:
            with suppress(BuildfileError):
                _check_origin(stage.origin, values, known, options, linter)


def lint_stages(
    buildfile: ast.Buildfile,
    outline: Outline,
    options: LowerOptions,
    bases: Mapping[BaseKey, Base],
    linter: Linter,
    ignores: Ignores | None = None,
    every: bool = False,
) -> None:
    """Check the stages that the target needs, or every one. Of an image that is not in `bases` nothing is known, and
    nothing that could depend on it is warned of."""
    done: dict[int, _StageLint] = {}
    for stage in outline.stages:
        if stage.origin is None or not (every or stage.index in outline.needed):
            continue
        parent = done.get(stage.parent) if stage.parent is not None else None
        base = bases.get(stage.base) if stage.base is not None else None
        done[stage.index] = _StageLint(buildfile, outline, options, stage, parent, base, linter, ignores)
        done[stage.index].check()


def _check_defaults(buildfile: ast.Buildfile, options: LowerOptions, linter: Linter) -> None:
    plain = replace(options, build_args={})
    values = global_arguments(buildfile.global_args, plain)
    for stage in buildfile.stages:
        word = stage.origin.image
        name = expand(word.text, values, stage.origin.escape, word.span)
        try:
            parse_reference(name)
        except ImageError:
            message = f"Default value for ARG {word.text} results in empty or invalid base image name"
            linter.warn(rules.INVALID_DEFAULT_ARG_IN_FROM, message, stage.origin.span, stage.origin.comments)


def _check_origin(
    origin: ast.From, values: Mapping[str, str], known: Collection[str], options: LowerOptions, linter: Linter
) -> None:
    _, seen = expand_seen(origin.image.text, values, origin.escape)
    _warn_undeclared(origin, seen, known, linter)
    flag = origin.flag("platform")
    if flag is None:
        return
    text, seen = expand_seen(flag.value or "", values, origin.escape)
    _warn_undeclared(origin, seen, known, linter)
    if seen == {"TARGETPLATFORM"} and text == values.get("TARGETPLATFORM"):
        message = f"Setting platform to predefined {flag.value} in FROM is redundant as this is the default behavior"
        linter.warn(rules.REDUNDANT_TARGET_PLATFORM, message, origin.span, origin.comments)
    if not seen and text:
        with suppress(ImageError):
            platform = parse_platform(text, options.platform)
            if not any(part in (origin.alias or "") for part in (platform.os, platform.architecture)):
                message = f"FROM --platform flag should not use constant value {_quoted(text)}"
                linter.warn(rules.FROM_PLATFORM_CONST, message, origin.span, origin.comments)


def _warn_undeclared(origin: ast.From, seen: Iterable[str], known: Collection[str], linter: Linter) -> None:
    for name in sorted(name for name in set(seen) if name not in known):
        near = nearest(name, known)
        message = f"FROM argument '{name}' is not declared" + (f" (did you mean {near}?)" if near else "")
        linter.warn(rules.UNDEFINED_ARG_IN_FROM, message, origin.span, origin.comments)


class _StageLint:
    """One stage, instruction by instruction; `known` is False where the environment is that of an image not at hand."""

    def __init__(
        self,
        buildfile: ast.Buildfile,
        outline: Outline,
        options: LowerOptions,
        stage: StageOutline,
        parent: _StageLint | None,
        base: Base | None,
        linter: Linter,
        ignores: Ignores | None,
    ) -> None:
        self.escape = buildfile.escape  # of the instruction at hand
        self.globals = outline.arguments
        self.options = options
        self.stage = stage
        self.base = base
        self.linter = linter
        self.ignores = ignores
        self.known: bool = parent.known if parent else base is not None or stage.image is None
        self.env: dict[str, str] = dict(parent.env) if parent else {"PATH": _DEFAULT_PATH}
        self.declared: set[str] = set(parent.declared) if parent else set()
        self.workdir_is_set: bool = parent.workdir_is_set if parent else False
        self.has_shell: bool = parent.has_shell if parent else bool(base and base.config.shell) or not self.known
        if base is not None:
            self.env |= dict(entry.partition("=")[::2] for entry in base.config.env)
        self.last: dict[type[ast.Instruction], tuple[Span, tuple[str, ...]]] = {}
        self.triggers = len(stage.instructions) - len(buildfile.stages[stage.index].instructions)

    def check(self) -> None:
        self._check_platform()
        for number, item in enumerate(self.stage.instructions):
            # What a trigger does is said where it was pulled in.
            place = self.stage.span if number < self.triggers else item.span
            with suppress(BuildfileError):
                self._instruction(item, place)

    def _check_platform(self) -> None:
        if self.base is None or self.stage.origin is None:
            return
        wanted, actual = self.stage.platform, self.base.platform
        if (wanted.os, wanted.architecture) != (actual.os, actual.architecture):
            origin = self.stage.origin
            message = f'Base image {origin.image.text} was pulled with platform "{actual}", expected "{wanted}" for current build'
            self.linter.warn(rules.INVALID_BASE_IMAGE_PLATFORM, message, origin.span, origin.comments)

    def _instruction(self, item: ast.Instruction, place: Span) -> None:
        def warn(rule: Rule, message: str) -> None:
            self.linter.warn(rule, message, place, item.comments)

        self.escape = item.escape
        match item:
            case ast.Arg():
                self._arg(item, warn)
            case ast.Env() | ast.Label():
                self._pairs(item, warn)
            case ast.Copy():
                self._copy(item, warn)
            case ast.Run():
                for mount in item.mounts:
                    for value in expandable(mount):
                        self._expand(value, warn)
            case ast.Workdir():
                path = self._expand(item.path.text, warn)
                if not self.workdir_is_set and not path.startswith("/"):
                    warn(
                        rules.WORKDIR_RELATIVE_PATH,
                        f"Relative workdir {_quoted(path)} can have unexpected results if the base image changes",
                    )
                self.workdir_is_set = True
            case ast.User():
                self._expand(item.user.text, warn)
            case ast.Stopsignal():
                self._expand(item.signal.text, warn)
            case ast.Volume():
                for word in item.paths:
                    self._expand(word.text, warn)
            case ast.Expose():
                self._expose(item, warn)
            case ast.Shell():
                self.has_shell = True
            case ast.Cmd() | ast.Entrypoint():
                self._only_once(item, place)
                if item.command.words is None and not self.has_shell:
                    name = keyword(item)
                    warn(
                        rules.JSON_ARGS_RECOMMENDED,
                        f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals",
                    )
            case ast.Healthcheck():
                self._only_once(item, place)

    def _expand(self, text: str, warn: Callable[[Rule, str], None], heredoc: bool = False) -> str:
        """The word with this stage's variables; those that nothing defines are warned of."""
        value, seen = expand_seen(text, self.env, self.escape, quotes_are_text=heredoc)
        # not a difference of sets: that of a dict's keys would look at every variable for each word
        unknown = [name for name in seen if not (name in self.declared or name in self.env or name in _NOT_IN_ENVIRONMENT)]
        for name in sorted(unknown) if self.known else ():
            near = nearest(name, self.env)
            warn(rules.UNDEFINED_VAR, f"Usage of undefined variable '${name}'" + (f" (did you mean ${near}?)" if near else ""))
        return value

    def _arg(self, item: ast.Arg, warn: Callable[[Rule, str], None]) -> None:
        for word, default in item.pairs:
            name = word.text
            _check_secret("ARG", name, warn)
            value: str | None
            if name in self.options.build_args:
                value = self.options.build_args[name]
            elif default is not None:
                value = self._expand(default.text, warn)
            else:
                value = self.globals.get(name)
            if value is not None and name not in _NOT_IN_ENVIRONMENT:
                self.env[name] = value
            self.declared.add(name)

    def _pairs(self, item: ast.Env | ast.Label, warn: Callable[[Rule, str], None]) -> None:
        pairs = [(self._expand(name.text, warn), self._expand(value.text, warn)) for name, value in item.pairs]
        if item.legacy:
            name = keyword(item)
            warn(
                rules.LEGACY_KEY_VALUE_FORMAT,
                f'"{name} key=value" should be used instead of legacy "{name} key value" format',
            )
        if isinstance(item, ast.Env):
            for name, value in pairs:
                _check_secret("ENV", name, warn)
                self.env[name] = value

    def _copy(self, item: ast.Copy, warn: Callable[[Rule, str], None]) -> None:
        for flag in item.flags:
            if flag.value is not None and flag.name != "from":
                self._expand(flag.value, warn)
        sources = [self._expand(word.text, warn) for word in item.sources]
        self._expand(item.destination.text, warn)
        for document in item.heredocs:
            if document.expand:
                self._expand(document.content, warn, heredoc=True)
        origin = item.flag("from")
        if self.ignores is None or (origin is not None and origin.value):
            return
        for source in sources:
            path = posixpath.normpath(source).lstrip("/")
            if source and path not in ("", ".") and not source.startswith(_REMOTE) and self.ignores(path):
                verb = "Add" if isinstance(item, ast.Add) else "Copy"
                warn(rules.COPY_IGNORED_FILE, f"Attempting to {verb} file {_quoted(path)} that is excluded by .dockerignore")

    def _expose(self, item: ast.Expose, warn: Callable[[Rule, str], None]) -> None:
        for word in item.ports:
            for port in expand_words(word.text, self.env, self.escape):
                protocol = port.rpartition(":")[2].partition("/")[2]
                if protocol != protocol.lower():
                    warn(rules.EXPOSE_PROTO_CASING, f"Defined protocol '{port}' in EXPOSE instruction should be lowercase")
                if port.rpartition(":")[0].strip(":"):
                    message = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
                    warn(rules.EXPOSE_INVALID_FORMAT, message)

    def _only_once(self, item: ast.Instruction, place: Span) -> None:
        """The earlier one is the one that does not count."""
        kind = type(item)
        if kind in self.last:
            earlier, comments = self.last[kind]
            name = keyword(item)
            message = f"Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            self.linter.warn(rules.MULTIPLE_INSTRUCTIONS, message, earlier, (*item.comments, *comments))
        self.last[kind] = place, item.comments


def _check_secret(instruction: str, name: str, warn: Callable[[Rule, str], None]) -> None:
    words = set(name.lower().split("_"))
    if words & _SECRET and not words & _HARMLESS:
        message = f"Do not use ARG or ENV instructions for sensitive data ({instruction} {_quoted(name)})"
        warn(rules.SECRETS_USED_IN_ARG_OR_ENV, message)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
