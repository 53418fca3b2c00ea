"""Uploads under way: one file each, whose length is how far the upload has come.

So a cut connection or a restart loses nothing that had arrived, and the client may ask and go on. One lock for each
upload: whoever asks how far it has come while an older request is still being read waits for that request's end, and
gets an answer that stays true.
"""

import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import digest_invalid, upload_unknown
from names import Digest, digest_of_file
from storage import Store

_ID = re.compile(r"[0-9a-f]{32}")


class Upload:
    """One upload, held under its lock."""

    def __init__(self, identity: str, path: Path) -> None:
        self.identity = identity
        self._path = path

    @property
    def offset(self) -> int:
        """How many bytes are here."""
        return self._path.stat().st_size

    def append(self, blocks: Iterable[bytes]) -> int:
        """Write what comes, as it comes: bytes before a cut stay. Returns how many."""
        count = 0
        with self._path.open("ab", buffering=0) as file:
            for block in blocks:
                file.write(block)
                count += len(block)
        return count

    def truncate(self, offset: int) -> None:
        """Take back a chunk that was refused."""
        with self._path.open("r+b") as file:
            file.truncate(offset)

    def finish(self, store: Store, name: str, digest: Digest) -> None:
        """Verify and publish, or DIGEST_INVALID; the upload is gone either way.

        distribution-spec 1.1: after a 4xx other than 416 the upload is considered failed.
        """
        actual = digest_of_file(self._path, digest.algorithm)
        if actual != digest:
            self.cancel()
            raise digest_invalid(digest, f"the content is {actual}")
        store.publish_blob(name, digest, self._path)

    def cancel(self) -> None:
        """Forget everything."""
        self._path.unlink()


class Uploads:
    """All uploads of all repositories."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks: dict[Path, threading.Lock] = {}
        self._guard = threading.Lock()

    def start(self, name: str) -> str:
        """Begin an upload; its id."""
        identity = uuid.uuid4().hex
        path = self._path(name, identity)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)
        return identity

    @contextmanager
    def hold(self, name: str, identity: str) -> Iterator[Upload]:
        """An upload for the time of one request, or BLOB_UPLOAD_UNKNOWN."""
        if not _ID.fullmatch(identity):
            raise upload_unknown(identity)
        path = self._path(name, identity)
        with self._guard:
            lock = self._locks.setdefault(path, threading.Lock())
        try:
            with lock:
                if not path.exists():
                    raise upload_unknown(identity)
                yield Upload(identity, path)
        finally:
            if not path.exists():
                with self._guard:
                    self._locks.pop(path, None)

    def _path(self, name: str, identity: str) -> Path:
        return self._store.repository(name) / "_uploads" / identity
