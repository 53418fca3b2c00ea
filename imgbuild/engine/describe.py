"""What a build can be asked for in its place: a check, an outline, its targets. Nothing is built, and no layer is fetched.

Of bases, only the configs are looked at. Where one can't be had, that is a notice: what depends on it is left out.
"""

from __future__ import annotations

from imgbuild.buildfile.instructions import Buildfile
from imgbuild.buildfile.plain import Plain, plain_dockerfile
from imgbuild.buildfile.rules import LintWarning
from imgbuild.engine.contexts import context_image
from imgbuild.engine.elsewhere import brought_in, is_elsewhere
from imgbuild.engine.includes import read_buildfile
from imgbuild.engine.invocation import Invocation
from imgbuild.engine.lint import ignores_of, make_linter, say_misspelt
from imgbuild.engine.lowering import base_of
from imgbuild.engine.request import BuildPlan, BuildRequest, make_plan
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import BuildfileError, ImgbuildError, NotFoundError, Source
from imgbuild.graph.describe import Description, Target, describe, list_targets
from imgbuild.graph.ops import Base, BaseKey, ContextImage
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import BaseNeed, make_outline
from imgbuild.hints import Callable, Iterator
from imgbuild.light.contextlib import contextmanager
from imgbuild.oci.config import RunConfig
from imgbuild.oci.digest import Digest
from imgbuild.solve.events import Notice
from imgbuild.values import dataclass, replace

