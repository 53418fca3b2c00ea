"""What a performing build keeps beside its record: its directory in the store, and the logs of its steps, without secrets."""

from __future__ import annotations

from imgbuild.hints import Callable, Iterable
from imgbuild.light import threading
from imgbuild.light.pathlib import Path
from imgbuild.solve.redaction import Redactor
from imgbuild.store.logs import DEFAULT_MOST, StepLog, log_name, log_path


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
