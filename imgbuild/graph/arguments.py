"""Build arguments: the predefined ones, the ones before the first FROM, and what the command line gives.

Source: Dockerfile reference, "ARG", "Automatic platform ARGs in the global scope", "Predefined ARGs".
"""

from __future__ import annotations

from imgbuild.buildfile.expand import expand
from imgbuild.buildfile.instructions import Arg, Buildfile, Instruction, Onbuild
from imgbuild.graph.options import PROXY_ARGUMENTS, LowerOptions
from imgbuild.hints import Iterable

_FOR_THE_BUILDER = frozenset((
    "BUILDKIT_SYNTAX", "BUILDKIT_DOCKERFILE_CHECK", "BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_SANDBOX_HOSTNAME", "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM", "BUILDKIT_CONTEXT_KEEP_GIT_DIR", "BUILDKIT_BUILD_NAME", "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "SOURCE_DATE_EPOCH",
))  # fmt: skip
"""Given without being declared, for the builder itself. An image need not carry its cache here: the store has it."""


def platform_arguments(options: LowerOptions) -> dict[str, str]:
    """The arguments that every Buildfile may declare without a value: where it is built, and for what."""
    arguments: dict[str, str] = {}
    for side, platform in (("BUILD", options.build_platform or options.platform), ("TARGET", options.platform)):
        arguments[f"{side}PLATFORM"] = str(platform)
        arguments[f"{side}OS"] = platform.os
        arguments[f"{side}OSVERSION"] = ""
        arguments[f"{side}ARCH"] = platform.architecture
        arguments[f"{side}VARIANT"] = platform.variant
    arguments["TARGETSTAGE"] = options.target or "default"
    return arguments


def global_arguments(declared: Iterable[Arg], options: LowerOptions) -> dict[str, str]:
    """The values that FROM lines see: predefined ones, then the ARGs before the first FROM in order."""
    values = platform_arguments(options)
    values |= {name: value for name, value in options.build_args.items() if name in values}
    for instruction in declared:
        for word, default in instruction.pairs:
            name = expand(word.text, values, instruction.escape, word.span)
            if name in options.build_args:
                values[name] = options.build_args[name]
            elif default is not None:
                values[name] = expand(default.text, values, instruction.escape, default.span)
    return values


def unused_arguments(buildfile: Buildfile, options: LowerOptions, triggers: Iterable[Instruction] = ()) -> tuple[str, ...]:
    """The build arguments that were given and that no ARG declares, in any stage or in the `triggers` of a base, sorted."""
    declared = set(PROXY_ARGUMENTS) | _FOR_THE_BUILDER | set(platform_arguments(options))
    instructions = (*buildfile.global_args, *(item for stage in buildfile.stages for item in stage.instructions), *triggers)
    for item in instructions:
        inner = item.trigger if isinstance(item, Onbuild) else item
        if isinstance(inner, Arg):
            declared.update(word.text for word, _ in inner.pairs)
    return tuple(sorted(name for name in options.build_args if name not in declared))
