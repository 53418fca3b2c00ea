"""What ``imgbuild build`` was asked for: its options as they were given, and checked, before anything is started."""

from __future__ import annotations

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.machine import this_platform
from imgbuild.engine.platforms import chosen_platforms, makes_index
from imgbuild.engine.source import BuildSource, find_source
from imgbuild.engine.step_options import looked_for, read_agents, read_secrets, run_defaults
from imgbuild.engine.worktree import commit_time
from imgbuild.errors import ImageError, UsageError
from imgbuild.graph.options import LowerOptions
from imgbuild.hints import TYPE_CHECKING, Mapping
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import Reference, parse_reference
from imgbuild.values import dataclass, replace

if TYPE_CHECKING:
    from imgbuild.engine.annotations import Annotation
    from imgbuild.engine.contexts import NamedContext
    from imgbuild.engine.output_options import Output
    from imgbuild.layer.leaks import Leaks
    from imgbuild.solve.agents import Agent
    from imgbuild.solve.secrets import Secret


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What ``imgbuild build`` was asked for, as its options say it."""

    context: str = "."
    file: str | None = None
    text: bytes | None = None
    """The Buildfile itself; `file` is then the name it is known by."""
    tags: tuple[str, ...] = ()
    build_args: tuple[str, ...] = ()
    target: str = ""
    no_cache: bool = False
    pull: str = "missing"
    outputs: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    ssh: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    network: str = "default"
    shm_size: str | None = None
    ulimits: tuple[str, ...] = ()
    cgroup_parent: str = ""
    memory: str | None = None
    memory_swap: str | None = None
    cpu_period: str | None = None
    cpu_quota: str | None = None
    failure_dir: str | None = None
    labels: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    no_cache_filter: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    source_date_epoch: str | None = None
    compression: str | None = None
    parallel: int | None = None
    iidfile: str | None = None
    metadata_file: str | None = None
    contexts: tuple[str, ...] = ()
    replay_logs: bool = False
    source: BuildSource | None = None
    """What the context and the Buildfile are, where that is known already: a context that was brought in."""


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """A request, checked before anything is started. `targets` has one entry a platform; with `index`, the result is an index of them."""

    source: BuildSource
    names: tuple[Reference, ...]
    outputs: tuple[Output, ...]
    targets: tuple[LowerOptions, ...]
    index: bool
    secrets: Mapping[str, Secret]
    agents: Mapping[str, Agent]
    created: int | None
    contexts: Mapping[str, NamedContext]
    annotations: tuple[Annotation, ...]
    leaks: Leaks | None
    """What looks for the secrets, where any were given."""

    @property
    def options(self) -> LowerOptions:
        """The options for the first platform; all others but the platform's are the same."""
        return self.targets[0]


def make_plan(invocation: Invocation, request: BuildRequest) -> BuildPlan:
    source = request.source or find_source(request.context, request.file, request.text)
    platforms = chosen_platforms(request.platforms, invocation.environ)
    build_args = _build_args(request.build_args, invocation.environ)
    epoch = explicit_epoch(request.source_date_epoch or build_args.get("SOURCE_DATE_EPOCH"), invocation.environ)
    if epoch is not None:
        build_args["SOURCE_DATE_EPOCH"] = str(epoch)  # for the Buildfile that declares it
    labels = tuple(_pair(text, "--label") for text in request.labels)
    index = makes_index(build_args, platforms)
    options = LowerOptions(
        platform=this_platform(), build_args=build_args, target=request.target, epoch=epoch, no_cache=request.no_cache, labels=labels,
        run=run_defaults(request, build_args), build_platform=this_platform(), explicit=bool(platforms), several=index,
        stale=_stages(request.no_cache_filter),
    )  # fmt: skip
    contexts = _contexts(request.contexts)
    options = replace(options, contexts={name: context.seen() for name, context in contexts.items()})
    targets = tuple(replace(options, platform=platform) for platform in platforms or (options.platform,))
    names = tuple(dict.fromkeys(_name(text) for text in request.tags))
    time = source.time if source.fetched else commit_time(source.context, invocation.environ)
    created = epoch if epoch is not None else time
    secrets, agents = read_secrets(request.secrets, invocation.environ), read_agents(request.ssh, invocation.environ)
    outputs = _outputs(request.outputs, names, index)
    annotations = _annotations(request.annotations, outputs, tuple(options.platform for options in targets), index)
    leaks = looked_for(request.allow, secrets)
    return BuildPlan(source, names, outputs, targets, index, secrets, agents, created, contexts, annotations, leaks)


# What most builds are not asked for is not even imported.


def _contexts(texts: tuple[str, ...]) -> Mapping[str, NamedContext]:
    if not texts:
        return {}
    from imgbuild.engine.contexts import parse_contexts

    return parse_contexts(texts)


def _outputs(texts: tuple[str, ...], names: tuple[Reference, ...], index: bool) -> tuple[Output, ...]:
    if not texts:
        return ()
    from imgbuild.engine.output_options import parse_outputs, refuse_single

    outputs = parse_outputs(texts)
    if any(output.push and not (output.names or names) for output in outputs):
        raise UsageError("a push needs a name", hint="give one with --tag")
    if index:
        refuse_single(outputs)
    return outputs


def _annotations(
    texts: tuple[str, ...], outputs: tuple[Output, ...], platforms: tuple[Platform, ...], index: bool
) -> tuple[Annotation, ...]:
    if not texts and not outputs:
        return ()
    from imgbuild.engine.annotations import check_annotations, parse_annotations

    annotations = parse_annotations(texts)
    check_annotations((*annotations, *(annotation for output in outputs for annotation in output.annotations)), platforms, index)
    return annotations


def _stages(texts: tuple[str, ...]) -> frozenset[str]:
    """The stages of ``--no-cache-filter``, each with several between commas, in lower case."""
    return frozenset(name.strip().lower() for text in texts for name in text.split(",") if name.strip())


def explicit_epoch(option: str | None, environ: Mapping[str, str]) -> int | None:
    """The time that an option or $SOURCE_DATE_EPOCH sets, in seconds since 1970; None where neither does."""
    text = option or environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 11):
        raise UsageError(f"SOURCE_DATE_EPOCH={text} is not a number of seconds since 1970")
    return int(text)


def _name(text: str) -> Reference:
    try:
        reference = parse_reference(text)
    except ImageError as error:
        raise UsageError(f"--tag {text}: {error.message}", hint=error.hint) from None
    if reference.digest is not None:
        raise UsageError(f"--tag {text}: a name for an image can't have a digest")
    return reference


def _build_args(texts: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"--build-arg {text!r} has no name")
        if equals:
            found[name] = value
        elif name in environ:
            found[name] = environ[name]
    return found


def _pair(text: str, option: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name:
        raise UsageError(f"{option} {text!r} has no name")
    return name, value
