"""Which platforms a build is for: ``--platform``, the environment, and the build arguments that have a say in it."""

from __future__ import annotations

from imgbuild.engine.machine import this_platform
from imgbuild.errors import ImageError, UnsupportedError, UsageError
from imgbuild.hints import Mapping
from imgbuild.oci.platform import Platform, parse_platform

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


def chosen_platforms(texts: tuple[str, ...], environ: Mapping[str, str]) -> tuple[Platform, ...]:
    """The platforms of ``--platform``, each with several between commas, else of $DOCKER_DEFAULT_PLATFORM; none where neither is given."""
    option = "--platform" if texts else "DOCKER_DEFAULT_PLATFORM"
    given = texts or tuple(filter(None, (environ.get("DOCKER_DEFAULT_PLATFORM"),)))
    found: dict[Platform, None] = {}
    for text in (part.strip() for texts in given for part in texts.split(",")):
        try:
            platform = parse_platform(text, this_platform())
        except ImageError as error:
            raise UsageError(f"{option}: {error.message}", hint=error.hint) from None
        if platform.os != "linux":
            raise UnsupportedError(f"{option} {text}: only images for Linux can be built")
        found[platform] = None
    return tuple(found)


def makes_index(build_args: Mapping[str, str], platforms: tuple[Platform, ...]) -> bool:
    """Whether the result is an index: of several platforms always, of one where it is asked for."""
    index = switch(build_args, "BUILDKIT_MULTI_PLATFORM", len(platforms) > 1)
    if len(platforms) > 1 and not index:
        raise UsageError("--build-arg BUILDKIT_MULTI_PLATFORM=false and several platforms contradict each other")
    return index


def switch(build_args: Mapping[str, str], name: str, default: bool) -> bool:
    """A build argument for the builder that is true or false, in Go's words for it."""
    text = build_args.get(name)
    if text is None:
        return default
    if text not in _TRUE + _FALSE:
        raise UsageError(f"--build-arg {name}={text} is neither true nor false")
    return text in _TRUE
