"""Locks, which every store has; threads and what they wait for bring in the standard module when the first of them is made."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from threading import Condition, Event, Lock, RLock, Semaphore, Thread, active_count, current_thread, get_ident, local, main_thread
else:
    from _thread import RLock, get_ident
    from _thread import _local as local
    from _thread import allocate_lock as Lock

    def __getattr__(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        import threading

        return getattr(threading, name)


__all__ = [
    "Condition", "Event", "Lock", "RLock", "Semaphore", "Thread", "active_count", "current_thread", "get_ident", "local", "main_thread",
]  # fmt: skip
