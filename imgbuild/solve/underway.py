"""What a performing build says of itself while it is under way, in its directory of the store."""

from __future__ import annotations

import fcntl
import os

from imgbuild.hints import Mapping
from imgbuild.light import json
from imgbuild.light.contextlib import suppress
from imgbuild.store import journal
from imgbuild.store.journal import DIRECTORY, ENDING, RUNNING

_AHEAD = 1 << 15
"""Bytes of room for what is still to be said: of a step that fails, the end of its output, and how the build ended."""


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

    def say(self, *lines: Mapping[str, object]) -> bool:
        """Some lines more; whether they are there as a whole."""
        data = b"".join([b"\n%b\n" % json.dumps(dict(line), separators=(",", ":")).encode() for line in lines])
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
