"""Locks, threads and what they wait for, as far as it is used here; anything else brings in the standard module.

Threads are told nothing of at exit, which does not wait for them: a command joins those that it needs, and ends by `os._exit`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Condition, Event, Lock, RLock, Semaphore, Thread, active_count, current_thread, get_ident, local, main_thread
else:
    import sys
    from _thread import RLock, _count, get_ident, start_new_thread
    from _thread import _local as local
    from _thread import allocate_lock as Lock
    from time import monotonic

    def active_count():
        """As the standard one."""
        return _count() + 1

    class Thread:
        """As the standard one, without a place among its threads."""

        def __init__(self, group=None, target=None, name=None, args=(), kwargs=None, *, daemon=None):
            self.name, self.daemon = name, daemon
            self._work = target, args, kwargs or {}
            self._begun, self._running = Lock(), Lock()
            self._ended = None

        def start(self):
            if self._ended is not None:
                raise RuntimeError("threads can only be started once")
            self._ended = False
            self._begun.acquire()
            self._running.acquire()
            try:
                start_new_thread(self._run, ())
            except BaseException:
                self._ended = None
                self._begun.release()
                self._running.release()
                raise
            self._begun.acquire()  # before that, nothing counts it

        def _run(self):
            target, args, kwargs = self._work
            self._begun.release()
            try:
                target(*args, **kwargs)
            except SystemExit:
                pass
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                del target, args, kwargs, self._work
                self._ended = True
                self._running.release()

        def join(self, timeout=None):
            if self._ended is None:
                raise RuntimeError("cannot join thread before it is started")
            if self._running.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
                self._running.release()

        def is_alive(self):
            return self._ended is False

    class Condition:
        """As the standard one."""

        def __init__(self, lock=None):
            self._lock = lock = RLock() if lock is None else lock
            self.acquire, self.release = lock.acquire, lock.release
            self._save = getattr(lock, "_release_save", lock.release)
            self._restore = getattr(lock, "_acquire_restore", lambda saved: lock.acquire())
            self._waiters = []

        def __enter__(self):
            return self._lock.__enter__()

        def __exit__(self, *error):
            return self._lock.__exit__(*error)

        def wait(self, timeout=None):
            waiter = Lock()
            waiter.acquire()
            self._waiters.append(waiter)
            saved, woken = self._save(), False
            try:
                woken = waiter.acquire(timeout=-1 if timeout is None else max(timeout, 0))
                return woken
            finally:
                self._restore(saved)
                if not woken and waiter in self._waiters:
                    self._waiters.remove(waiter)

        def wait_for(self, predicate, timeout=None):
            end = None if timeout is None else monotonic() + timeout
            while not (found := predicate()):
                left = None if end is None else end - monotonic()
                if left is not None and left <= 0:
                    break
                self.wait(left)
            return found

        def notify(self, n=1):
            waiters, self._waiters = self._waiters[:n], self._waiters[n:]
            for waiter in waiters:
                waiter.release()

        def notify_all(self):
            self.notify(len(self._waiters))

    class Event:
        """As the standard one."""

        def __init__(self):
            self._changed = Condition(Lock())
            self._is_set = False

        def is_set(self):
            return self._is_set

        def set(self):
            with self._changed:
                self._is_set = True
                self._changed.notify_all()

        def clear(self):
            with self._changed:
                self._is_set = False

        def wait(self, timeout=None):
            with self._changed:
                return self._is_set or self._changed.wait(timeout)

    class Semaphore:
        """As the standard one."""

        def __init__(self, value=1):
            self._changed = Condition(Lock())
            self._value = value

        def acquire(self, blocking=True, timeout=None):
            with self._changed:
                if not self._changed.wait_for(lambda: self._value > 0, timeout if blocking else 0):
                    return False
                self._value -= 1
                return True

        def release(self, n=1):
            with self._changed:
                self._value += n
                self._changed.notify(n)

        __enter__ = acquire

        def __exit__(self, *error):
            self.release()

    def __getattr__(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        import threading

        return getattr(threading, name)


__all__ = [
    "Condition", "Event", "Lock", "RLock", "Semaphore", "Thread", "active_count", "current_thread", "get_ident", "local", "main_thread",
]  # fmt: skip
