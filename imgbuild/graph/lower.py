"""Lowering: from a parsed Buildfile, arguments and bases to the graph of steps and what each stage's image will say.

Semantics are the Dockerfile reference's and, where it is silent, BuildKit's (frontend/dockerfile/dockerfile2llb). Config-only
instructions never become steps: they change the stage's config and leave a line of history.
"""

from __future__ import annotations

import posixpath

from imgbuild.buildfile import instructions as ast
from imgbuild.buildfile.expand import expand, expand_words
from imgbuild.errors import BuildfileError, Span, UnsupportedError
from imgbuild.graph.copy import lower_copy
from imgbuild.graph.gathered import Gathered
from imgbuild.graph.metadata import healthcheck, ports, stop_signal
from imgbuild.graph.ops import Base, BaseKey, BuildGraph, CopyOp, HistoryLine, Origin, RunOp, Stage, StageTest, Step, TestOp, WorkdirOp
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import Outline, StageOutline, make_outline, needed_by
from imgbuild.graph.run import lower_run, lower_test
from imgbuild.hints import Callable, Iterable, Mapping
from imgbuild.light import json
from imgbuild.light.collections import Counter
from imgbuild.light.functools import partial
from imgbuild.oci.config import RunConfig
from imgbuild.oci.platform import Platform
from imgbuild.oci.times import parse_time
from imgbuild.values import replace

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_NOT_IN_ENVIRONMENT = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})


def lower(buildfile: ast.Buildfile, options: LowerOptions, bases: Mapping[BaseKey, Base]) -> BuildGraph:
    """The graph of the target and of all that it needs. Every need of `base_references` must be in `bases`."""
    outline = make_outline(buildfile, options, bases)
    lowering = _Lowering(buildfile, outline, options, bases)
    lowering.add(outline.needed)
    stages = lowering.stages
    if options.labels:
        target = stages[outline.target]
        labels = tuple(sorted((dict(target.config.labels) | dict(options.labels)).items()))
        stages[outline.target] = replace(target, config=replace(target.config, labels=labels))
    if options.explicit:
        target = stages[outline.target]
        stages[outline.target] = replace(target, platform=_said_platform(options.platform, target.platform))
    return BuildGraph(stages, (outline.target,))


def _said_platform(wanted: Platform, base: Platform) -> Platform:
    """What the image of a build for `wanted` says that it is for: that, with the base's own variant where none was asked for."""
    same = (wanted.os, wanted.architecture) == (base.os, base.architecture)
    return base if same and not wanted.variant else wanted


def lower_every(buildfile: ast.Buildfile, options: LowerOptions, bases: Mapping[BaseKey, Base]) -> None:
    """Raise what lowering each stage as the target would, the last one first; each stage is lowered once. What asks for the target's
    name (TARGETSTAGE) gets that of `options`."""
    outline = make_outline(buildfile, options, bases)
    count = len(buildfile.stages)
    lowering = _Lowering(buildfile, replace(outline, needed=frozenset(range(len(outline.stages)))), options, bases)
    for index in reversed(range(count)):
        lowering.add(needed_by(outline.stages, index, lowering.stages))


class _Lowering:
    """Lowers stages of an outline, each once, all that are in its `needed` at most."""

    def __init__(
        self, buildfile: ast.Buildfile, outline: Outline, options: LowerOptions, bases: Mapping[BaseKey, Base]
    ) -> None:
        self.stages: dict[int, Stage] = {}
        self._buildfile = buildfile
        self._outline = outline
        self._options = options
        self._bases = bases
        self._lowered: dict[int, _StageLowering] = {}
        self._children = Counter(outline.stages[index].parent for index in outline.needed)

    def add(self, indexes: Iterable[int]) -> None:
        """Lower these, each after its parent: the file's order does that, a parent is always an earlier stage."""
        for index in sorted(indexes):
            stage = self._outline.stages[index]
            parent = self._lowered[stage.parent] if stage.parent is not None else None
            base = self._bases[stage.base] if stage.base is not None else None
            ages = partial(_age, self._outline, self.stages, self._bases)
            epoch = _epoch(self._options, base, stage, ages)
            self._lowered[index] = _StageLowering(self._buildfile, self._outline, self._options, stage, parent, base, epoch, ages)
            self.stages[index] = self._lowered[index].lower()
            self._children[stage.parent] -= 1
            for done in (index, stage.parent):
                if done is not None and not self._children[done]:
                    del self._lowered[done]  # nothing starts from it: a long chain of stages must not keep all of their variables


