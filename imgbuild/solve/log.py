"""What a step writes, kept while it runs: its last lines for an error, and all of it, within bounds, for who looks into a failure.

Little of it is in memory; more goes to a file of the step's own, which is gone with the step unless that fails. Secrets that it has
printed are taken out of what is kept.
"""

from __future__ import annotations

import os

from imgbuild.hints import Iterable, TracebackType
from imgbuild.light.collections import deque
from imgbuild.light.pathlib import Path

TAIL_LINES = 20
MOST_KEPT = 16 << 20
_IN_MEMORY = 1 << 16
_LONGEST = 1 << 16


class StepLog:
    """The output of one attempt at a step; `path` is where it may put a file. A context manager around its use."""

    def __init__(self, path: Path, secrets: Iterable[bytes] = ()) -> None:
        self.lines = 0
        self._path = path
        self._secrets = tuple(secrets)
        self._last: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._rest = b""
        self._head = bytearray()
        self._size = 0
        self._lost = 0
        self._fd = -1

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def add(self, data: bytes) -> None:
        """What the step has just written."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.lines += len(lines)
        self._last.extend(lines)
        self._rest = self._rest[-_LONGEST:]
        self._keep(data)

    def tail(self) -> str:
        """The last lines as text."""
        lines = [*self._last, self._rest] if self._rest else list(self._last)
        text = self._redacted(b"\n".join(lines[-TAIL_LINES:]))
        return "\n".join(line.rstrip("\r") for line in text.decode("utf-8", "replace").split("\n"))

    @property
    def whole(self) -> bool:
        """Whether the last lines are all that there are."""
        return self.lines + bool(self._rest) <= TAIL_LINES

    @property
    def complete(self) -> bool:
        """Whether all that the step wrote was kept."""
        return not self._lost

    def all(self) -> bytes:
        """All that was kept, without secrets."""
        data = bytes(self._head)
        if self._fd >= 0:
            data = self._path.read_bytes()
        data = self._redacted(data)
        if self._lost:
            data += f"\n[imgbuild: {self._lost} bytes are left out here; the last lines:]\n".encode() + self.tail().encode()
        return data

    def _keep(self, data: bytes) -> None:
        room = MOST_KEPT - self._size
        self._lost += max(0, len(data) - room)
        data = data[: max(0, room)]
        self._size += len(data)
        if self._fd < 0 and self._size <= _IN_MEMORY:
            self._head += data
            return
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                data, self._head = bytes(self._head) + data, bytearray()
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:  # a full disk must not end a step that may do without it
            self._lost += len(data)

    def _redacted(self, data: bytes) -> bytes:
        if not self._secrets:
            return data
        from imgbuild.solve.redaction import Redactor

        return Redactor(self._secrets).whole(data)
