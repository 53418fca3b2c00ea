"""Which stages there are, what each starts from and reads, and which of them the target needs.

An image that only a ``COPY --from`` or ``RUN --mount=from=`` names counts as a stage without instructions, numbered after
those of the file. A named context stands in the place of a base, or of a whole stage, of its name.
"""

from __future__ import annotations

from imgbuild.buildfile.expand import expand
from imgbuild.buildfile.instructions import Buildfile, Copy, From, Instruction, Onbuild, Run
from imgbuild.buildfile.parser import parse_trigger
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.errors import BuildfileError, ImageError, NotFoundError, Span, UnsupportedError
from imgbuild.graph.arguments import global_arguments
from imgbuild.graph.contexts import ContextKind, find_context
from imgbuild.graph.ops import Base, BaseKey, BaseName
from imgbuild.graph.options import LowerOptions
from imgbuild.hints import Container, Iterable, Mapping, Sequence
from imgbuild.oci.platform import Platform, parse_platform
from imgbuild.oci.reference import Reference, parse_reference
from imgbuild.values import dataclass, replace

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class StageOutline:
    """A stage before lowering: at most one of `parent` (another stage), `image`, and `files` (a named context, whose files are the
    root file system); none of them is scratch. `platform` is the one that its steps run on and its image is asked for. `replaced`: a
    named context stands in its place, it has no instructions."""

    index: int
    name: str
    origin: From | None
    parent: int | None
    image: BaseName | None
    platform: Platform
    instructions: tuple[Instruction, ...]
    reads: tuple[tuple[int, Span], ...]
    span: Span
    files: str = ""
    replaced: bool = False

    @property
    def base(self) -> BaseKey | None:
        """What must be at hand before lowering."""
        return None if self.image is None else (self.image, self.platform)


@dataclass(frozen=True, slots=True)
class Outline:
    """All stages, the index of the target, those that it needs, the values for FROM, and where each source name leads: to a stage,
    or to the files of a named context."""

    stages: tuple[StageOutline, ...]
    target: int
    needed: frozenset[int]
    arguments: Mapping[str, str]
    names: Mapping[str, int]
    contexts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BaseNeed:
    """An image that must be at hand before lowering, for which platform, and the line that names it."""

    reference: BaseName
    platform: Platform
    span: Span

    @property
    def key(self) -> BaseKey:
        return (self.reference, self.platform)


def base_references(buildfile: Buildfile, options: LowerOptions, bases: Mapping[BaseKey, Base]) -> tuple[BaseNeed, ...]:
    """The images that are needed and not yet in `bases`. A base's ONBUILD triggers may name more: ask again after each pull."""
    outline = make_outline(buildfile, options, bases)
    found: dict[BaseKey, BaseNeed] = {}
    for index in sorted(outline.needed):
        stage = outline.stages[index]
        if stage.base is not None and stage.base not in bases:
            found.setdefault(stage.base, BaseNeed(*stage.base, stage.span))
    return tuple(found.values())


def make_outline(buildfile: Buildfile, options: LowerOptions, bases: Mapping[BaseKey, Base]) -> Outline:
    """Resolve stage names and dependencies; BuildfileError for what can't be, located."""
    if not buildfile.stages:
        raise BuildfileError("the Buildfile has no stage", hint="start with a FROM instruction, for example: FROM debian:bookworm")
    return _Outliner(buildfile, options, bases).outline()


def needed_by(stages: Sequence[StageOutline], target: int, known: Container[int] = ()) -> frozenset[int]:
    """The stages that a target needs, itself among them, without those that are `known` already; UnsupportedError where one can't be
    built here."""
    seen: set[int] = set()
    pending = [target]
    while pending:
        index = pending.pop()
        if index in seen or index in known:
            continue
        seen.add(index)
        stage = stages[index]
        pending += [number for number, _ in stage.reads]
        if stage.parent is not None:
            pending.append(stage.parent)
    _refuse_windows(stages[index] for index in sorted(seen))
    return frozenset(seen)