class _StageLowering:
    """One stage, instruction by instruction. `env` is what expansion and RUN see: the image's ENV with ARGs among it;
    `buildfile` has the escape character of the instruction at hand, which an included file may have of its own. What `config` has many
    of is gathered beside it, and is in it when the stage has been lowered."""

    def __init__(
        self,
        buildfile: ast.Buildfile,
        outline: Outline,
        options: LowerOptions,
        stage: StageOutline,
        parent: _StageLowering | None,
        base: Base | None,
        epoch: int,
        ages: Callable[[int], int],
    ) -> None:
        self.buildfile = buildfile
        self.outline = outline
        self.options = options
        self.stage = stage
        self.base = base
        self.steps: list[Step] = []
        self.tests: list[StageTest] = []
        self.lines: list[HistoryLine] = []
        self._span: Span | None = None
        self.arguments: dict[str, str] = dict(parent.arguments) if parent else {}
        self.author: str = parent.author if parent else (base.author if base else "")
        self.config: RunConfig = replace(parent.config if parent else (base.config if base else RunConfig()), on_build=())
        self.epoch: int = parent.epoch if parent else epoch
        self._ages = ages
        if not any(entry.startswith("PATH=") for entry in self.config.env):
            self.config = replace(self.config, env=(*self.config.env, f"PATH={DEFAULT_PATH}"))
        self._gathered = Gathered(self.config)
        self.platform: Platform = parent.platform if parent else (base.platform if base else stage.platform)
        self.env: dict[str, str] = dict(parent.env) if parent else {}
        self.env |= dict(_pair(entry) for entry in self.config.env if _is_pair(entry))
        self.cmd_is_set = False
        self._stale = options.no_cache or stage.name.lower() in options.stale
        self._tests = sum(isinstance(item, ast.Test) for item in stage.instructions)
        steps = sum(isinstance(item, (ast.Run, ast.Copy, ast.Workdir)) for item in stage.instructions)
        self._total = steps - self._tests + bool(stage.files)

    @property
    def shell(self) -> tuple[str, ...]:
        return self.config.shell or DEFAULT_SHELL

    def lower(self) -> Stage:
        if self.stage.files:
            self._context(self.stage.files)
        for instruction in self.stage.instructions:
            if instruction.escape != self.buildfile.escape:
                self.buildfile = replace(self.buildfile, escape=instruction.escape)
            try:
                self._instruction(instruction)
            except BuildfileError as error:
                raise error.located(instruction.span) from None
        self.config = self._gathered.into(self.config)
        return Stage(
            index=self.stage.index,
            name=self.stage.name,
            parent=self.stage.parent,
            base=self.base,
            steps=tuple(self.steps),
            lines=tuple(self.lines),
            config=self.config,
            author=self.author,
            platform=self.platform,
            epoch=self.epoch,
            span=self.stage.span,
            tests=tuple(self.tests),
        )

    def expand(self, word: ast.Word) -> str:
        """A word with this stage's variables."""
        return expand(word.text, self.env, self.buildfile.escape, word.span)

    def source(self, name: str) -> Origin:
        """What a ``from`` means; the outline has checked that it is there."""
        names = self.outline.names
        if name.lower() in self.outline.contexts:
            return Origin(None, self.outline.contexts[name.lower()])
        if name.lower() in names:
            return Origin(names[name.lower()])
        return Origin(names[f"image {name}"] if f"image {name}" in names else int(name))

    def independent_epoch(self, source: int | None) -> int:
        """The epoch of a step that makes the same on any base: as it would be from scratch, where nothing else is read."""
        if self.options.epoch is not None:
            return self.options.epoch
        return 0 if source is None else self._ages(source)

    def add_step(self, op: RunOp | CopyOp | WorkdirOp, instruction: ast.Instruction, created_by: str) -> None:
        """Append a step and the line of history that its layer belongs to."""
        self._step(op, instruction.text, instruction.span, created_by)

    def _step(self, op: RunOp | CopyOp | WorkdirOp, text: str, span: Span, created_by: str) -> None:
        number = len(self.steps) + 1
        self.lines.append(HistoryLine(created_by, len(self.steps), span))
        name = f"[{self._prefix}{number}/{self._total}] {' '.join(text.split())}"
        self.steps.append(Step(op, name, span, self._stale, tuple(self.arguments) if isinstance(op, RunOp) else ()))

    def add_test(self, op: TestOp, instruction: ast.Instruction) -> None:
        """Append a test of what the stage is so far."""
        text = " ".join(instruction.text.split())
        name = f"[{self._prefix}test {len(self.tests) + 1}/{self._tests}] {text}"
        step = Step(op, name, instruction.span, self._stale, tuple(self.arguments))
        self.tests.append(StageTest(step, len(self.steps)))

    @property
    def _prefix(self) -> str:
        label = f"{self._platforms()} " if self.options.several else ""
        return label + (f"{self.stage.name} " if len(self.outline.needed) > 1 or (self.stage.origin and self.stage.origin.alias) else "")

    def _context(self, name: str) -> None:
        """The files of a named context as the root file system to start from."""
        op = CopyOp(sources=(".",), destination="/", epoch=self.epoch, context=name)
        self._step(op, f"FROM {name}", self.stage.span, f"FROM {name}")

    def _platforms(self) -> str:
        """Which platform a step runs on, and for which other one it works, if it knows of that."""
        target = self.options.platform
        knows = any(name in self.arguments for name in ("TARGETPLATFORM", "TARGETARCH", "TARGETOS", "TARGETVARIANT"))
        return f"{self.platform}->{target.architecture}{target.variant}" if knows and target != self.platform else str(self.platform)

    def note(self, created_by: str) -> None:
        """A line of history without a layer."""
        self.lines.append(HistoryLine(created_by, span=self._span))

    def _instruction(self, item: ast.Instruction) -> None:
        self._span = item.span
        match item:
            case ast.Test():
                lower_test(self, item)
            case ast.Run():
                lower_run(self, item)
            case ast.Copy():
                lower_copy(self, item)
            case ast.Workdir():
                self._workdir(item)
            case ast.Env():
                self._env(item)
            case ast.Arg():
                self._arg(item)
            case ast.Label():
                self._label(item)
            case ast.Cmd() | ast.Entrypoint():
                self._command(item)
            case ast.User():
                self.config = replace(self.config, user=self.expand(item.user))
                self.note(f"USER {self.config.user}")
            case ast.Shell():
                self.config = replace(self.config, shell=item.words)
                self.note(f"SHELL {_go_list(item.words)}")
            case ast.Expose():
                self._expose(item)
            case ast.Volume():
                self._volume(item)
            case ast.Stopsignal():
                self.config = replace(self.config, stop_signal=stop_signal(self.expand(item.signal), item.signal.span))
                self.note(f"STOPSIGNAL {self.config.stop_signal}")
            case ast.Healthcheck():
                self.config = replace(self.config, healthcheck=healthcheck(item))
                self.note(item.text)
            case ast.Onbuild():
                self._gathered.triggers.append(item.trigger_text)
            case ast.Maintainer():
                self.author = item.name.text
                self.note(f"MAINTAINER {self.author}")
            case _:
                raise UnsupportedError(f"{type(item).__name__.upper()} is not performed", at=item.span)

    def _env(self, item: ast.Env) -> None:
        # All values of one line are expanded with what stood before the line (Dockerfile reference, "Environment replacement").
        pairs = [(self.expand(name), self.expand(value)) for name, value in item.pairs]
        for name, value in pairs:
            if not name:
                raise BuildfileError("ENV with an empty name")
            self._gathered.env[name] = self.env[name] = value
        self.note("ENV " + " ".join(f"{name}={value}" for name, value in pairs))

    def _arg(self, item: ast.Arg) -> None:
        notes = []
        for word, default in item.pairs:
            name = word.text
            value: str | None = None
            if name in self.options.build_args:
                value = self.options.build_args[name]
            elif default is not None:
                value = self.expand(default)
            elif name in self.outline.arguments:
                value = self.outline.arguments[name]
            if value is not None and name not in _NOT_IN_ENVIRONMENT:
                self.arguments[name] = self.env[name] = value
            notes.append(name if value is None else f"{name}={value}")
        self.note("ARG " + " ".join(notes))

    def _label(self, item: ast.Label) -> None:
        pairs = [(self.expand(name), self.expand(value)) for name, value in item.pairs]
        if any(not name for name, _ in pairs):
            raise BuildfileError("LABEL with an empty name")
        self._gathered.labels.update(pairs)
        self.note("LABEL " + " ".join(f"{name}={value}" for name, value in pairs))

    def _command(self, item: ast.Cmd | ast.Entrypoint) -> None:
        words = item.command.words
        if words is None:
            words = (*self.shell, item.command.line or "") if item.command.line else ()
        if isinstance(item, ast.Cmd):
            self.config = replace(self.config, cmd=words)
            self.cmd_is_set = True
            self.note(f"CMD {json.dumps(words, ensure_ascii=False)}")
        else:
            # A base's CMD was meant for its own ENTRYPOINT.
            self.config = replace(self.config, entrypoint=words, cmd=self.config.cmd if self.cmd_is_set else None)
            self.note(f"ENTRYPOINT {json.dumps(words, ensure_ascii=False)}")

    def _expose(self, item: ast.Expose) -> None:
        words = [(text, word.span) for word in item.ports for text in expand_words(word.text, self.env, self.buildfile.escape, word.span)]
        added = {port for text, span in words for port in ports(text, span)}
        self._gathered.ports.update(added)
        self.note("EXPOSE " + _go_list(tuple(text for text, _ in words)))

    def _volume(self, item: ast.Volume) -> None:
        paths = tuple(self.expand(word) for word in item.paths)
        if "" in paths:
            raise BuildfileError("VOLUME with an empty path")
        self._gathered.volumes.update(paths)
        self.note(f"VOLUME {_go_list(paths)}")

    def _workdir(self, item: ast.Workdir) -> None:
        path = posixpath.normpath(posixpath.join("/", self.config.working_dir, self.expand(item.path))).replace("//", "/", 1)
        self.config = replace(self.config, working_dir=path)
        self.add_step(WorkdirOp(path, self.config.user, self.epoch), item, f"WORKDIR {path}")


def _epoch(options: LowerOptions, base: Base | None, stage: StageOutline, ages: Callable[[int], int]) -> int:
    """The layers' epoch: the explicit one, else the base's age, else (from scratch) that of the youngest stage or image that is read.

    What is not explicit follows from what the key holds anyway, so that a cached layer and a fresh one are the same bytes.
    """
    if options.epoch is not None:
        return options.epoch
    if base is not None:
        return parse_time(base.created) or 0
    return max([0, *(ages(index) for index, _ in stage.reads)])


def _age(outline: Outline, lowered: Mapping[int, Stage], bases: Mapping[BaseKey, Base], index: int) -> int:
    """The epoch of a stage that was lowered, or the age of an image that is only read."""
    image = outline.stages[index].base
    if index in lowered:
        return lowered[index].epoch
    return (parse_time(bases[image].created) or 0) if image is not None else 0


def _is_pair(entry: str) -> bool:
    """Whether an entry of a foreign image's environment can be one: with a name, and nothing that execve refuses."""
    return "=" in entry and not entry.startswith("=") and "\0" not in entry


def _pair(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _go_list(words: tuple[str, ...]) -> str:
    """As docker's history shows a list."""
    return f"[{' '.join(words)}]"


