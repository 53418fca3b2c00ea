"""What can be asked of a Buildfile: its targets, and what a target takes: arguments, secrets, SSH agents, caches.

Descriptions are the comments just above a FROM or an ARG that begin with the name that they describe.
"""

from __future__ import annotations

from typing import TypeVar

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.expand import expand, expand_seen
from imgbuild.buildfile.lint import described
from imgbuild.buildfile.mounts import CacheMount, SecretMount, SshMount, parse_mount
from imgbuild.errors import BuildfileError, Span
from imgbuild.graph.arguments import global_arguments
from imgbuild.graph.ops import Base, BaseKey
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import Outline, StageOutline
from imgbuild.hints import Iterable, Mapping
from imgbuild.light.contextlib import suppress
from imgbuild.values import dataclass

_Named = TypeVar("_Named", "Argument", "Mounted")


@dataclass(frozen=True, slots=True)
class Target:
    """A stage as it is written: `base` with its variables."""

    name: str
    description: str
    base: str
    platform: str
    default: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Argument:
    """An ARG that a target takes, and what it amounts to now; "" where that is nothing."""

    name: str
    description: str
    value: str
    span: Span


@dataclass(frozen=True, slots=True)
class Mounted:
    """What a target mounts: a secret, an agent or a cache, by its id."""

    name: str
    required: bool
    span: Span


@dataclass(frozen=True, slots=True)
class Description:
    """What a target takes, with all that it is built from, each once and in file order."""

    name: str
    description: str
    arguments: tuple[Argument, ...]
    secrets: tuple[Mounted, ...]
    ssh: tuple[Mounted, ...]
    caches: tuple[Mounted, ...]


def list_targets(buildfile: ast.Buildfile) -> tuple[Target, ...]:
    """The stages, in file order; the last is the default."""
    found = []
    for number, stage in enumerate(buildfile.stages, 1):
        origin, name = stage.origin, stage.origin.alias or ""
        flag = origin.flag("platform")
        platform = "" if flag is None else flag.value or ""
        found.append(Target(name, described(origin, name), origin.image.text, platform, number == len(buildfile.stages), origin.span))
    return tuple(found)


def describe(buildfile: ast.Buildfile, outline: Outline, options: LowerOptions, bases: Mapping[BaseKey, Base]) -> Description:
    """What the outline's target takes. An image that is not in `bases` adds nothing to the environment."""
    written = _global_arguments(buildfile, options)
    stages: dict[int, _StageReader] = {}
    for index in sorted(outline.needed):
        stage = outline.stages[index]
        parent = stages[stage.parent] if stage.parent is not None else None
        base = bases.get(stage.base) if stage.base is not None else None
        stages[index] = _StageReader(buildfile, outline, options, stage, parent, base, written)
    target = outline.stages[outline.target]
    reached = [stages[index] for index in _nearest_first(outline)]
    name = target.origin.alias or "" if target.origin is not None else ""
    return Description(
        name,
        described(target.origin, name) if target.origin is not None else "",
        _in_order(argument for reader in reached for argument in reader.arguments),
        _in_order(mount for reader in reached for mount in reader.mounts[SecretMount]),
        _in_order(mount for reader in reached for mount in reader.mounts[SshMount]),
        _in_order(mount for reader in reached for mount in reader.mounts[CacheMount]),
    )


def _in_order(found: Iterable[_Named]) -> tuple[_Named, ...]:
    """Each name once, as the stage nearest to the target has it, by lines."""
    by_name: dict[str, _Named] = {}
    for item in found:
        by_name.setdefault(item.name, item)
    return tuple(sorted(by_name.values(), key=lambda item: item.span.line))


def _nearest_first(outline: Outline) -> list[int]:
    """The target, then what it starts from, then what it reads, and so on for each."""
    order: dict[int, None] = {}
    pending = [outline.target]
    while pending:
        index = pending.pop(0)
        if index in order:
            continue
        order[index] = None
        stage = outline.stages[index]
        pending += [] if stage.parent is None else [stage.parent]
        pending += [number for number, _ in stage.reads]
    return list(order)


@dataclass(frozen=True, slots=True)
class _Global:
    argument: Argument
    uses: frozenset[str]


