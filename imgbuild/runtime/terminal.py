"""The caller's terminal: raw while a container's terminal is shown in it, its size passed on, and given back as it was."""

from __future__ import annotations

import os

from imgbuild.hints import Iterator
from imgbuild.light.contextlib import contextmanager, suppress

DEFAULT_SIZE = (24, 80)


def is_terminal(descriptor: int) -> bool:
    """Whether a descriptor, which may be closed, is a terminal."""
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


@contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Keys go through as they are, and output is not changed, until the context is left, in whatever way."""
    import termios

    before = termios.tcgetattr(descriptor)
    mode = termios.tcgetattr(descriptor)
    mode[0] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )
    mode[1] &= ~termios.OPOST
    mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(descriptor, termios.TCSADRAIN, mode)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal may have been hung up
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def size(descriptor: int) -> tuple[int, int]:
    """Rows and columns; those of an old screen where the terminal does not know."""
    import termios  # here, since most containers have no terminal

    try:
        rows, columns = termios.tcgetwinsize(descriptor)
    except (OSError, termios.error):
        return DEFAULT_SIZE
    return (rows, columns) if rows and columns else DEFAULT_SIZE


def copy_size(source: int, target: int) -> None:
    """Give one terminal the size of another; the kernel tells those who run in it (SIGWINCH)."""
    import termios

    with suppress(OSError, termios.error):
        termios.tcsetwinsize(target, size(source))
