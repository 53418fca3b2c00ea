"""A file that is still being written, read by others from its beginning: they wait where it has not got to yet.

States: growing; then either complete, or discarded. Readers come to the end of a complete file only.
"""

from __future__ import annotations

import os

from imgbuild.hints import TracebackType
from imgbuild.light import threading
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import Digest
from imgbuild.store.failures import explained
from imgbuild.store.locks import Interrupted


class Followed:
    """The file, and how far its writer has got. `digest` is there once it is complete. Thread-safe; a context
    manager, to be left when no stream of it is read any more."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._size = size
        self._complete = False
        self.digest: Digest | None = None
        self._discarded = False
        with explained(path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Followed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def stream(self) -> Following:
        """Another reader, at the beginning."""
        return Following(self)

    # For the writer

    def grow(self, size: int) -> None:
        """The file has so many bytes now."""
        with self._changed:
            self._size = size
            self._changed.notify_all()

    def complete(self, digest: Digest) -> None:
        """No more will be written, and all of it is right."""
        with self._changed:
            self.digest = digest
            self._complete = True
            self._changed.notify_all()

    def discard(self) -> None:
        """Nothing of it is to be used. Nothing after `complete`."""
        with self._changed:
            self._discarded = not self._complete
            self._changed.notify_all()

    # For readers

    def wait(self, size: int) -> int:
        """Wait until the file has so many bytes, or is complete; how many it has. Interrupted where it was discarded."""
        with self._changed:
            self._changed.wait_for(lambda: self._size >= size or self._complete or self._discarded)
            if self._discarded:
                raise Interrupted("what was waited for was discarded while it was written")
            return self._size

    def read(self, at: int, size: int) -> bytes:
        """At most `size` bytes from here on, and none only at the end; Interrupted where the file was discarded."""
        there = self.wait(at + 1) - at
        with explained(self._path):
            return os.pread(self._descriptor, min(size, there), at) if there else b""


class Following:
    """A stream of a followed file."""

    def __init__(self, followed: Followed) -> None:
        self._followed = followed
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, and none only at the end of a complete file."""
        data = self._followed.read(self._at, size)
        self._at += len(data)
        return data
