"""The threads that make layers beside the steps that follow, and that stay for the next layer: with their connections to the index."""

from __future__ import annotations

import time

from imgbuild.hints import TYPE_CHECKING, Callable
from imgbuild.light import threading
from imgbuild.light.collections import deque
from imgbuild.light.contextlib import suppress

if TYPE_CHECKING:
    from imgbuild.layer.compression import Compression

MOST_WAITING = 128

_PATIENCE_SECONDS = 0.005
"""So long a layer waits for the next step's command: what brings that on its way should not have to share the interpreter."""


class Captures:
    """At most `width` threads, started when there is work. What comes first is begun first, so that a job may wait for an earlier one.

    Each job holds its step's lock, a descriptor, of which a process has only so many: where too many jobs wait, who adds one does, too.
    """

    def __init__(self, width: int, idle: Callable[[], object] = lambda: None) -> None:
        """`idle`: what is to be done besides when there is first time for it."""
        self._width = width
        self._on_idle = idle
        lock = threading.Lock()
        self._changed, self._room = threading.Condition(lock), threading.Condition(lock)
        self._pause = threading.Condition(lock)
        self._waiting: deque[tuple[Callable[[], None], int]] = deque()
        self._commands = 0
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._ended = False
        self._ready = False

    def add(self, job: Callable[[], None]) -> None:
        """Do `job`, which handles its errors itself and adds none, as soon as a thread is free."""
        with self._changed:
            while len(self._waiting) >= MOST_WAITING:
                self._room.wait()
            self._waiting.append((job, self._commands))
            if self._ended or (self._idle < len(self._waiting) and len(self._threads) < self._width):
                thread = threading.Thread(target=self._work, daemon=True, name="imgbuild-capture")
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def command_runs(self, compression: Compression, meanwhile: Callable[[], object]) -> None:
        """While a step's command runs, this process only waits: it has time for layers, to import what makes them,
        and for `meanwhile`."""
        with self._changed:
            first, self._ready = not self._ready, True
        if first:
            self.add(lambda: _import(compression, self._on_idle))
        with self._changed:
            self._commands += 1
            self._pause.notify_all()
        meanwhile()

    def join(self, seconds: float | None = None) -> bool:
        """Wait until all is done, and the threads have ended, but not longer; whether they have. None: as long as it takes. May be called
        again."""
        end = None if seconds is None else time.monotonic() + seconds
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            self._pause.notify_all()
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._ended:
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                job, commands = self._waiting.popleft()
                self._room.notify()
                if commands == self._commands and not self._ended:
                    self._pause.wait(_PATIENCE_SECONDS)
            job()
            del job


def _import(compression: Compression, idle: Callable[[], object]) -> None:
    with suppress(ImportError):  # said where it is used
        import imgbuild.layer.diff
        import imgbuild.layer.pack
        import imgbuild.rootfs.capture
        import imgbuild.solve.remembered  # noqa: F401
        from imgbuild.layer.compress import parameters

        parameters(compression)
        idle()
