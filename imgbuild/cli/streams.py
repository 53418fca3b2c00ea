"""This process's own standard streams: always there, and what can't be written to them is an error of its own kind.

Without that, an error of stdout is an OSError like any other: taken for one of the store, or of a step, and repeated at exit.
"""

from __future__ import annotations

import io
import os
import sys

from imgbuild.errors import ImgbuildError
from imgbuild.hints import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

_NAMES = ("stdin", "stdout", "stderr")


class OutputError(ImgbuildError):
    """The standard output, or the standard error, can't be written to."""

    reference = "output"
    exit_code = 74  # EX_IOERR of sysexits.h


class OutputUnread(OutputError):
    """Whoever read our output has seen enough: nothing that had to be said."""

    exit_code = 141  # as if SIGPIPE had ended us


def fill() -> None:
    """Streams that the caller closed become /dev/null, before a file of ours gets their numbers."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        os.set_inheritable(descriptor, True)
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  (ours as long as we live)


def guard() -> None:
    """From now on, what can't be written to stdout or stderr raises `OutputError`. Streams that a program put in their place stay."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream: TextIO | None = getattr(sys, name)
        if stream is None or (stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper)):
            setattr(sys, name, _guarded(number, stream))


def flush() -> None:
    """Write what is left, where that is possible."""
    for stream in (sys.stdout, sys.stderr):
        last_words(stream.flush)


def last_words(say: Callable[[], object]) -> None:
    """Say it, if it can be said: there is nothing more to be done about it."""
    try:
        say()
    except OutputError:
        return


def say(text: object, *, err: bool = False) -> None:
    """A line on stdout, or on stderr, at once."""
    print(text, file=sys.stderr if err else sys.stdout, flush=True)


def _guarded(number: int, before: io.TextIOWrapper | None) -> io.TextIOWrapper:
    raw = _Output(number, "wb", closefd=False)
    if before is None:
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "surrogateescape")
    # Python's own way where it was told not to buffer (PYTHONUNBUFFERED).
    buffer = cast("io.BufferedWriter", raw) if before.write_through else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer, before.encoding, before.errors, line_buffering=before.line_buffering, write_through=before.write_through
    )


class _Output(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of it, also where somebody made the descriptor non-blocking."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest:
                written = super().write(rest)
                if written is None:
                    import select

                    poll = select.poll()
                    poll.register(self.fileno(), select.POLLOUT)
                    poll.poll()
                rest = rest[written or 0 :]
        except OSError as error:
            # Once is enough: all that still wants to be written, at exit too, goes nowhere.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            kind = OutputUnread if isinstance(error, BrokenPipeError) else OutputError
            raise kind(f"can't write to {_NAMES[self.fileno()]}: {(error.strerror or str(error)).lower()}") from None
        return size
