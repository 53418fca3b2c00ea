"""The flags of each instruction: which are known, how often each may stand, and what their values look like.

Values with a variable in them are checked by whoever expands them.
"""

from __future__ import annotations

from imgbuild.buildfile.instructions import Flag
from imgbuild.buildfile.quantities import parse_count, parse_cpus, parse_duration, parse_io_weight, parse_size
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.buildfile.words import Slice
from imgbuild.errors import BuildfileError, Span
from imgbuild.hints import Callable
from imgbuild.light.enum import Enum


class Kind(Enum):
    SWITCH = "switch"  # --link, --link=false
    SINGLE = "single"  # --from=x
    SEVERAL = "several"  # --mount=x --mount=y


_S = Kind.SINGLE
_RUN_LIMITS = (
    "memory",
    "memory-swap",
    "cpus",
    "pids",
    "timeout",
    "idle-timeout",
    "retry",
    "io-weight",
    "io-read-bps",
    "io-write-bps",
    "io-read-iops",
    "io-write-iops",
)

_RUN: dict[str, Kind] = {
    "mount": Kind.SEVERAL,
    "network": _S,
    "security": _S,
    "device": Kind.SEVERAL,
    **dict.fromkeys(_RUN_LIMITS, _S),
    "on-failure": Kind.SEVERAL,
}

KNOWN: dict[str, dict[str, Kind]] = {
    "FROM": {"platform": _S},
    "RUN": _RUN,
    "TEST": _RUN,
    "COPY": {
        "from": _S,
        "chown": _S,
        "chmod": _S,
        "link": Kind.SWITCH,
        "parents": Kind.SWITCH,
        "exclude": Kind.SEVERAL,
        "optional": Kind.SWITCH,
    },
    "ADD": {
        "chown": _S,
        "chmod": _S,
        "link": Kind.SWITCH,
        "keep-git-dir": Kind.SWITCH,
        "checksum": _S,
        "exclude": Kind.SEVERAL,
        "unpack": Kind.SWITCH,
    },
    "HEALTHCHECK": dict.fromkeys(("interval", "timeout", "start-period", "start-interval", "retries"), _S),
}


def read_flags(instruction: str, words: tuple[Slice, ...], span: Callable[[int, int], Span]) -> tuple[Flag, ...]:
    """The flags that `words` are, in order; raises at the first that is unknown, repeated, or has a wrong value."""
    known = KNOWN.get(instruction, {})
    flags: list[Flag] = []
    seen: set[str] = set()
    for word in words:
        at = span(word.start, word.end)
        name, equals, value = word.text[2:].partition("=")
        kind = known.get(name)
        if kind is None:
            hint = did_you_mean(f"--{name}", (f"--{flag}" for flag in known))
            if not known:
                hint = f"{instruction} has no flags; write -- before arguments that begin with --"
            raise BuildfileError(f"{instruction} has no flag --{name}", at=at, hint=hint)
        if name in seen and kind is not Kind.SEVERAL:
            raise BuildfileError(f"a second --{name}", at=at, hint=f"{instruction} takes it once")
        seen.add(name)
        flag = Flag(name, value if equals else None, at)
        _check(instruction, flag, kind)
        flags.append(flag)
    return tuple(flags)


def _check(instruction: str, flag: Flag, kind: Kind) -> None:
    if kind is Kind.SWITCH:
        if flag.value is not None and flag.value.lower() not in ("true", "false"):
            raise BuildfileError(f"--{flag.name} is either true or false, not '{flag.value}'", at=flag.span)
        return
    if flag.value is None:
        raise BuildfileError(f"--{flag.name} needs a value", at=flag.span, hint=f"write --{flag.name}=VALUE, without a space")
    if instruction in ("RUN", "TEST"):
        _check_run(flag.name, flag.value, flag.span)
    elif instruction == "HEALTHCHECK":
        _check_healthcheck(flag.name, flag.value, flag.span)


def _check_run(name: str, value: str, at: Span) -> None:
    choices = {"network": ("default", "none", "host"), "security": ("sandbox", "insecure")}.get(name)
    if choices is not None and value not in choices:
        hint = did_you_mean(value, choices) or f"it is one of {', '.join(choices)}"
        raise BuildfileError(f"'{value}' is not a value for --{name}", at=at, hint=hint)
    if "$" in value or name in ("network", "security", "mount", "device"):
        return
    if name in ("memory", "io-read-bps", "io-write-bps"):
        parse_size(value, at)
    elif name == "memory-swap":
        if value != "-1":
            parse_size(value, at)
    elif name == "io-weight":
        parse_io_weight(value, at)
    elif name == "cpus":
        parse_cpus(value, at)
    elif name in ("timeout", "idle-timeout"):
        if parse_duration(value, at) < 0:
            raise BuildfileError(f"--{name} is negative", at=at)
    elif name == "on-failure":
        action, _, path = value.partition("=")
        if action != "save" or not path:
            raise BuildfileError(f"'{value}' is not a value for --on-failure", at=at, hint="write --on-failure=save=PATH")
    else:
        parse_count(value, at)


def _check_healthcheck(name: str, value: str, at: Span) -> None:
    if not value:
        return
    if name == "retries":
        if parse_count(value.removeprefix("+"), at) >= 1 << 31:
            raise BuildfileError(f"{value} retries are too many", at=at)
        return
    duration = parse_duration(value, at)
    if duration and duration < 1_000_000:
        raise BuildfileError(f"--{name} is less than 1ms", at=at)