class _Outliner:
    def __init__(self, buildfile: Buildfile, options: LowerOptions, bases: Mapping[BaseKey, Base]) -> None:
        self._buildfile = buildfile
        self._options = options
        self._bases = bases
        last = buildfile.stages[-1].origin.alias or ""
        self._arguments = global_arguments(buildfile.global_args, replace(options, target=options.target or last))
        self._origins: list[StageOutline] = []
        self._names: dict[str, int] = {}
        self._images: dict[str, int] = {}
        self._contexts: dict[str, str] = {}

    def outline(self) -> Outline:
        count = len(self._buildfile.stages)
        every_name = {(text.origin.alias or "").lower(): index for index, text in enumerate(self._buildfile.stages)}
        every_name.pop("", None)
        origins = [self._origin(index) for index in range(count)]
        extra: list[StageOutline] = []
        self._contexts |= {name: origins[index].files for name, index in every_name.items() if origins[index].replaced}
        self._contexts = {name: files for name, files in self._contexts.items() if files}
        for index, stage in enumerate(origins):
            if stage.replaced:
                continue
            instructions = self._triggers(stage, origins) + self._buildfile.stages[index].instructions
            reads = tuple(self._reads(index, instructions, every_name, count, extra))
            origins[index] = replace(stage, instructions=instructions, reads=reads)
        stages = tuple(origins + extra)
        target = self._target(every_name, count)
        names = every_name | {f"image {name}": index for name, index in self._images.items()}
        needed = needed_by(stages, target)
        return Outline(stages, target, needed, self._arguments, names, self._contexts)

    def _origin(self, index: int) -> StageOutline:
        origin = self._buildfile.stages[index].origin
        text = expand(origin.image.text, self._arguments, origin.escape, origin.image.span)
        if not text:
            raise BuildfileError(
                f"the base name {origin.image.text!r} is empty once its variables are replaced",
                at=origin.image.span,
                hint="only ARGs before the first FROM, with a default or --build-arg, reach FROM lines",
            )
        platform = self._platform(origin)
        parent = self._names.get(text.lower())
        if parent is not None:
            platform = self._origins[parent].platform
        elif text == SCRATCH:
            platform = self._options.platform
        made = self._stage(index, origin, text, parent, platform)
        self._origins.append(made)
        return made

    def _stage(self, index: int, origin: From, text: str, parent: int | None, platform: Platform) -> StageOutline:
        name = origin.alias or f"stage-{index}"
        if origin.alias:
            self._names[origin.alias.lower()] = index
            if (found := find_context(self._options.contexts, origin.alias.lower())) is not None:
                return replace(_of_context(index, name, *found, platform, origin.span), origin=origin, replaced=True)
        if parent is None and text != SCRATCH and (found := find_context(self._options.contexts, text)) is not None:
            return replace(_of_context(index, name, *found, platform, origin.span), origin=origin)
        image = None if parent is not None or text == SCRATCH else _reference(text, origin.image.span)
        return StageOutline(index, name, origin, parent, image, platform, (), (), origin.span)

    def _platform(self, origin: From) -> Platform:
        """What ``--platform`` says, else the platform to build for."""
        flag = origin.flag("platform")
        if flag is None:
            return self._options.platform
        text = expand(flag.value or "", self._arguments, origin.escape, flag.span)
        if not text:
            raise BuildfileError(
                f"the platform {flag.value or ''!r} is empty once its variables are replaced",
                at=flag.span,
                hint="only ARGs before the first FROM and the platform arguments, such as BUILDPLATFORM, reach FROM lines",
            )
        try:
            return parse_platform(text, self._options.build_platform or self._options.platform)
        except ImageError as error:
            raise BuildfileError(error.message, at=flag.span, hint=error.hint) from None

    def _triggers(self, stage: StageOutline, before: list[StageOutline]) -> tuple[Instruction, ...]:
        """What the stage's origin left for it by ONBUILD."""
        if stage.image is not None and (base := self._bases.get((stage.image, stage.platform))) is not None:
            try:
                return tuple(parse_trigger(text, f"ONBUILD of {stage.image.familiar()}") for text in base.config.on_build)
            except BuildfileError as error:
                error.hint = error.hint or f"the trigger comes from the base image {stage.image.familiar()}"
                raise
        if stage.parent is not None and before[stage.parent].replaced:
            return self._triggers(before[stage.parent], before)
        if stage.parent is not None:
            return tuple(item.trigger for item in self._buildfile.stages[stage.parent].instructions if isinstance(item, Onbuild))
        return ()

    def _reads(
        self, index: int, instructions: Iterable[Instruction], names: Mapping[str, int], count: int, extra: list[StageOutline]
    ) -> Iterable[tuple[int, Span]]:
        for text, span in source_names(instructions):
            if self._is_files(text, names):
                continue
            found = names.get(text.lower())
            if found is None and text.isascii() and text.isdigit():
                found = int(text)
                if found >= count:
                    raise BuildfileError(f"there is no stage {text}", at=span, hint=f"stages are numbered 0 to {count - 1}")
            if found is None:
                found = self._image_stage(text, span, count, extra)
            elif found >= index:
                raise self._too_late(index, found, span)
            yield found, span

    def _is_files(self, text: str, names: Mapping[str, int]) -> bool:
        """Whether a source is the files of a named context, which are read as they are; notes it."""
        if text.lower() in self._contexts:
            return True
        number = text.isascii() and text.isdigit()
        found = None if text.lower() in names or number or text == SCRATCH else find_context(self._options.contexts, text)
        if found is None or not found[1].files:
            return False
        self._contexts[text.lower()] = found[0]
        return True

    def _image_stage(self, text: str, span: Span, count: int, extra: list[StageOutline]) -> int:
        if text not in self._images:
            number = self._images[text] = count + len(extra)
            found = None if text == SCRATCH else find_context(self._options.contexts, text)
            if found is not None:
                extra.append(_of_context(number, text, *found, self._options.platform, span))
            else:
                image = None if text == SCRATCH else _reference(text, span)
                extra.append(StageOutline(number, text, None, None, image, self._options.platform, (), (), span))
        return self._images[text]

    def _too_late(self, index: int, found: int, span: Span) -> BuildfileError:
        origin = self._buildfile.stages[found].origin
        name = origin.alias or str(found)
        if found == index:
            return BuildfileError(f"the stage {name!r} copies from itself: that is a cycle", at=span)
        own = (self._buildfile.stages[index].origin.alias or "").lower()
        uses_own = any(text.lower() in (own, str(index)) for text, _ in source_names(self._buildfile.stages[found].instructions))
        if uses_own or (own and origin.image.text.lower() == own):
            return BuildfileError(f"the stages {own or index!r} and {name!r} need each other: that is a cycle", at=span)
        return BuildfileError(
            f"the stage {name!r} is defined after it is used here", at=span, hint=f"move 'FROM ... AS {name}' before this stage"
        )

    def _target(self, names: Mapping[str, int], count: int) -> int:
        target = self._options.target
        if not target:
            return count - 1
        if target.lower() in names:
            return names[target.lower()]
        if target.isascii() and target.isdigit() and int(target) < count:
            return int(target)
        hint = did_you_mean(target, names) or f"stages: {', '.join(sorted(names)) or 'none of the stages has a name'}"
        raise NotFoundError(f"there is no stage {target!r} in {self._buildfile.source.name}", hint=hint)


