"""How a build says that it happened: one line at the end of ``history/journal``, by one write, without asking the index.

`history` takes the lines into the index when somebody wants to know of builds; until then they are here, and cost a build some
ten microseconds. A line is the JSON object of a whole record, or, of a build that found everything as another one had left it, five
fields: ``=``, its id, when it started and ended (seconds since 1970), and the id of the other build. A line that is torn (a full disk, a
power cut) is no record, and harms no other: each begins and ends with a line feed.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

DIRECTORY = "history"
JOURNAL = "history/journal"
FORM = 1
"""The form of the records that are written, and the last one that is known."""
_LONG = 1 << 18
"""Bytes of a journal."""
RUNNING = "running"
"""The file in a build's directory that it writes while it performs steps."""
ENDING = "ending"
"""What the line of that file that says how the build ended has it under."""


def new_id() -> str:
    """The id of a build: sixteen hexadecimal digits."""
    return os.urandom(8).hex()


def append(root: str | os.PathLike[str], line: str) -> bool:
    """Add a line to the journal of the store at `root`; whether that was possible. A build never fails for it."""
    try:
        descriptor = _open(os.fspath(root))
        try:
            # Whoever takes the lines out has the file alone, so that none is lost; those who add some don't mind each other.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            data = b"\n%b\n" % line.encode()
            return os.write(descriptor, data) == len(data)
        finally:
            os.close(descriptor)
    except OSError:
        return False


def append_same(root: str | os.PathLike[str], build: str, started: float, ended: float, other: str) -> bool:
    """As `append`, of a build `build` that was the same as the build `other`, with every step found in the cache."""
    return append(root, f"=\t{build}\t{started:.6f}\t{ended:.6f}\t{other}")


def lately(root: str | os.PathLike[str]) -> Iterator[Any]:
    """The records that stand in the journal, as JSON values, the last one first; a build that was as another one is told by that one's.
    It ends where only the index can tell more, and says nothing of a long journal, which is better taken in."""
    from imgbuild.light import json

    try:
        with open(f"{os.fspath(root)}/{JOURNAL}", "rb", opener=opener) as stream:
            data = stream.read(_LONG + 1)
    except OSError:
        return
    lines = [line for line in data.split(b"\n") if line] if len(data) <= _LONG else []
    for line in reversed(lines):
        if line[:1] == b"=":
            name = b'"id":"%b"' % line.rpartition(b"\t")[2]
            line = next((other for other in lines if other[:1] == b"{" and name in other), b"")
            if not line:
                return
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        yield record


def opener(path: str, flags: int) -> int:
    """Of `open`: waits for nobody where a fifo stands in a file's place."""
    return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)


def _open(root: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(f"{root}/{JOURNAL}", flags, 0o600)
    except FileNotFoundError:  # a store of before there were journals
        os.mkdir(f"{root}/{DIRECTORY}", 0o700)
        return os.open(f"{root}/{JOURNAL}", flags, 0o600)
