"""A container's log: one JSON object a line, ``{"data", "stream", "time"}``, in the file ``log`` of its directory.

An entry is one line of output with its newline, or a part of at most `MAX_LINE` bytes of a longer one. Bytes that are not
UTF-8 survive: they are the lone surrogates of Python's surrogateescape. When the file is full it becomes ``log.1``, in place of the
one before: of a container that never stops talking, the last 64 to 128 MiB are kept.
"""

from __future__ import annotations

import os
import select
import time
from typing import BinaryIO, Literal

from imgbuild.hints import Callable, Iterator
from imgbuild.light import json
from imgbuild.light.collections import deque
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.values import dataclass

Stream = Literal["stdout", "stderr"]

MAX_LINE = 16 << 10
MAX_FILE = 64 << 20
_CHUNK = 1 << 18
_LOOK_AGAIN = 100  # milliseconds between looks at a growing log; a container's end is seen at once


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of output; `time` is RFC 3339 with nanoseconds, in UTC."""

    stream: Stream
    time: str
    data: bytes


class LogWriter:
    """Appends to a log. Use with `with`: leaving it writes the lines that have no end yet.

    A log that can't be written, as on a full disk, is no reason to end what is logged: the lines are lost, and `lost` is told of the
    first time. Each later line is tried again, so that the log goes on when it can.
    """

    def __init__(
        self, path: Path, now: Callable[[], int], lost: Callable[[OSError], None] = lambda _: None, *, limit: int = MAX_FILE
    ) -> None:
        """`now`: nanoseconds since the epoch. `limit`: the size at which a file is full."""
        self._path = path
        self._now = now
        self._lost: Callable[[OSError], None] | None = lost
        self._limit = limit
        self._partial: dict[Stream, bytes] = {}
        self._open()

    def __enter__(self) -> LogWriter:
        return self

    def __exit__(self, *_: object) -> None:
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

    def _open(self) -> None:
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _append(self, lines: list[tuple[Stream, bytes]]) -> None:
        stamp = _rfc3339(self._now())
        text = b"".join(
            json.dumps({"data": data.decode("utf-8", "surrogateescape"), "stream": stream, "time": stamp}).encode() + b"\n"
            for stream, data in lines
        )
        try:
            if self._size and self._size + len(text) > self._limit:
                self._turn()
            self._write(text)
        except OSError as error:
            if self._lost is not None:
                tell, self._lost = self._lost, None
                tell(error)

    def _write(self, text: bytes) -> None:
        written = 0
        try:
            while written < len(text):
                written += os.write(self._descriptor, text[written:])
        except OSError:
            with suppress(OSError):  # no half a line, that the next one would be lost in
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += written

    def _turn(self) -> None:
        """Begin a new file. Where that is not possible, the full one stays, and takes no more."""
        full = self._descriptor
        self._path.rename(turned(self._path))
        try:
            self._open()
        except OSError:
            turned(self._path).rename(self._path)
            raise
        os.close(full)


def turned(path: Path) -> Path:
    """Where the file is that was full before the log at `path` began."""
    return path.with_name(path.name + ".1")


def _line_end(text: bytes, start: int) -> int:
    end = text.find(b"\n", start, start + MAX_LINE) + 1
    if end:
        return end
    return start + MAX_LINE if len(text) - start >= MAX_LINE else start


def _rfc3339(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def read_log(path: Path, *, tail: int | None = None, follow: Callable[[], int | None] | None = None) -> Iterator[LogEntry]:
    """The entries, only the last `tail` of what is there. With `follow`, also those to come, until the supervisor ends: it
    gives a descriptor that becomes readable then (a pidfd, which is closed here), or None where it has ended."""
    watched = follow() if follow is not None else None
    try:
        with _Lines(path) as lines:
            for line in lines if tail is None else deque(lines, maxlen=tail):
                yield from _entry(line)
            ended = watched is None
            while watched is not None and not ended:
                ended = _readable(watched, _LOOK_AGAIN)
                for line in lines:
                    yield from _entry(line)
    finally:
        if watched is not None:
            os.close(watched)


class _Lines:
    """The complete lines of a growing log, older file first: each iteration gives those that have come since the last one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        yield from self._read()
        while (file := self._next()) is not None:
            # It is full: what came since the last look is the end of it.
            yield from self._read()
            if self._file is not None:
                self._file.close()
            self._file, self._rest = file, b""
            yield from self._read()

    def _read(self) -> Iterator[bytes]:
        while self._file is not None and (chunk := self._file.read(_CHUNK)):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from lines

    def _next(self) -> BinaryIO | None:
        """The file after the present one. The newer is opened first: if the log turns in between, none is passed over."""
        newer, older = _opened(self._path), _opened(turned(self._path))
        following = older if older is not None else newer
        if self._file is not None:
            if newer is not None and _same(self._file, newer):
                following = None
            elif older is not None and _same(self._file, older):
                following = newer
        for file in (newer, older):
            if file is not None and file is not following:
                file.close()
        return following


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _same(first: BinaryIO, second: BinaryIO) -> bool:
    return os.path.sameopenfile(first.fileno(), second.fileno())


def _readable(descriptor: int, milliseconds: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(milliseconds))


def _entry(line: bytes) -> Iterator[LogEntry]:
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        fields = json.loads(line)
        yield LogEntry(fields["stream"], fields["time"], fields["data"].encode("utf-8", "surrogateescape"))
