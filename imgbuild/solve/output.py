"""What a performing build keeps beside its record: its directory in the store, and the logs of its steps, without secrets."""

from __future__ import annotations

import fcntl
import os

from imgbuild.hints import Callable, Iterable, Mapping
from imgbuild.light import json, threading
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.solve.redaction import Redactor
from imgbuild.store import journal
from imgbuild.store.journal import DIRECTORY, ENDING, RUNNING
from imgbuild.store.logs import DEFAULT_MOST, StepLog, log_name, log_path

_AHEAD = 1 << 15
"""Bytes of room for what is still to be said: of a step that fails, the end of its output, and how the build ended."""


class Keeper:
    """Keeps the output of one step. Its two streams are redacted each for itself."""

    def __init__(self, root: str, build: str, number: int, secrets: Iterable[bytes], most: int) -> None:
        self._name = log_name(build, number)
        self._log = StepLog(log_path(Path(root), self._name), most or DEFAULT_MOST)
        self._hides = {stream: Redactor(secrets) for stream in (1, 2)}
        self._written = False
        self._lock = threading.Lock()

    def write(self, stream: int, data: bytes) -> None:
        """What the step wrote."""
        with self._lock:
            self._put(stream, self._hides[stream].feed(data))

    def end(self) -> tuple[str, Callable[[], None] | None]:
        """The log's name, "" where nothing was written; and what is to be done for it when there is time."""
        with self._lock:
            for stream, hides in self._hides.items():
                self._put(stream, hides.rest())
            self._log.close()
        return (self._name if self._written else ""), (self._log.settle if self._log.large else None)

    def _put(self, stream: int, data: bytes) -> None:
        if data:
            self._log.write(stream, data)
            self._written = True


class Words:
    """What is known of a build while it performs: a directory in the store, which is locked until the end, and in it a file of lines, for
    whoever finds that this process died, or that the journal could not hold the record. Where none can be made, such a build has no record.

    Room for the next lines is taken before it is needed: a build that fails for a full disk has to say so. Not for several threads at
    once."""

    def __init__(self, root: str, build: str) -> None:
        self._directory = f"{root}/{DIRECTORY}/{build}"
        self._root = root
        self._held = self._descriptor = -1
        self._said = self._room = 0
        try:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            self._held = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._held, fcntl.LOCK_EX)
            self._descriptor = os.open(f"{self._directory}/{RUNNING}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            if self._held >= 0:
                os.close(self._held)
            self._held = -1

    def say(self, fields: Mapping[str, object]) -> bool:
        """A line more; whether it is there as a whole."""
        data = b"\n%b\n" % json.dumps(dict(fields), separators=(",", ":")).encode()
        if self._descriptor < 0:
            return False
        if self._room - self._said < len(data) + _AHEAD:
            with suppress(OSError):
                os.posix_fallocate(self._descriptor, self._said, len(data) + 2 * _AHEAD)
                self._room = self._said + len(data) + 2 * _AHEAD
        with suppress(OSError):
            if os.pwrite(self._descriptor, data, self._said) == len(data):
                self._said += len(data)
                return True
        return False

    def end(self, record: Mapping[str, object]) -> None:
        """The build is over: its record goes into the journal. What that can't hold is said here, in full or as far as it is short."""
        written = journal.append(self._root, json.dumps(dict(record), separators=(",", ":")))
        if not written:
            own = {name: value for name, value in record.items() if name != "steps"}
            short = {name: own[name] for name in ("status", "ended", "error") if name in own}
            _ = self.say({ENDING: own}) or self.say({ENDING: short})
        if self._descriptor >= 0:
            os.close(self._descriptor)
        with suppress(OSError):
            if written:
                os.unlink(f"{self._directory}/{RUNNING}")
            os.rmdir(self._directory)  # it has no logs
        if self._held >= 0:
            os.close(self._held)
        self._held = self._descriptor = -1
