"""Threads with short queues between them: a `Stage` is given items, an `Ahead` reads blocks before they are asked for."""

from __future__ import annotations

import queue

from imgbuild.hints import Callable, Generic, TypeVar
from imgbuild.layer.tar import CHUNK, Stream
from imgbuild.light import threading

_BLOCKS = 4
"""How many blocks wait between two threads."""


T = TypeVar("T")


class Stage(Generic[T]):
    """A thread that does `work` with each item it is given, in order. What `work` raises, the next `put` or
    `finish` raises."""

    def __init__(self, name: str, work: Callable[[T], object], waiting: int) -> None:
        self._queue: queue.Queue[T | None] = queue.Queue(waiting)
        self._work = work
        self._error: BaseException | None = None
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand over an item; waits while too many are under way."""
        self._raise()
        self._queue.put(item)

    def finish(self) -> None:
        """Wait until all items are done."""
        self._queue.put(None)
        self._thread.join()
        self._raise()

    def abandon(self) -> None:
        """End the thread without doing what is left. Nothing after `finish`."""
        if self._thread.is_alive():
            self._abandoned = True
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        # After an error items are still taken, and dropped: whoever puts them must not wait for ever.
        while (item := self._queue.get()) is not None:
            if self._error is None and not self._abandoned:
                try:
                    self._work(item)
                except BaseException as error:
                    self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


class Ahead:
    """A stream that another thread reads ahead of its reader, a few blocks at most. Leaving the `with` ends the thread."""

    def __init__(self, stream: Stream, name: str = "imgbuild-read") -> None:
        self._stream = stream
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_BLOCKS)
        self._left = threading.Event()
        self._block = b""
        self._at = 0
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.01)
            except queue.Empty:
                continue
        self._thread.join()

    def read(self, size: int, /) -> bytes:
        """The next bytes; what the other thread met while reading is raised here."""
        if self._at == len(self._block):
            if self._ended:
                return b""
            block = self._queue.get()
            if isinstance(block, BaseException):
                self._ended = True
                raise block
            self._block, self._at = block, 0
            self._ended = not block
        start, self._at = self._at, min(self._at + size, len(self._block))
        return self._block if self._at - start == len(self._block) else self._block[start : self._at]

    def _run(self) -> None:
        try:
            while not self._left.is_set():
                block = self._stream.read(CHUNK)
                self._queue.put(block)
                if not block:
                    return
        except BaseException as error:
            self._queue.put(error)
