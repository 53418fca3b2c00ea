"""Why a step failed, in words, from evidence: exit code, signal, the limits it met, and what the kernel said."""

from __future__ import annotations

import signal

from imgbuild.errors import StepFailed
from imgbuild.graph.ops import RunOp
from imgbuild.sandbox.spec import ExitStatus


def failure(op: RunOp, status: ExitStatus, expired: str, tail: str, disk_full: bool = False) -> StepFailed:
    """The error of a RUN that did not end with 0. `expired` is "timeout" or "idle-timeout" where we killed it for that; `disk_full`
    says that there was no room left for its files."""
    message, hint = _cause(op, status, expired, tail, disk_full)
    return StepFailed(message, hint=hint, detail=tail or None)


def _cause(op: RunOp, status: ExitStatus, expired: str, tail: str, disk_full: bool) -> tuple[str, str | None]:
    limits = op.limits
    if status.setup_error:
        return f"the command did not start: {status.setup_error}", _start_hint(op, status)
    if expired == "timeout":
        return f"the command ran longer than its --timeout of {limits.timeout:g} s and was killed", None
    if expired == "idle-timeout":
        return f"the command wrote nothing for its --idle-timeout of {limits.idle_timeout:g} s and was killed", None
    if status.oom:
        peak = f", peak {_size(status.usage.peak_memory)}" if status.usage.peak_memory else ""
        if limits.memory is not None:
            return f"the command ran out of memory: limit {_size(limits.memory)}{peak}", "raise RUN --memory, or make it use less"
        return f"the command was killed because the machine ran out of memory{peak}", "run fewer steps at once, or limit them"
    if status.signal is not None:
        ended = f"the command was ended by signal {_signal_name(status.signal)}"
    else:
        ended = f"the command ended with exit code {status.code}"
    if disk_full or "No space left on device" in tail:
        return f"{ended}: no space was left on the device", "free space, or try: imgbuild prune"
    return ended, None if status.signal is not None else _exit_hint(op, status.code, tail)


def _start_hint(op: RunOp, status: ExitStatus) -> str | None:
    program = op.argv[0]
    if status.code == 127 and program == "/bin/sh":
        return "the image has no shell: use the exec form, RUN [\"program\", \"argument\"], or another base"
    if status.code == 127:
        return f"{program!r} is not in the image, or its interpreter or loader is not"
    if status.code == 126:
        return f"{program!r} is not executable: wrong mode, or built for another architecture"
    return None


def _exit_hint(op: RunOp, code: int, tail: str) -> str | None:
    if code > 128 and code - 128 in set(signal.Signals):
        return f"128 + {code - 128} means that a program in it was ended by {_signal_name(code - 128)}"
    if op.network == "none" and ("resolve" in tail or "Network is unreachable" in tail):
        return "the step has --network=none"
    if code in (126, 127) and op.argv[-1].lstrip().startswith(('["', "['")):
        return "if the exec form was meant: it is JSON, with double quotes and commas"
    return None


def _signal_name(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:
        return str(number)


def _size(number: int | None) -> str:
    if number is None:
        return "unknown"
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError
