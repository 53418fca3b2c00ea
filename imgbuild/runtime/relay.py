"""Bytes between a container and its user: one poll loop, no threads, that also hears signals and the container's end.

Where nothing has to be copied (no terminal, no log, and no terminal of the user's on the other side) the container gets the
descriptors themselves and the loop only waits.
"""

from __future__ import annotations

import errno
import os
import select

from imgbuild.hints import Callable, Iterable, Sequence

# A pipe or terminal that polls as writable takes this much without blocking (pipe(7): PIPE_BUF).
_WRITE = 4096
_READ = 1 << 16


class Pump:
    """One direction: what is read from `source` is shown to `tap` and written to `sink` (None: nowhere).

    When nobody reads the sink any more, output that has a tap goes on without it; else `close_source` is called, so that the
    writer is told (SIGPIPE). Otherwise both descriptors stay their owner's. `at_end` is called when the source has ended.
    """

    def __init__(
        self,
        source: int,
        sink: int | None,
        tap: Callable[[bytes], None] | None = None,
        *,
        close_source: Callable[[], None] | None = None,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._tap = tap
        self._close_source = close_source
        self._at_end = at_end
        self._pending = b""
        self._over = False
        self._last = False

    @property
    def idle(self) -> bool:
        """Whether nothing more comes, and all that came is written."""
        return self._over and not self._pending

    def interest(self) -> tuple[int, int]:
        """The descriptor and the event that it waits for."""
        if self._pending and self._sink is not None:
            return self._sink, select.POLLOUT
        return self._source, select.POLLIN

    def step(self) -> None:
        """One read or one write, now that its interest has come."""
        if self._pending:
            self._write()
        elif not self._over:
            self._read()

    def cut(self) -> None:
        """Nothing more is read or written."""
        self._over, self._pending = True, b""

    def last_call(self) -> None:
        """The process is dead: what is there is read, and no more. Others may keep its pipe or terminal open for ever, so that an end is
        not waited for. A terminal, too, says EAGAIN only when all that was written to it has come (n_tty_read flushes its buffers)."""
        if not self._over:
            os.set_blocking(self._source, False)
            self._last = True
            while not self._over and not self._pending:
                self._read()

    def _read(self) -> None:
        try:
            data = os.read(self._source, _READ)
        except BlockingIOError:
            self._over = self._last
            return
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EBADF):  # EIO: the other side of a terminal is closed
                raise
            data = b""
        if not data:
            self._over = True
            if self._at_end is not None:
                self._at_end()
            return
        if self._tap is not None:
            self._tap(data)
        if self._sink is not None:
            self._pending = data

    def _write(self) -> None:
        assert self._sink is not None
        try:
            self._pending = self._pending[os.write(self._sink, self._pending[:_WRITE]) :]
        except BlockingIOError:
            return
        except OSError:
            self._sink, self._pending = None, b""
            if self._tap is None:
                self._over = True
                if self._close_source is not None:
                    self._close_source()
        if self._last and not self._pending:
            self.last_call()


class Relay:
    """Runs pumps until `ended` becomes readable, and then until all output that was made before has been passed on."""

    def __init__(
        self, ended: int | None, outputs: Sequence[Pump], inputs: Sequence[Pump], signals: int | None, on_signals: Callable[[], bool]
    ) -> None:
        """`ended`: a pidfd, None where it has ended already. `on_signals` reads them; True: somebody wants an end to it."""
        self._ended = ended
        self._outputs = outputs
        self._inputs = inputs
        self._signals = signals
        self._on_signals = on_signals

    def run(self) -> None:
        """Return when the process has ended and its output has been passed on, or nobody wants to wait for that."""
        over = self._ended is None
        if over:
            self._last_call()
        while not over or any(not pump.idle for pump in self._outputs):
            pumps = [pump for pump in (*self._outputs, *(() if over else self._inputs)) if not pump.idle]
            watched = [(fd, select.POLLIN) for fd in (None if over else self._ended, self._signals) if fd is not None]
            ready = _poll([*(pump.interest() for pump in pumps), *watched])
            if self._signals in ready and self._on_signals() and over:
                return
            for pump in pumps:
                descriptor, event = pump.interest()
                if not pump.idle and ready.get(descriptor, 0) & (event | select.POLLHUP | select.POLLERR):
                    pump.step()
            if not over and self._ended in ready:
                over = True
                self._last_call()

    def _last_call(self) -> None:
        for pump in self._outputs:
            pump.last_call()


def _poll(interests: Iterable[tuple[int, int]]) -> dict[int, int]:
    poll = select.poll()
    events: dict[int, int] = {}
    for descriptor, event in interests:
        events[descriptor] = events.get(descriptor, 0) | event
    for descriptor, event in events.items():
        poll.register(descriptor, event)
    return dict(poll.poll())
