"""Queues and counts: by the C code of the standard module."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import Counter, deque
    from collections.abc import Iterable
    from typing import Any
else:
    from _collections import deque

    class Counter(dict):
        """As `collections.Counter`, as far as things are counted, and asked for."""

        def __init__(self, things: Iterable[Any] = ()) -> None:
            for thing in things:
                self[thing] += 1

        def __missing__(self, thing: Any) -> int:
            return 0


__all__ = ["Counter", "deque"]
