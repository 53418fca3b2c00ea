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
_LONG, _NEAR = 1 << 18, 1 << 15
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

    for line in _backwards(f"{os.fspath(root)}/{JOURNAL}"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        yield record


def _backwards(path: str) -> Iterator[bytes]:
    """The lines of records, the last one first. Mostly nobody asks for a second one: what is near the end is read first."""
    try:
        with open(path, "rb", buffering=0, opener=opener) as stream:
            size = os.fstat(stream.fileno()).st_size
            used = 0
            for part in (_NEAR, _LONG) if size <= _LONG else ():
                start = max(size - part, 0)
                lines = os.pread(stream.fileno(), size - start, start).split(b"\n")
                lines = [line for line in (lines[1:] if start else lines) if line]  # the first may be the rest of one
                for line in reversed(lines[: len(lines) - used]):
                    told = _told(line, lines)
                    if not told:
                        break
                    yield told
                    used += 1
                if not start:
                    return
    except OSError:
        return


def _told(line: bytes, lines: list[bytes]) -> bytes:
    """The line of the record that a line stands for, if it is among these."""
    if line[:1] != b"=":
        return line
    name = b'"id":"%b"' % line.rpartition(b"\t")[2]
    return next((other for other in lines if other[:1] == b"{" and name in other), b"")


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
