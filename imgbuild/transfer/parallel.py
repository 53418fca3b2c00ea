"""Several pieces of work at once, in threads: the first error ends all, and Ctrl-C does not wait for a stalled peer."""

from __future__ import annotations

from queue import Empty, SimpleQueue

from imgbuild.hints import Callable, Iterable, Sequence
from imgbuild.light import threading
from imgbuild.store.locks import Interrupted

_POLL = 0.2
_PATIENCE = 5.0


class Stop:
    """Whether work should end: because the caller says so, or because another piece has failed. Thread-safe."""

    def __init__(self, cancelled: Callable[[], bool] | None = None) -> None:
        self._cancelled = cancelled
        self._event = threading.Event()

    def set(self) -> None:
        """Ask all work to end."""
        self._event.set()

    def __call__(self) -> bool:
        return self._event.is_set() or (self._cancelled is not None and self._cancelled())

    def check(self) -> None:
        """Raise Interrupted where work should end."""
        if self():
            raise Interrupted("the transfer was cancelled")


def in_parallel(work: Iterable[Callable[[], None]], workers: int, stop: Stop) -> None:
    """Do all of it, `workers` at a time, in order of start; raises the first error once what runs has ended.

    What does not end within seconds of being asked is left behind: daemon threads, whose unfinished blobs are discarded.
    """
    waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
    count = 0
    for piece in work:
        waiting.put(piece)
        count += 1
    errors: list[BaseException] = []

    def run() -> None:
        while not stop():
            try:
                piece = waiting.get_nowait()
            except Empty:
                return
            try:
                piece()
            except BaseException as error:
                errors.append(error)
                stop.set()

    threads = [threading.Thread(target=run, name=f"transfer-{number}", daemon=True) for number in range(min(workers, count))]
    for thread in threads:
        thread.start()
    try:
        _join(threads, stop)
    except BaseException:
        stop.set()
        _join_briefly(threads)
        raise
    if errors:
        raise errors[0]
    stop.check()


def _join(threads: Sequence[threading.Thread], stop: Stop) -> None:
    for thread in threads:
        while thread.is_alive() and not stop():
            thread.join(_POLL)
    if stop():
        _join_briefly(threads)


def _join_briefly(threads: Sequence[threading.Thread]) -> None:
    share = _PATIENCE / max(1, len(threads))
    for thread in threads:
        thread.join(share)
