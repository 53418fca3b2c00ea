"""The log of requests, for tests that assert what was sent and what was not.

A record is opened before its request is handled, and a count is raised before the bytes it counts are written: a client
that has its answer finds it in the log, without waiting. The log is bounded; the oldest records fall out.
"""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

_LIMIT = 100_000
# The headers that tests ask about. Of Authorization only the scheme is kept: a log is not a place for secrets.
KEPT = ("Accept", "Content-Length", "Content-Range", "Content-Type", "Host", "If-None-Match", "Range", "Transfer-Encoding", "User-Agent")


@dataclass(slots=True)
class Record:
    """One request; filled in while it is handled."""

    id: int
    method: str
    path: str
    query: str
    range: str | None
    headers: dict[str, str]
    concurrent: int
    status: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    fault: str | None = None
    user: str | None = None
    problems: list[str] = field(default_factory=list)


class Journal:
    """All records since the last `clear`."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=_LIMIT)
        self._lock = threading.Lock()
        self._next = 1
        self._active = 0

    @contextmanager
    def record(self, method: str, path: str, query: str, headers: dict[str, str]) -> Iterator[Record]:
        """Log one request; `concurrent` is how many are being handled, this one included."""
        with self._lock:
            self._active += 1
            record = Record(self._next, method, path, query, headers.get("range"), headers, self._active)
            self._next += 1
            self._records.append(record)
        try:
            yield record
        finally:
            with self._lock:
                self._active -= 1

    def as_json(self) -> list[dict[str, object]]:
        """The records, oldest first."""
        with self._lock:
            return [asdict(record) for record in self._records]

    def clear(self) -> None:
        """Forget the records; ids go on counting."""
        with self._lock:
            self._records.clear()