def _global_arguments(buildfile: ast.Buildfile, options: LowerOptions) -> dict[str, _Global]:
    """The ARGs before the first FROM by name, and what their defaults refer to."""
    values = global_arguments(buildfile.global_args, options)
    found: dict[str, _Global] = {}
    for item in buildfile.global_args:
        for word, default in item.pairs:
            uses: frozenset[str] = frozenset()
            if default is not None and word.text not in options.build_args:
                with suppress(BuildfileError):
                    uses = expand_seen(default.text, values, item.escape)[1] - {word.text}
            argument = Argument(word.text, described(item, word.text), values.get(word.text, ""), item.span)
            found[word.text] = _Global(argument, uses)
    return found


class _StageReader:
    """One stage, read for its ARGs and mounts."""

    def __init__(
        self,
        buildfile: ast.Buildfile,
        outline: Outline,
        options: LowerOptions,
        stage: StageOutline,
        parent: _StageReader | None,
        base: Base | None,
        written: Mapping[str, _Global],
    ) -> None:
        self.env: dict[str, str] = dict(parent.env) if parent else {}
        if base is not None:
            self.env |= dict(entry.partition("=")[::2] for entry in base.config.env)
        self.mounts: dict[type, list[Mounted]] = {SecretMount: [], SshMount: [], CacheMount: []}
        self._values = outline.arguments
        self._given = options.build_args
        self._written = written
        self._own: dict[str, Argument] = {}
        self._used = dict.fromkeys(sorted(_used_by_origin(stage, outline)))
        triggers = len(stage.instructions) - len(buildfile.stages[stage.index].instructions) if stage.origin is not None else 0
        for number, item in enumerate(stage.instructions):
            self._read(item, stage.span if number < triggers else item.span)
        self.arguments = self._all()

    def _all(self) -> list[Argument]:
        """The stage's own, and the global ones that it, its FROM, or one of these refers to."""
        found: dict[str, Argument] = {}
        pending = list(self._used)
        while pending:
            name = pending.pop(0)
            if name in found:
                continue
            if name in self._own:
                found[name] = self._own[name]
            elif name in self._written:
                found[name] = self._written[name].argument
                pending += self._written[name].uses
        return list(found.values())

    def _read(self, item: ast.Instruction, place: Span) -> None:
        match item:
            case ast.Arg():
                self._arg(item, place)
            case ast.Env():
                pairs = [(self._expand(name, item), self._expand(value, item)) for name, value in item.pairs]
                self.env |= dict(pairs)
            case ast.Run():
                flags = [flag for flag in item.flags if flag.name == "mount"]
                for options, flag in zip(item.mounts, flags, strict=True):
                    expanded = tuple(
                        (key, None if value is None else expand(value, self.env, item.escape, flag.span)) for key, value in options
                    )
                    mount = parse_mount(expanded, flag.span)
                    if isinstance(mount, SecretMount | SshMount):
                        self.mounts[type(mount)].append(Mounted(mount.id, mount.required, place))
                    elif isinstance(mount, CacheMount):
                        self.mounts[CacheMount].append(Mounted(mount.id, False, place))

    def _expand(self, word: ast.Word, item: ast.Instruction) -> str:
        return expand(word.text, self.env, item.escape, word.span)

    def _arg(self, item: ast.Arg, place: Span) -> None:
        for word, default in item.pairs:
            name = word.text
            value: str | None = None
            inherited = False
            if name in self._given:
                value = self._given[name]
                inherited = default is None and name in self._written
            elif default is not None:
                value = self._expand(default, item)
            elif name in self._values:
                value, inherited = self._values[name], True
            if value is not None:
                self.env[name] = value
            if not inherited:
                self._own[name] = Argument(name, described(item, name), value or "", place)
            self._used[name] = None


def _used_by_origin(stage: StageOutline, outline: Outline) -> set[str]:
    origin = stage.origin
    if origin is None:
        return set()
    flag = origin.flag("platform")
    texts = [origin.image.text, *([flag.value or ""] if flag is not None else [])]
    return {name for text in texts for name in expand_seen(text, outline.arguments, origin.escape)[1]}
