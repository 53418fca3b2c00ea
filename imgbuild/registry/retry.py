"""When to ask again, and after how long: capped exponential backoff with jitter, and Retry-After (RFC 9110, 10.2.3)."""

from __future__ import annotations

import random
import time
from email.utils import parsedate_to_datetime

from imgbuild.hints import Callable
from imgbuild.values import dataclass

RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Clock:
    """Time as the client sees it: `now` in seconds since the epoch, `monotonic`, `sleep`, and `jitter` in 0..1."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before attempt 2, 3, ...: up to `base` * 2**n seconds, never more than `cap`, at least half of it."""

    base: float = 0.4
    cap: float = 20.0

    def delay(self, failures: int, jitter: float) -> float:
        """The wait after so many failures; `jitter` in 0..1."""
        full = min(self.cap, self.base * 2.0 ** min(failures - 1, 16))
        return full * (0.5 + jitter / 2)


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait as a server asks for it, in seconds or as a date; None where it says nothing readable."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None
