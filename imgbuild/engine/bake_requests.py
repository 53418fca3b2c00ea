"""What a target of a build file asks of a build: its keys as the options of `imgbuild build`."""

from __future__ import annotations

import posixpath

from imgbuild.bake.target import Target
from imgbuild.engine.elsewhere import is_elsewhere
from imgbuild.engine.request import BuildRequest
from imgbuild.errors import BuildfileError, UnsupportedError, UsageError
from imgbuild.hints import Callable

_PULLS = {"true": "always", "1": "always", "false": "missing", "0": "missing"}
_PULLS |= {policy: policy for policy in ("missing", "always", "newer", "never")}


def request_of(target: Target, allowed: tuple[str, ...], notice: Callable[[str], None]) -> BuildRequest:
    """The build of one target; an error stands at the key that asks for what can't be done. `allowed` are the rights that the command
    line grants: a build file only says which ones it wants."""
    _refuse_others(target)
    for key in ("cache-from", "cache-to"):
        if target.values.get(key):
            notice(f"{target.at(key)}: {key} is left out: steps are found in the store")
    context = target.text("context") or target.home
    inline = target.text("dockerfile-inline")
    return BuildRequest(
        context=context,
        file=_file(target, context),
        text=inline.encode() if inline is not None else None,
        tags=target.texts("tags"),
        build_args=_words(target, "args"),
        target=target.text("target") or "",
        no_cache=target.flag("no-cache"),
        pull=_pull(target),
        outputs=target.texts("output"),
        secrets=target.texts("secret"),
        ssh=target.texts("ssh"),
        allow=_rights(target, allowed),
        hosts=tuple(f"{name}:{address}" for name, texts in target.pairs("extra-hosts").items() for address in (texts or "").split(",")),
        network=target.text("network") or "default",
        shm_size=target.text("shm-size"),
        ulimits=target.texts("ulimits"),
        labels=tuple(f"{name}={value or ''}" for name, value in target.pairs("labels").items()),
        annotations=target.texts("annotations"),
        no_cache_filter=target.texts("no-cache-filter"),
        platforms=target.texts("platforms"),
        source_date_epoch=target.text("source-date-epoch"),
        compression=_compression(target),
        contexts=tuple(f"{name}={_context(value)}" for name, value in target.pairs("contexts").items() if value),
    )


def _refuse_others(target: Target) -> None:
    if target.text("call") not in (None, "", "build"):
        raise UnsupportedError("a target can only be built here", at=target.at("call"), hint="leave call out")
    for attest in target.texts("attest"):
        if "disabled=true" not in attest.split(","):
            raise UnsupportedError(f"the attestation {attest!r} can't be made here", at=target.at("attest"))


def _rights(target: Target, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The rights that the target wants."""
    host = target.text("network") == "host"
    wanted = (*target.texts("entitlements"), *(("network.host",) if host else ()))
    for word in wanted:
        if word not in allowed and word.partition("=")[0] not in allowed:
            key = "network" if host and word == "network.host" else "entitlements"
            raise UsageError(f"the target {target.name} wants {word}", at=target.at(key), hint=f"grant it with --allow {word}")
    return tuple(dict.fromkeys(wanted))


def _words(target: Target, key: str) -> tuple[str, ...]:
    """NAME=VALUE, or NAME for one whose value is the environment's."""
    return tuple(name if value is None else f"{name}={value}" for name, value in target.pairs(key).items())


def _file(target: Target, context: str) -> str | None:
    """The Buildfile's path, which is meant from the context; the name that an inline one is known by."""
    name = target.text("dockerfile")
    if target.text("dockerfile-inline") is not None:
        return f"{target.span.source.name}[{target.name}]"
    if not name or is_elsewhere(context):
        return name or None
    return posixpath.normpath(posixpath.join(context, name))


def _context(value: str) -> str:
    """What another target leaves is an image of the store, which is known when that was built."""
    return f"store-image://{value.removeprefix('target:')}" if value.startswith("target:") else value


def _pull(target: Target) -> str:
    text = target.text("pull") or "missing"
    policy = _PULLS.get(text.lower())
    if policy is None:
        raise BuildfileError(
            f"pull can't be {text!r}", at=target.at("pull"), hint="it is true, false, or one of missing, always, newer, never"
        )
    return policy


def _compression(target: Target) -> str | None:
    text = target.text("compression")
    if text not in (None, "zstd", "gzip", "none"):
        raise BuildfileError(f"compression can't be {text!r}", at=target.at("compression"), hint="it is one of zstd, gzip, none")
    return text
