"""A container's log: one JSON object a line, ``{"data", "stream", "time"}``, in the file ``log`` of its directory.

An entry is one line of output with its newline, or a part of at most `MAX_LINE` bytes of a longer one. Bytes that are not
UTF-8 survive: they are the lone surrogates of Python's surrogateescape.
"""

from __future__ import annotations

import json
import os
import select
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal

from imgbuild.values import dataclass

Stream = Literal["stdout", "stderr"]

MAX_LINE = 16 << 10
_CHUNK = 1 << 18
_LOOK_AGAIN = 100  # milliseconds between looks at a growing log; a container's end is seen at once


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of output; `time` is RFC 3339 with nanoseconds, in UTC."""

    stream: Stream
    time: str
    data: bytes


class LogWriter:
    """Appends to a log. Use with `with`: leaving it writes the lines that have no end yet."""

    def __init__(self, path: Path, now: Callable[[], int]) -> None:
        """`now`: nanoseconds since the epoch."""
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._now = now
        self._partial: dict[Stream, bytes] = {}

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._append([(stream, data) for stream, data in sorted(self._partial.items()) if data])
        os.close(self._descriptor)

    def write(self, stream: Stream, data: bytes) -> None:
        """Add output; a line is in the file when its end, or `MAX_LINE` bytes, have come."""
        text = self._partial.pop(stream, b"") + data
        lines: list[tuple[Stream, bytes]] = []
        start = 0
        while (end := _line_end(text, start)) > start:
            lines.append((stream, text[start:end]))
            start = end
        self._partial[stream] = text[start:]
        if lines:
            self._append(lines)

    def _append(self, lines: list[tuple[Stream, bytes]]) -> None:
        time = _rfc3339(self._now())
        text = b"".join(
            json.dumps({"data": data.decode("utf-8", "surrogateescape"), "stream": stream, "time": time}).encode() + b"\n"
            for stream, data in lines
        )
        while text:
            text = text[os.write(self._descriptor, text) :]


def _line_end(text: bytes, start: int) -> int:
    end = text.find(b"\n", start, start + MAX_LINE) + 1
    if end:
        return end
    return start + MAX_LINE if len(text) - start >= MAX_LINE else start


def _rfc3339(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def read_log(path: Path, *, tail: int | None = None, follow: Callable[[], int | None] | None = None) -> Iterator[LogEntry]:
    """The entries, only the last `tail` of what is there. With `follow`, also those to come, until the supervisor ends: it
    gives a descriptor that becomes readable then (a pidfd, which is closed here), or None where it has ended."""
    watched = follow() if follow is not None else None
    try:
        with path.open("rb") as file:
            lines = _Lines(file)
            for line in lines if tail is None else deque(lines, maxlen=tail):
                yield from _entry(line)
            ended = watched is None
            while watched is not None and not ended:
                ended = _readable(watched, _LOOK_AGAIN)
                for line in lines:
                    yield from _entry(line)
    except FileNotFoundError:
        return
    finally:
        if watched is not None:
            os.close(watched)


class _Lines:
    """The complete lines of a growing file: each iteration gives those that have come since the last one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._rest = b""

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self._file.read(_CHUNK):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from lines


def _readable(descriptor: int, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(milliseconds))


def _entry(line: bytes) -> Iterator[LogEntry]:
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        fields = json.loads(line)
        yield LogEntry(fields["stream"], fields["time"], fields["data"].encode("utf-8", "surrogateescape"))
