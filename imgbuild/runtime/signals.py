"""Signals as something to poll: those that are meant for the container arrive at a descriptor instead of ending this process."""

from __future__ import annotations

import os

from imgbuild.hints import FrameType, TracebackType
from imgbuild.light import signal

FORWARDED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCONT,
    signal.SIGWINCH,
)  # fmt: skip


class SignalPipe:
    """From entering to leaving the context, the `FORWARDED` signals are only read from `descriptor`, by `read`.

    For the main thread alone, as Python's signal module is. A signal that was ignored before, as nohup does with SIGHUP,
    stays ignored.
    """

    def __init__(self) -> None:
        self.descriptor, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before: dict[signal.Signals, object] = {}
        self._wakeup = -1

    def __enter__(self) -> SignalPipe:
        self._wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, _noted)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._write_end)
        os.close(self.descriptor)

    def read(self) -> tuple[int, ...]:
        """The signals that came since the last call, in order."""
        try:
            return tuple(os.read(self.descriptor, 512))
        except BlockingIOError:
            return ()


def _noted(number: int, frame: FrameType | None) -> None:
    """A handler must exist, that Python writes the number into the wake-up descriptor."""
