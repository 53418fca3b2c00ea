"""Options of docker buildx that change nothing here, or can't be kept: scripts move over, and are told what they don't get."""

from __future__ import annotations

from imgbuild.cli.declare import option
from imgbuild.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FALSE = ("0", "f", "false")
_HIDDEN_SWITCHES = ("compress", "force-rm", "disable-content-trust")
_PROCESSORS = ("cpu-shares", "cpuset-cpus", "cpuset-mems")
_ATTESTATIONS = "images are made without attestations here; add them with a tool of your own, or say --{}"


def buildx_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options as decorators of the command; `check_buildx_options` takes them out again."""
    decorators = [
        option("--provenance", metavar="false", hidden=True, help="Accepted where it is false: there are no attestations."),
        option("--sbom", metavar="false", hidden=True, help="As --provenance."),
        option("--attest", multiple=True, hidden=True, help="As --provenance."),
        option("--cache-from", multiple=True, hidden=True, help="Accepted: steps are found in the store."),
        option("--cache-to", multiple=True, hidden=True, help="Accepted where it is inline: steps are kept in the store."),
        option("--builder", hidden=True, help="Accepted: there is no builder to be chosen."),
        option("--load", is_flag=True, hidden=True, help="Accepted: what is built is always in the store."),
        option("--rm/--no-rm", default=True, hidden=True, help="Accepted: a step leaves no container."),
        option("--isolation", default="default", hidden=True, help="Accepted where it is default."),
        option("--squash", is_flag=True, hidden=True),
        option("--security-opt", multiple=True, hidden=True),
        *(option(f"--{name}", hidden=True) for name in _PROCESSORS),
        *(option(f"--{name}", is_flag=True, hidden=True, help="Accepted: without effect.") for name in _HIDDEN_SWITCHES),
    ]
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def check_buildx_options(options: dict[str, Any]) -> list[str]:
    """Take the options out; what the user should know of them. UsageError for what can't be had."""
    for name in ("builder", "load", "rm", *(name.replace("-", "_") for name in _HIDDEN_SWITCHES)):
        options.pop(name)
    for name in ("provenance", "sbom"):
        value = options.pop(name)
        if value is not None and not _is_off(value):
            raise UsageError(f"--{name}={value} can't be had", hint=_ATTESTATIONS.format(f"{name}=false"))
    for value in options.pop("attest"):
        if not _is_off(value):
            kind = "sbom" if "type=sbom" in value.split(",") else "provenance"
            raise UsageError(f"--attest={value} can't be had", hint=_ATTESTATIONS.format(f"attest=type={kind},disabled=true"))
    if options.pop("squash"):
        raise UsageError("--squash can't be had", hint="copy what is wanted into a last stage: FROM scratch, COPY --from=... / /")
    if options.pop("security_opt"):
        raise UsageError("--security-opt can't be had", hint="RUN --security=insecure, with --allow security.insecure, is what there is")
    for name in _PROCESSORS:
        if options.pop(name.replace("-", "_")) is not None:
            raise UsageError(f"--{name} can't be had", hint="--cpu-quota, or RUN --cpus, says how much of the processors a step may use")
    if (isolation := options.pop("isolation")) != "default":
        raise UsageError(f"--isolation={isolation} is for Windows", hint="leave it out")
    return _check_caches(options)


def _is_off(value: str) -> bool:
    fields = dict(part.partition("=")[::2] for part in value.split(","))
    return value.lower() in _FALSE or fields.get("disabled", "false").lower() in ("true", "1", "")


def _check_caches(options: dict[str, Any]) -> list[str]:
    notices = []
    if options.pop("cache_from"):
        notices.append("--cache-from is not read: steps are found in the store")
    for value in options.pop("cache_to"):
        kind = dict(part.partition("=")[::2] for part in value.split(",")).get("type", "registry")
        if kind != "inline":
            raise UsageError(
                f"--cache-to={value} can't be had: steps are kept in the store", hint="keep $IMGBUILD_ROOT from one run to the next"
            )
        notices.append("--cache-to=type=inline has no effect: steps are kept in the store")
    return notices
