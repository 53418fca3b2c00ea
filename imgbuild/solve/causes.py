"""Why a step failed: from evidence, which is values, to a cause, which is words. Pure.

What was measured is said as a fact: exit code, signal, limits, what is in the step's root. What only the step's output says, and no such
fact bears out, is a note: a word in a log is not yet the reason for an end.
"""

from __future__ import annotations

from imgbuild.buildfile.suggest import did_you_mean
from imgbuild.graph.ops import RunOp
from imgbuild.hints import Mapping
from imgbuild.light import signal
from imgbuild.sandbox.spec import ExitStatus
from imgbuild.solve.clues import Clue, right_of
from imgbuild.values import dataclass, field

INSECURE = "if the step must have it: RUN --security=insecure, and --allow security.insecure"


@dataclass(frozen=True, slots=True)
class FileFact:
    """What is at a path of the step's root: `kind` is missing, file, directory or other. Of a program: its `form` (elf, script, empty
    or other), the `interpreter` that its first line or its PT_INTERP names, whether that is there, and the `machine` it is for."""

    kind: str = "missing"
    mode: int = 0
    uid: int = 0
    gid: int = 0
    form: str = ""
    interpreter: str = ""
    interpreter_there: bool = True
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of a failed step. `program` is the word that could not be executed, and `at` the path that it means in the root
    ("" where it is nowhere); `near` are names to be meant instead, `elsewhere` paths beside those that were searched. `full` says which
    file system has no room left, `mounts` where the step's own mounts are and whether they are read-only."""

    op: RunOp
    status: ExitStatus
    expired: str = ""
    clue: Clue | None = None
    full: str = ""
    program: str = ""
    at: str = ""
    searched: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    files: Mapping[str, FileFact] = field(default_factory=dict)
    mounts: tuple[tuple[str, bool], ...] = ()
    nameservers: tuple[str, ...] = ()
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """`kind` is a word for programs; `notes` are the evidence, `word` is what in the instruction it is about, if anything. `borne_out`: it
    rests on a fact, not on the step's output alone."""

    kind: str
    message: str
    notes: tuple[str, ...] = ()
    hint: str | None = None
    word: str = ""
    borne_out: bool = True


def find_cause(seen: Evidence) -> Cause:
    """The cause that the evidence shows, at least how the command ended."""
    measured = _measured(seen)
    if measured is not None:
        return measured
    from imgbuild.solve.sayings import said

    if seen.status.setup_error:
        return said(seen, "the command did not start", seen.status.setup_error)
    if seen.status.signal is not None:
        return _signalled(seen)
    return said(seen, f"the command ended with exit code {seen.status.code}", "")


def _measured(seen: Evidence) -> Cause | None:
    """What we did ourselves, or the kernel counted."""
    limits, status = seen.op.limits, seen.status
    if status.setup_error:
        return None
    if seen.expired == "timeout":
        return Cause("timeout", f"the command ran longer than its --timeout of {limits.timeout:g} s and was killed")
    if seen.expired == "idle-timeout":
        return Cause("idle-timeout", f"the command wrote nothing for its --idle-timeout of {limits.idle_timeout:g} s and was killed")
    if status.oom:
        peak = f", peak {size_text(status.usage.peak_memory)}" if status.usage.peak_memory else ""
        notes = (f"the kernel killed a process in the step's control group; {how_ended(status)}",)
        if limits.memory is not None:
            message = f"the command ran out of memory: limit {size_text(limits.memory)}{peak}"
            return Cause("memory", message, notes, "raise RUN --memory, or make it use less")
        message = f"the command was killed because the machine ran out of memory{peak}"
        return Cause("memory", message, notes, "run fewer steps at once, or limit them")
    if seen.full:
        notes = (f"{seen.full} has no room left",)
        return Cause("space", f"{how_ended(status)}: no space was left on the device", notes, "free space, or try: imgbuild prune")
    return None


def _signalled(seen: Evidence) -> Cause:
    number = seen.status.signal or 0
    notes: tuple[str, ...] = ()
    hint = None
    if number == signal.SIGKILL:
        notes = (f"imgbuild did not send it, and {kills_text(seen.status)}",)
    if number == signal.SIGSYS:
        notes = ("a seccomp filter sends it; the one of steps does not: it answers with an error",)
        hint = "look for a filter of the program's own"
    return Cause("signal", how_ended(seen.status), notes, hint)


def how_ended(status: ExitStatus) -> str:
    """The end of the command as the kernel told it."""
    if status.signal is not None:
        return f"the command was ended by signal {signal_text(status.signal)}"
    return f"the command ended with exit code {status.code}"


def kills_text(status: ExitStatus) -> str:
    """What is known of kills for lack of memory, where none was noticed."""
    if status.usage.oom_kills is None:
        return "whether the kernel did for lack of memory is not known: the step had no control group that counts that"
    return "its control group counted no kill for lack of memory"


def exit_notes(op: RunOp, code: int) -> tuple[str, ...]:
    """What an exit code means by custom."""
    if code > 128 and code - 128 in set(signal.Signals):
        return (f"128 + {code - 128} means that a program in it was ended by {signal_text(code - 128)}",)
    return ()


def json_hint(op: RunOp) -> str | None:
    """For a list that was meant, and is none."""
    if op.argv[-1].lstrip().startswith(('["', "['")):
        return "if the exec form was meant: it is JSON, with double quotes and commas"
    return None


def right_notes(seen: Evidence, line: str) -> tuple[tuple[str, ...], str | None]:
    """What a step may not do, where a line speaks of something that is known to need it."""
    right, name = right_of(line)
    if seen.op.security == "insecure":
        return (), None
    if right:
        return (f"`{name}` needs the capability {right}, which steps have not",), INSECURE
    return ("steps have the capabilities and the seccomp filter that docker gives a container, and no more",), None


def near_hint(word: str, near: tuple[str, ...]) -> str | None:
    """The known name that may have been meant."""
    return did_you_mean(word, near)


def signal_text(number: int) -> str:
    """A signal by its number, its name, and what it is called."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        return str(number)
    words = signal.strsignal(number)
    return f"{number} ({name})" if not words or words.upper().removesuffix("ED") in name else f"{number} ({name}, {words.lower()})"


def size_text(number: int | None) -> str:
    """Bytes for people."""
    if number is None:
        return "unknown"
    size = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError
