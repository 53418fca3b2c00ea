"""What a build is asked for beside its Buildfile. Light: a build that knows its graph needs no more of the language."""

from __future__ import annotations

from imgbuild.graph.contexts import Contexts
from imgbuild.graph.ops import Limits, RunDefaults
from imgbuild.hints import Mapping
from imgbuild.oci.platform import Platform
from imgbuild.values import dataclass, field

PROXY_ARGUMENTS = frozenset(
    name for plain in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy") for name in (plain, plain.upper())
)
"""Given without being declared, seen by RUN, in no key and in no image."""


@dataclass(frozen=True, slots=True)
class LowerOptions:
    """What a build was asked for beside its Buildfile. `platform` is the one to build for, `build_platform` the one to build on (None:
    the same). `explicit`: the target's image says that it is for `platform`, whatever its base is for; `several`: the build has other
    platforms beside this one. `epoch` is the explicit one (SOURCE_DATE_EPOCH), in seconds; `limits` are those of every RUN that names
    none of its own; `contexts` are the named ones; `stale` are the stages whose steps are performed in any case, in lower case."""

    platform: Platform
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    epoch: int | None = None
    no_cache: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    limits: Limits = Limits()
    contexts: Contexts = field(default_factory=dict)
    run: RunDefaults = RunDefaults()
    build_platform: Platform | None = None
    explicit: bool = False
    several: bool = False
    stale: frozenset[str] = frozenset()


def proxy_environment(build_args: Mapping[str, str]) -> tuple[str, ...]:
    """The predefined proxy arguments that were given, as ``NAME=value``."""
    return tuple(f"{name}={value}" for name, value in sorted(build_args.items()) if name in PROXY_ARGUMENTS)


def proxy_passwords(build_args: Mapping[str, str]) -> tuple[str, ...]:
    """The passwords in the URLs of proxies that were given."""
    users = (value.rpartition("@")[0].rpartition("//")[2] for name, value in build_args.items() if name in PROXY_ARGUMENTS)
    return tuple(filter(None, (user.partition(":")[2] for user in users)))