def source_names(instructions: Iterable[Instruction]) -> Iterable[tuple[str, Span]]:
    """What ``COPY --from`` and the ``from`` of mounts name, as written, and where."""
    for instruction in instructions:
        if isinstance(instruction, Copy) and (flag := instruction.flag("from")) is not None and flag.value:
            yield _literal(flag.value, "--from", flag.span), flag.span
        elif isinstance(instruction, Run):
            flags = [flag for flag in instruction.flags if flag.name == "mount"]
            for number, mount in enumerate(instruction.mounts):
                span = flags[number].span if number < len(flags) else instruction.span
                for key, value in mount:
                    if key == "from" and value:
                        yield _literal(value, "a mount's from", span), span


def _of_context(index: int, name: str, key: str, context: ContextKind, platform: Platform, span: Span) -> StageOutline:
    return StageOutline(index, name, None, None, context.image, platform, (), (), span, files=key if context.files else "")


def _literal(text: str, what: str, span: Span) -> str:
    if "$" in text:
        raise BuildfileError(
            f"variables are not replaced in {what}: {text!r}", at=span, hint="name a stage by FROM with a global ARG, and use its name here"
        )
    return text


def _reference(text: str, span: Span) -> Reference:
    try:
        return parse_reference(text)
    except ImageError as error:
        raise BuildfileError(error.message, at=span, hint=error.hint) from None


def _refuse_windows(needed: Iterable[StageOutline]) -> None:
    for stage in needed:
        if stage.platform.os == "windows":
            flag = stage.origin.flag("platform") if stage.origin is not None else None
            raise UnsupportedError(
                f"the stage {stage.name} is for {stage.platform}: its steps need Windows",
                at=flag.span if flag is not None else stage.span,
                hint="build it on Windows; a stage that the target does not need may stay in the file",
            )
