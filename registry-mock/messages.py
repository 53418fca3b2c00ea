"""What passes between the transport (`exchange`) and the endpoints: a request with its body, and a reply.

The body is read from the connection while the endpoint asks for it, framed by Content-Length or by chunks (RFC 9112,
sections 6 and 7), and never beyond its end, so that the connection can be used again.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from io import BufferedIOBase
from pathlib import Path

from errors import Headers

BLOCK = 64 * 1024
_LINE_LIMIT = 8192


class Cut(Exception):
    """The connection is to be closed without an answer, or without the rest of one."""

    def __init__(self, why: str, reset: bool = False) -> None:
        self.reset = reset
        super().__init__(why)


class BadFraming(Exception):
    """A body whose length can't be made out; the connection can't be used any more."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file, as the body of a reply."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that is not yet sent."""

    status: int
    headers: Headers = ()
    body: bytes | FilePart = b""

    @property
    def length(self) -> int:
        """The length of the body."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.length


class Body:
    """The body of a request.

    `length` is None for a chunked one. `before_read` is called once before the first byte is asked for, `on_block`
    for each block that came. With `stop`, at most so many bytes are read, and then it is raised.
    """

    def __init__(
        self,
        stream: BufferedIOBase,
        length: int | None,
        before_read: Callable[[], None],
        on_block: Callable[[int], None],
        stop: tuple[int, Cut] | None = None,
    ) -> None:
        self.length = length
        self.taken = 0
        self._stream = stream
        self._before_read = before_read
        self._on_block = on_block
        self._stop = stop
        self._blocks = self._chunks() if length is None else self._plain(length)
        self._started = False
        # With nothing to come there is nothing to ask the client for.
        self.ended = length == 0

    def blocks(self) -> Iterator[bytes]:
        """The rest of the body; Cut where the connection ends before it."""
        if self.ended:
            return
        if not self._started:
            self._started = True
            self._before_read()
        for block in self._blocks:
            self.taken += len(block)
            self._on_block(len(block))
            yield block
        self.ended = True
        if self._stop:
            raise self._stop[1]

    def read(self, limit: int) -> bytes | None:
        """All of the body, or None for one that is longer than the limit."""
        parts = []
        for block in self.blocks():
            if self.taken > limit:
                return None
            parts.append(block)
        return b"".join(parts)

    def drain(self, limit: int) -> bool:
        """Read and drop the rest; False where it is longer than the limit."""
        start = self.taken
        return all(self.taken - start <= limit for _ in self.blocks())

    def _plain(self, left: int) -> Iterator[bytes]:
        while left:
            block = self._some(min(left, BLOCK))
            left -= len(block)
            yield block

    def _chunks(self) -> Iterator[bytes]:
        while size := self._chunk_size():
            yield from self._plain(size)
            if self._line():
                raise BadFraming("no line end after a chunk")
        while self._line():
            pass  # trailers, which nobody here has a use for

    def _chunk_size(self) -> int:
        text = self._line().partition(b";")[0].strip()
        if not text or len(text) > 15 or text.strip(b"0123456789abcdefABCDEF"):
            raise BadFraming("a chunk without a size")
        return int(text, 16)

    def _line(self) -> bytes:
        line = self._stream.readline(_LINE_LIMIT)
        if not line.endswith(b"\n"):
            raise Cut("the client closed the connection within a body")
        return line.rstrip(b"\r\n")

    def _some(self, size: int) -> bytes:
        if self._stop:
            size = min(size, self._stop[0] - self.taken)
            if size <= 0:
                raise self._stop[1]
        # read1 gives what has arrived: a cut must not take with it what came before it.
        block = self._stream.read1(size)
        if not block:
            raise Cut("the client closed the connection within a body")
        return block


@dataclass(frozen=True, slots=True)
class Request:
    """What an endpoint is given, beside its route."""

    method: str
    query: Mapping[str, list[str]]
    headers: Message
    body: Body

    def parameter(self, key: str) -> str | None:
        """The first value of a query parameter."""
        values = self.query.get(key)
        return values[0] if values else None