_ANY = Digest("sha256:" + "0" * 64)
OnEvent = Callable[[object], None]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What lint and the first error of lowering say of a Buildfile. `source` is None where it could not even be parsed."""

    warnings: tuple[LintWarning, ...]
    error: ImgbuildError | None
    source: Source | None


def check(invocation: Invocation, request: BuildRequest, on_event: OnEvent) -> CheckResult:
    """Lint the target, or without one all stages, and find what a build would be refused for."""
    with _asked(invocation, request, on_event) as (here, plan, opened):
        try:
            buildfile = read_buildfile(plan.source, plan.options.build_args)
        except BuildfileError as error:
            return CheckResult((), error, None)
        with _workplace(invocation, opened) as place:
            return _check(place, here, plan, buildfile, on_event)


def outline(invocation: Invocation, request: BuildRequest, on_event: OnEvent) -> tuple[Description, Source]:
    """What the target takes."""
    with _asked(invocation, request, on_event) as (here, plan, opened):
        buildfile = read_buildfile(plan.source, plan.options.build_args)
        with _workplace(invocation, opened) as place:
            bases = _Bases(place, here, plan, on_event).find(buildfile, plan.options)
            return describe(buildfile, make_outline(buildfile, plan.options, bases), plan.options, bases), buildfile.source


def targets(invocation: Invocation, request: BuildRequest, on_event: OnEvent) -> tuple[tuple[Target, ...], Source]:
    """The stages that can be built."""
    with _asked(invocation, request, on_event) as (_, plan, _):
        buildfile = read_buildfile(plan.source, plan.options.build_args)
    return list_targets(buildfile), buildfile.source


def dockerfile(invocation: Invocation, request: BuildRequest, on_event: OnEvent) -> Plain:
    """The plain Dockerfile that the Buildfile amounts to."""
    with _asked(invocation, request, on_event) as (_, plan, _):
        return plain_dockerfile(read_buildfile(plan.source, plan.options.build_args), plan.source.text)


@contextmanager
def _asked(
    invocation: Invocation, request: BuildRequest, on_event: OnEvent
) -> Iterator[tuple[BuildRequest, BuildPlan, Workplace | None]]:
    """The request and its plan; with a workplace where the context had to be brought in."""
    if not is_elsewhere(request.context):
        yield request, make_plan(invocation, request), None
        return
    with workplace(invocation) as place, place.store.lease(), brought_in(place, request, on_event) as here:
        yield here, make_plan(invocation, here), place


@contextmanager
def _workplace(invocation: Invocation, opened: Workplace | None) -> Iterator[Workplace]:
    if opened is not None:
        yield opened
        return
    with workplace(invocation, snapshots=False) as place, place.store.lease():
        yield place


def _check(place: Workplace, request: BuildRequest, plan: BuildPlan, buildfile: Buildfile, on_event: OnEvent) -> CheckResult:
    from imgbuild.buildfile.lint import lint_text
    from imgbuild.graph.lint import lint_origins, lint_stages

    options, error = plan.options, None
    every = not options.target
    try:
        linter = make_linter(buildfile, options)
    except BuildfileError as refused:
        return CheckResult((), refused, buildfile.source)
    say_misspelt(buildfile, linter, on_event)
    lint_text(buildfile, linter)
    bases = _Bases(place, request, plan, on_event)
    for each in plan.targets:  # one a platform
        lint_origins(buildfile, each, linter)
        try:
            known = bases.find(buildfile, each, every)
            found = make_outline(buildfile, each, known)
            lint_stages(buildfile, found, each, known, linter, ignores_of(plan.source.ignore), every)
            if not bases.missing:
                _lower(buildfile, each, known, every)
        except (BuildfileError, NotFoundError) as refused:
            error = error or refused
    return CheckResult(tuple(dict.fromkeys(linter.warnings)), error, buildfile.source)


def _lower(buildfile: Buildfile, options: LowerOptions, bases: dict[BaseKey, Base], every: bool) -> None:
    """Raise what lowering the target, or each stage, would; what is only copied from may be any image."""
    from imgbuild.buildfile.lint import written
    from imgbuild.graph.lower import lower, lower_every

    read = {stage.base for stage in make_outline(buildfile, options, bases).stages if stage.base is not None}
    bases = {(name, platform): Base(name.familiar(), _ANY, platform, RunConfig(), ()) for name, platform in read} | bases
    texts = [*(item.text for item in written(buildfile)), *(text for base in bases.values() for text in base.config.on_build)]
    named = any("TARGETSTAGE" in text for text in texts)
    if not every:
        lower(buildfile, options, bases)
    elif not named:
        lower_every(buildfile, options, bases)
    else:  # a stage may be another one for each target
        lowered: set[int] = set()
        for index in reversed(range(len(buildfile.stages))):
            if index not in lowered:
                lowered |= lower(buildfile, replace(options, target=str(index)), bases).stages.keys()


class _Bases:
    """Finds bases, each once: in the store, else their configs in a registry."""

    def __init__(self, place: Workplace, request: BuildRequest, plan: BuildPlan, on_event: OnEvent) -> None:
        from imgbuild.engine.registries import make_puller
        from imgbuild.transfer.pull import PullPolicy

        self.missing: set[BaseKey] = set()
        self._place = place
        self._plan = plan
        self._policy = PullPolicy(request.pull)
        self._puller = make_puller(place, on_event, offline=request.pull == "never")
        self._on_event = on_event

    def find(self, buildfile: Buildfile, options: LowerOptions, every: bool = False) -> dict[BaseKey, Base]:
        """The bases of the stages that the target needs, or of all; those that could not be had are `missing` then."""
        bases: dict[BaseKey, Base] = {}
        while True:
            found = make_outline(buildfile, options, bases)
            wanted = [
                BaseNeed(*stage.base, stage.span)
                for stage in found.stages
                # Of what is only copied from, nothing is asked.
                if stage.base is not None and stage.origin is not None and (every or stage.index in found.needed)
                if stage.base not in self.missing and stage.base not in bases
            ]
            if not wanted:
                return bases
            for need in wanted:
                if (base := self._base(need)) is not None:
                    bases[need.key] = base

    def _base(self, need: BaseNeed) -> Base | None:
        try:
            if isinstance(need.reference, ContextImage):
                return base_of(need, context_image(self._place, self._plan.contexts[need.reference.name], need.platform))
            return base_of(need, self._puller.resolve(need.reference, need.platform, self._policy))
        except ImgbuildError as error:
            self.missing.add(need.key)
            self._on_event(Notice(f"what depends on {need.reference.familiar()} is left out: {error.message}"))
            return None
