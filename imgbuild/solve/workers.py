"""A ready set and the threads that empty it: tasks that depend on tasks, run side by side, stopped by the first failure."""

from __future__ import annotations

import os
import time

from imgbuild.errors import StepFailed
from imgbuild.hints import TYPE_CHECKING, Callable, Container, Hashable, Iterable, Mapping, TracebackType
from imgbuild.light import signal, threading
from imgbuild.light.collections import deque
from imgbuild.light.contextlib import AbstractContextManager, nullcontext
from imgbuild.store.locks import Interrupted

if TYPE_CHECKING:
    from imgbuild.solve.memory import Memory
    from imgbuild.solve.telling import Telling

_POLL_SECONDS = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Crew:
    """What builds side by side share: how many of their tasks run at once, and that all of them stop.

    `hurried` is for an end that somebody waits for: what could be finished for later builds is given up too. `memory` is what their steps
    share, if they do.
    """

    def __init__(self, width: int, memory: Memory | None = None) -> None:
        self.memory = memory
        self.slots = threading.Semaphore(max(1, width))
        self.stopped = threading.Event()
        self.hurried = threading.Event()

    def stop(self, *, hurried: bool) -> None:
        """Let nothing more start, and tell what runs."""
        if hurried:
            self.hurried.set()
        self.stopped.set()

    def check(self) -> None:
        """Interrupted where all were told to stop."""
        if self.stopped.is_set():
            raise Interrupted("the build was stopped")


class Later:
    """What is left to be told of a build's last step, by who has time to look for it: at the end of the `with` at last, in any case."""

    def __init__(self) -> None:
        self.left: Telling | None = None

    def go_on(self) -> None:
        """Do a part of that."""
        if self.left is not None:
            self.left.go_on()

    def tell(self) -> None:
        """Tell it now."""
        if self.left is not None:
            self.left()

    def __enter__(self) -> Later:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.tell()
        except Exception:
            if error is None:  # else that is what ended the build
                raise


class Workers:
    """Runs every task of a graph after those it depends on, with at most `width` at once, in threads that start when needed, and
    all of them within `seconds`, if there is such a limit.

    `run` returns when all are done, or raises the first failure after the others have come to an end. Tasks should look at
    `stopped` and give up when it is set; those not yet started are not started. Workers of one crew stop together, the others with
    Interrupted. `tick` is called from time to time.
    """

    def __init__(
        self, width: int, seconds: float | None = None, crew: Crew | None = None, tick: Callable[[], object] = lambda: None
    ) -> None:
        self._tick = tick
        self._seconds = seconds
        self.stopped = crew.stopped if crew is not None else threading.Event()
        self._slots: AbstractContextManager[object] = crew.slots if crew is not None else nullcontext()
        self._width = max(1, width)
        lock = threading.Lock()
        # Of what comes between, who waits for the end need not know: to wake up takes time from the step that follows.
        self._changed, self._over = threading.Condition(lock), threading.Condition(lock)
        self._ready: deque[Hashable] = deque()
        self._running = 0
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None

    def run(
        self,
        tasks: Mapping[Hashable, Callable[[], None]],
        needs: Mapping[Hashable, Iterable[Hashable]],
        later: Container[Hashable] = (),
    ) -> None:
        """Run all `tasks`; `needs` says which must be done before each. There is no cycle. Those in `later` start when nothing else
        could: nothing that waits should stand behind them."""
        waiting = {task: set(needs.get(task, ())) for task in tasks}
        followers: dict[Hashable, list[Hashable]] = {task: [] for task in tasks}
        for task, before in waiting.items():
            for other in before:
                followers[other].append(task)
        left = len(tasks)

        def work() -> None:
            nonlocal left
            while True:
                with self._changed:
                    while not self._ready:
                        if left == 0 or self.stopped.is_set():
                            return
                        self._changed.wait()
                    if self.stopped.is_set():
                        return
                    task = next((task for task in self._ready if task not in later), self._ready[0])
                    self._ready.remove(task)
                    self._running += 1
                failure: BaseException | None = None
                try:
                    with self._slots:
                        if not self.stopped.is_set():
                            tasks[task]()
                except BaseException as error:  # handed to the caller of run
                    failure = error
                with self._changed:
                    self._running -= 1
                    left -= 1
                    if failure is not None:
                        self._failure = self._failure or failure
                        self.stopped.set()
                    for follower in followers[task]:
                        waiting[follower].discard(task)
                        if not waiting[follower]:
                            self._ready.append(follower)
                    self._start(work)
                    if left == 0 or self.stopped.is_set():
                        self._wake_all()
                    else:
                        self._changed.notify(max(0, len(self._ready) - 1))  # this one takes one of them

        with self._changed:
            self._ready.extend(task for task, before in waiting.items() if not before)
            self._start(work)
        self._wait(lambda: left == 0)
        if self._failure is not None:
            raise self._failure
        if self.stopped.is_set():
            raise Interrupted("the build was stopped")

    def stop(self) -> None:
        """Let nothing more start, and tell what runs."""
        self.stopped.set()
        with self._changed:
            self._wake_all()

    def fail(self, error: BaseException) -> None:
        """Stop, and let `run` raise `error`, unless something failed before."""
        with self._changed:
            self._failure = self._failure or error
        self.stop()

    def join(self, seconds: float | None) -> None:
        """Wait for the threads after `stop`, but not longer, all in all; None: as long as they take."""
        end = None if seconds is None else time.monotonic() + seconds
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))

    def _wake_all(self) -> None:
        """Let everybody look what there is; called with the condition held."""
        self._changed.notify_all()
        self._over.notify_all()

    def _start(self, work: Callable[[], None]) -> None:
        """Threads for what is ready; called with the condition held."""
        idle = len(self._threads) - self._running
        for _ in range(min(len(self._ready) - idle, self._width - len(self._threads))):
            thread = threading.Thread(target=work, daemon=True, name="imgbuild-step")
            self._threads.append(thread)
            thread.start()

    def _wait(self, done: Callable[[], bool]) -> None:
        end = None if self._seconds is None else time.monotonic() + self._seconds
        while True:
            with self._changed:
                if done() or (self.stopped.is_set() and self._running == 0):
                    return
                # Bounded, for the limit of time.
                self._over.wait(_POLL_SECONDS)
                if end is not None and time.monotonic() > end and not self.stopped.is_set():
                    message = f"the build took longer than its {self._seconds:g} s"
                    self._failure = StepFailed(message, hint="see build-timeout in the settings")
                    self.stopped.set()
                    self._wake_all()
            self._tick()


def beside(work: Callable[[], None]) -> None:
    """Do `work` in a thread, and wait for it without ever holding a lock that others want: a signal's exception can come between
    taking a lock and the `with` that would let go of it."""
    errors: list[BaseException] = []
    read_end, write_end = os.pipe2(os.O_CLOEXEC)

    def run() -> None:
        try:
            work()
        except BaseException as error:  # raised by the one who waits
            errors.append(error)
        finally:
            os.close(write_end)

    try:
        # What is started with signals blocked keeps them so: they are the main thread's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            threading.Thread(target=run, daemon=True, name="imgbuild-solve").start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.read(read_end, 1)
    finally:
        os.close(read_end)
    if errors:
        raise errors[0]
