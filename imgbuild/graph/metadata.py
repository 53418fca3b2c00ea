"""Instructions that only describe: EXPOSE's ports, STOPSIGNAL's signals, HEALTHCHECK's times, as an image config holds them."""

from __future__ import annotations

from imgbuild.buildfile.instructions import Healthcheck as HealthcheckInstruction
from imgbuild.buildfile.quantities import parse_count, parse_duration
from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.errors import BuildfileError, Span
from imgbuild.light import re
from imgbuild.oci.config import Healthcheck
from imgbuild.patterns import ASCII, pattern

_PORT = pattern(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([A-Za-z]*))?", ASCII)
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1?[0-9]{1,2})"
_ADDRESS = pattern(rf"{_BYTE}(?:\.{_BYTE}){{3}}|\[?[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\]?")
_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST_SIGNAL = 64
_SIGNALS = frozenset((
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "POLL",
    "PWR", "SYS", "RTMIN", "RTMAX",
))  # fmt: skip
_REAL_TIME = pattern(r"RTMIN\+(?:[12]?[0-9]|30)|RTMAX-(?:[12]?[0-9]|30)", ASCII)
_NUMBER = pattern(r"\+?([0-9]{1,9})", ASCII)
_MILLISECOND = 1_000_000


def ports(text: str, span: Span) -> tuple[str, ...]:
    """``80``, ``80/udp`` or ``8000-8003/tcp`` as ``port/protocol``, a range one by one. An address and ports of the host before
    it, ``127.0.0.1:8080:80``, mean nothing here, and are checked as BuildKit does."""
    outside, _, inside = text.rpartition(":")
    address, _, host = outside.rpartition(":")
    match = _PORT.fullmatch(inside)
    if match is None:
        raise BuildfileError(f"{text!r} is not a port", at=span, hint="write PORT, PORT/PROTOCOL or FIRST-LAST/PROTOCOL")
    first, last = _range(match, text, span)
    protocol = (match[3] or "tcp").lower()
    if protocol not in _PROTOCOLS:
        hint = did_you_mean(protocol, _PROTOCOLS) or f"it is one of {', '.join(_PROTOCOLS)}"
        raise BuildfileError(f"{protocol!r} is not a protocol", at=span, hint=hint)
    if address and _ADDRESS.fullmatch(address) is None:
        raise BuildfileError(f"{address!r} is not an IP address", at=span, hint="EXPOSE needs none: write the port alone")
    if host:
        outer = _PORT.fullmatch(host)
        if outer is None or outer[3]:
            raise BuildfileError(f"{host!r} is not a port of the host", at=span, hint="EXPOSE needs none: write the port alone")
        begin, end = _range(outer, text, span)
        if last != first and end - begin != last - first:
            raise BuildfileError(f"the two ranges of {text!r} differ in length", at=span, hint="EXPOSE needs only the last one")
    return tuple(f"{port}/{protocol}" for port in range(first, last + 1))


def _range(match: re.Match[str], text: str, span: Span) -> tuple[int, int]:
    first, last = int(match[1]), int(match[2] or match[1])
    if not first <= last <= 65535:
        raise BuildfileError(f"{text!r} is not a port or a range of ports", at=span, hint="ports go up to 65535")
    return first, last


def stop_signal(text: str, span: Span) -> str:
    """The signal as written, if there is such a signal."""
    name = text.upper().removeprefix("SIG")
    real_time = _REAL_TIME.fullmatch(name)
    number = _NUMBER.fullmatch(text)
    if not (0 < int(number[1]) <= _LAST_SIGNAL if number else real_time or name in _SIGNALS):
        hint = None if number else did_you_mean(name, _SIGNALS)
        raise BuildfileError(f"{text!r} is not a signal", at=span, hint=hint or "write a number or a name such as SIGTERM")
    return text


def healthcheck(item: HealthcheckInstruction) -> Healthcheck:
    """The check that an image config holds; times in nanoseconds. Runtimes run CMD-SHELL by the image's own SHELL."""
    if item.command is None:
        return Healthcheck(test=("NONE",))
    words = item.command.words
    test = ("CMD-SHELL", item.command.line or "") if words is None else ("CMD", *words)
    retries = item.flag("retries")
    return Healthcheck(
        test=test,
        interval=_duration(item, "interval"),
        timeout=_duration(item, "timeout"),
        start_period=_duration(item, "start-period"),
        start_interval=_duration(item, "start-interval"),
        retries=parse_count(retries.value or "", retries.span) if retries is not None and retries.value else 0,
    )


def _duration(item: HealthcheckInstruction, name: str) -> int:
    flag = item.flag(name)
    if flag is None or not flag.value:
        return 0
    duration = parse_duration(flag.value, flag.span)
    if duration and duration < _MILLISECOND:
        raise BuildfileError(f"--{name} is less than one millisecond", at=flag.span)
    return duration
