"""How a command ends that is told to: SIGTERM lets go of everything, as Ctrl-C does.

Not for what is over at once and has nothing to let go of: that dies of the signal.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


class Terminated(BaseException):
    """SIGTERM came."""


def heed_sigterm() -> None:
    """From now on, SIGTERM raises `Terminated`, once, unless the caller had it ignored."""
    from imgbuild.light import signal

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def end_with_parent() -> None:
    """From now on, SIGTERM comes when the process that started this one has died, however it did."""
    from imgbuild.light import signal
    from imgbuild.linux import syscalls

    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    from imgbuild.light import signal

    # Once: a second one must not interrupt the clean-up.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated
