"""Numbers for people: seconds, bytes, counts, moments. A number that is not known is a dash."""

from __future__ import annotations

from datetime import UTC, datetime

UNKNOWN = "–"
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def size_text(size: float | None) -> str:
    """Bytes, in powers of 1000."""
    if size is None:
        return UNKNOWN
    exponent = 0
    while size >= 999.5 and exponent < len(_UNITS) - 1:
        size, exponent = size / 1000, exponent + 1
    return f"{size:.0f} {_UNITS[exponent]}" if exponent == 0 or size >= 99.95 else f"{size:.1f} {_UNITS[exponent]}"


def seconds_text(seconds: float | None) -> str:
    """A time span, as exact as it matters."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {whole % 60:02} s"


def count_text(count: int | None, one: str = "", many: str = "") -> str:
    """A count, with what is counted."""
    if count is None:
        return UNKNOWN
    word = one if count == 1 else many or (f"{one}s" if one else "")
    return f"{count:,} {word}".rstrip()


def moment_text(seconds: float) -> str:
    """A moment since 1970, in UTC: the same for every reader."""
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return UNKNOWN


def moment_code(seconds: float) -> str | None:
    """The same for programs (RFC 3339)."""
    text = moment_text(seconds)
    return None if text == UNKNOWN else text.replace(" UTC", "Z").replace(" ", "T")


def share_text(part: float, whole: float) -> str:
    """A part of a whole."""
    if whole <= 0:
        return "0 %"
    percent = 100 * part / whole
    return "< 1 %" if 0 < percent < 1 else f"{percent:.0f} %"


def number_text(value: float) -> str:
    """A coordinate: as short as it can be."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
