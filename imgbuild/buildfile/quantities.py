"""Durations, sizes and CPU shares as people write them. One reader for Buildfiles and for the command line.

Each raises BuildfileError at `at`; a caller without a place locates it by ``error.located(span)``.
"""

from __future__ import annotations

from imgbuild.errors import BuildfileError, Span
from imgbuild.patterns import IGNORECASE, pattern

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART = pattern(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_SIZE = pattern(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) ?(?:([kmgtp])(?:i?b)?|b)?", IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_CPUS = pattern(r"([0-9]*)(?:\.([0-9]{0,9}))?")
_COUNT = pattern(r"[0-9]{1,18}")
_LARGEST = (1 << 63) - 1


def parse_duration(text: str, at: Span | None = None) -> int:
    """Nanoseconds of a Go duration such as ``1h2m3.5s``, ``300ms`` or ``0``; it may have a sign."""
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    total, position = 0, 0
    while (rest != "0" and position < len(rest)) or not rest:
        match = _DURATION_PART.match(rest, position)
        if match is None or not (match.group(1) or match.group(2)) or match.end() - position > 64:
            raise BuildfileError(f"'{text}' is not a duration", at=at, hint="write it as 90s, 1m30s, 1.5h or 300ms")
        whole, fraction, unit = match.groups()
        scale = _UNITS[unit]
        total += int(whole or "0") * scale
        if fraction:
            total += int(fraction) * scale // 10 ** len(fraction)
        position = match.end()
    if total > _LARGEST:
        raise BuildfileError(f"the duration '{text}' is too long", at=at)
    return sign * total


def parse_size(text: str, at: Span | None = None) -> int:
    """Bytes of a size such as ``512m``, ``1g``, ``1.5GiB`` or ``4096``; all units are powers of 1024, as docker's are."""
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > 64:
        raise BuildfileError(f"'{text}' is not a size", at=at, hint="write it as 512m, 1g, 64MiB or a number of bytes")
    whole, _, fraction = match.group(1).partition(".")
    scale = 1 << 10 * _POWERS[(match.group(2) or "").lower()]
    size = int(whole or "0") * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)
    if size > _LARGEST:
        raise BuildfileError(f"the size '{text}' is too large", at=at)
    return size


def parse_cpus(text: str, at: Span | None = None) -> int:
    """Billionths of a CPU of a number such as ``1.5``; it must be more than nothing."""
    match = _CPUS.fullmatch(text)
    if match is None or len(text) > 20 or not (match.group(1) or match.group(2)):
        raise BuildfileError(f"'{text}' is not a number of CPUs", at=at, hint="write it as 2 or 0.5")
    fraction = match.group(2) or ""
    cpus = int(match.group(1) or "0") * 10**9 + int(fraction.ljust(9, "0") or "0")
    if not cpus:
        raise BuildfileError("a limit of no CPUs at all", at=at)
    return cpus


def parse_io_weight(text: str, at: Span | None = None) -> int:
    """A share of the disk, from 10 to 1000."""
    weight = parse_count(text, at)
    if not 10 <= weight <= 1000:
        raise BuildfileError(f"'{text}' is not a weight", at=at, hint="it is a number from 10 to 1000; the usual one is 500")
    return weight


def parse_count(text: str, at: Span | None = None) -> int:
    """A whole number that is not negative."""
    if _COUNT.fullmatch(text) is None:
        raise BuildfileError(f"'{text}' is not a whole number", at=at)
    return int(text)
