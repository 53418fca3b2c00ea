"""Who may work on the store at once: named locks, and the lease that keeps the collector away.

All of them are flock(2): the kernel frees them when their holder dies, however it dies. Each taking opens the file anew, so
that they hold between the threads of one process as well as between processes (flock(2): locks belong to open file
descriptions). A process that forks without exec would share them: a zygote is started before the store is opened.
"""

from __future__ import annotations

import fcntl
import os
import time

from imgbuild.errors import ConflictError, ImgbuildError
from imgbuild.hints import Callable, Iterator
from imgbuild.light import threading
from imgbuild.light.collections import Counter
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import digest_of
from imgbuild.store.failures import explained

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02


class Interrupted(ImgbuildError):
    """Waiting for a lock was given up because the caller was cancelled."""

    reference = "interrupted"
    exit_code = 130


def try_flock(descriptor: int, operation: int) -> bool:
    """Take a flock if it is free now."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_flock(
    descriptor: int,
    operation: int,
    *,
    what: str,
    timeout: float | None = None,
    cancelled: Callable[[], bool] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> None:
    """Take a flock, polling (a blocked flock can't be interrupted in a thread). `on_wait` is called once, before the first
    pause. Raises Interrupted when `cancelled` says so, ConflictError after `timeout` seconds."""
    if try_flock(descriptor, operation):
        return
    if on_wait is not None:
        on_wait()
    pause, end = _FIRST_PAUSE, None if timeout is None else time.monotonic() + timeout
    while not try_flock(descriptor, operation):
        if cancelled is not None and cancelled():
            raise Interrupted(f"cancelled while waiting for {what}")
        if end is not None and time.monotonic() >= end:
            raise ConflictError(f"{what} is still in use after {timeout:g} s", hint="wait for the other imgbuild to end, or end it")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


def is_still(path: Path, descriptor: int) -> bool:
    """Whether `path` is (still) the file that was opened as `descriptor`."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


class NamedLocks:
    """Exclusive locks by name, one small file each, that is removed by whoever lets go of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def hold(
        self,
        name: str,
        *,
        cancelled: Callable[[], bool] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        """Hold the lock `name`. Not re-entrant: a thread that takes one name twice waits for itself."""
        path = self._directory / digest_of(name.encode("utf-8", "surrogateescape")).removeprefix("sha256:")
        descriptor = self._open_locked(path, name, cancelled, on_wait)
        try:
            yield
        finally:
            # Unlinked while still held: who waits on this inode sees on waking that it is no longer the path's, and opens anew.
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)

    def sweep(self) -> None:
        """Remove the files of locks that nobody holds (a killed process leaves its own)."""
        for name in os.listdir(self._directory):
            path = self._directory / name
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    if try_flock(descriptor, fcntl.LOCK_EX) and is_still(path, descriptor):
                        path.unlink()
                finally:
                    os.close(descriptor)

    def _open_locked(
        self, path: Path, name: str, cancelled: Callable[[], bool] | None, on_wait: Callable[[], None] | None
    ) -> int:
        while True:
            with explained(path):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                wait_flock(descriptor, fcntl.LOCK_EX, what=name, cancelled=cancelled, on_wait=on_wait)
                if is_still(path, descriptor):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)


class Lease:
    """The store's one big lock: shared by those who use what is in it, exclusive for those who take things out.

    Threads of one process count as strangers, except that whoever holds it alone may also take it shared or alone again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._leases: Counter[int] = Counter()
        self._alone: int | None = None

    @contextmanager
    def shared(self, *, cancelled: Callable[[], bool] | None = None, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Nothing is collected meanwhile. Nests freely; a no-op for the thread that holds the store alone."""
        thread = threading.get_ident()
        if self._alone == thread:
            yield
            return
        descriptor = self._open()
        try:
            wait_flock(descriptor, fcntl.LOCK_SH, what=f"the store {self._path.parent}", cancelled=cancelled, on_wait=on_wait)
            with self._mutex:
                self._leases[thread] += 1
            try:
                yield
            finally:
                with self._mutex:  # perhaps in another thread: a lease may be handed on
                    self._leases[thread] -= 1
        finally:
            os.close(descriptor)

    @contextmanager
    def exclusive(
        self,
        *,
        timeout: float | None = 60.0,
        cancelled: Callable[[], bool] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        """Nobody else uses the store meanwhile. ConflictError after `timeout` seconds of others' leases, and at once where
        this very thread holds a lease. Nests."""
        thread = threading.get_ident()
        if self._alone == thread:
            yield
            return
        if self._leases[thread]:
            raise ConflictError("the store can't be had alone by a thread that is using it")
        descriptor = self._open()
        try:
            wait_flock(
                descriptor,
                fcntl.LOCK_EX,
                what=f"the store {self._path.parent}",
                timeout=timeout,
                cancelled=cancelled,
                on_wait=on_wait,
            )
            self._alone = thread
            try:
                yield
            finally:
                self._alone = None
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        with explained(self._path):
            return os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
