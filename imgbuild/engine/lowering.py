"""From a request to the graph of what is to be done: the Buildfile is read, its bases are found, and it is lowered."""

from __future__ import annotations

from imgbuild.buildfile.instructions import Buildfile
from imgbuild.buildfile.parser import parse_trigger
from imgbuild.engine.includes import read_buildfile
from imgbuild.engine.lint import BuildLint
from imgbuild.engine.request import BuildPlan, BuildRequest
from imgbuild.engine.step_options import run_limits
from imgbuild.engine.workplace import Workplace
from imgbuild.errors import ImgbuildError
from imgbuild.graph.arguments import unused_arguments
from imgbuild.graph.lower import lower
from imgbuild.graph.ops import Base, BaseKey, BuildGraph, ContextImage, Limits
from imgbuild.graph.options import LowerOptions
from imgbuild.graph.outline import BaseNeed, base_references
from imgbuild.hints import TYPE_CHECKING, Callable, Mapping
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import Reference
from imgbuild.solve.events import Notice
from imgbuild.values import replace

if TYPE_CHECKING:
    from imgbuild.engine.build import OnEvent
    from imgbuild.engine.contexts import ContextBase, NamedContext
    from imgbuild.transfer.images import Image
    from imgbuild.transfer.pull import Puller


def lowered_graph(
    place: Workplace, request: BuildRequest, plan: BuildPlan, on_event: OnEvent, *, layers: bool = True,
    images: Callable[[Workplace, NamedContext, Platform], ContextBase] | None = None,
) -> BuildGraph:  # fmt: skip
    """Bring the bases into the store, as far as the Buildfile needs them, and lower. Without `layers`, of bases that are not here only
    the configs are asked for. `images` finds what named contexts are."""
    buildfile = read_buildfile(plan.source, plan.options.build_args)
    limits = run_limits(request, place.settings.limits or Limits())
    targets = tuple(replace(options, limits=limits) for options in plan.targets)
    bases: dict[BaseKey, Base] = {}
    lint = BuildLint(buildfile, plan.options, plan.source.ignore, on_event)
    for options in targets:
        lint.check_text(options)
    puller: Puller | None = None
    for options in targets:
        while needs := base_references(buildfile, options, bases):
            if puller is None:
                from imgbuild.engine.registries import make_puller

                puller = make_puller(place, on_event, offline=request.pull == "never", lowers=layers)
            for need in needs:
                try:
                    if isinstance(need.reference, ContextImage):
                        image: ContextBase = (images or _of_context)(place, plan.contexts[need.reference.name], need.platform)
                    else:
                        image = _pull_base(place, puller, need.reference, need.platform, request.pull, layers)
                except ImgbuildError as error:
                    from imgbuild.engine.meant import with_near_stage

                    raise with_near_stage(error, need, buildfile).located(need.span) from None
                bases[need.key] = base_of(need, image)
    _say_unused(buildfile, plan.options, bases, on_event)
    for options in targets:
        lint.check_stages(options, bases)
    graphs = [lower(buildfile, options, bases) for options in targets]
    if len(graphs) == 1:
        graph = graphs[0]
    else:
        from imgbuild.graph.merge import merge

        graph = merge(graphs)
    if plan.leaks is not None:
        from imgbuild.engine.leaks import check_words

        check_words(plan.leaks, graph, plan)
    return graph


def _of_context(place: Workplace, context: NamedContext, platform: Platform) -> ContextBase:
    from imgbuild.engine.contexts import context_image

    return context_image(place, context, platform)


def base_of(need: BaseNeed, image: ContextBase) -> Base:
    """An image as the base that was needed."""
    return Base(
        name=need.reference.familiar(),
        digest=image.descriptor.digest,
        platform=image.config.platform,
        config=image.config.config,
        layers=image.layers,
        history=image.config.history,
        created=image.config.created,
        author=image.config.author,
    )


def _say_unused(buildfile: Buildfile, options: LowerOptions, bases: Mapping[BaseKey, Base], on_event: OnEvent) -> None:
    """A build argument that nothing declares is a slip more often than not."""
    triggers = [parse_trigger(text, base.name) for base in bases.values() for text in base.config.on_build]
    names = {name for number, stage in enumerate(buildfile.stages) for name in (stage.origin.alias, f"stage-{number}") if name}
    if unknown := sorted(options.stale - names):
        on_event(Notice(f"no stage has the name that --no-cache-filter gives: {', '.join(unknown)}"))
    unused = unused_arguments(buildfile, options, triggers)
    if unused:
        from imgbuild.engine.meant import with_near_arguments

        on_event(Notice(f"no ARG declares what --build-arg gives: {', '.join(with_near_arguments(unused, buildfile))}"))


def _pull_base(place: Workplace, puller: Puller, reference: Reference, platform: Platform, policy: str, layers: bool) -> Image:
    from imgbuild.transfer.pull import PullPolicy

    image = puller.resolve(reference, platform, PullPolicy(policy), strict=False)
    if not layers:
        return image
    if not image.complete(place.store):
        # Layers are fetched by threads, and steps will surely be performed.
        place.start_zygote()
    puller.fetch(image)
    puller.name(reference, image, beside=True)
    return image
