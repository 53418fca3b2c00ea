"""Signals by their numbers, and what is done with them; names of numbers (`Signals`) bring in the standard module, and `enum`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from signal import *  # noqa: F403
else:
    from _signal import *  # noqa: F403

    def __getattr__(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        import signal

        return getattr(signal, name)
