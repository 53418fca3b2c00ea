"""How a command in a container ended, in the field's exit codes and in words."""

from __future__ import annotations

from imgbuild.sandbox.spec import ExitStatus, Limits
from imgbuild.values import dataclass

CANNOT_RUN, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127


@dataclass(frozen=True, slots=True)
class Outcome:
    """`exit_code`: the command's own, 128+n for signal n, 125 to 127 where it never ran (`setup_failed`). `message`, if any, is for
    the user."""

    exit_code: int
    message: str = ""
    setup_failed: bool = False


def outcome_of(status: ExitStatus, what: str, command: str, limits: Limits | None) -> Outcome:
    """What `what`, which was to execute `command`, came to."""
    if status.setup_error:
        return Outcome(status.code, f"can't run {command!r}: {status.setup_error}", setup_failed=True)
    code = status.code if status.signal is None else 128 + status.signal
    if status.oom and code != 0:
        limit = f" (its limit is {_size(limits.memory)})" if limits is not None and limits.memory is not None else ""
        return Outcome(code, f"{what} ran out of memory{limit}: the kernel killed a process in it")
    return Outcome(code)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
