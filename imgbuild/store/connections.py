"""SQLite as the index uses it: one connection a thread, opened when first needed; sqlite3's one door.

WAL with synchronous=NORMAL: a commit writes no more than a few pages and waits for no disk, a power cut may undo the last
commits and never damages the file. OFF would save the sync of a checkpoint, and risk the whole index for it. What is in the
index can be had again (blobs, index.json and directories are the truth), but not for nothing.
"""

from __future__ import annotations

import errno
import os
from _weakref import ref

from imgbuild.errors import StoreError
from imgbuild.hints import TYPE_CHECKING, Any, Iterator
from imgbuild.light import threading
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.failures import PRUNE, IndexDamagedError, NoSpaceError, explain, explained

if TYPE_CHECKING:
    import sqlite3

APPLICATION = 0x696D6764
"""PRAGMA application_id: which program the file belongs to."""

_BUSY_SECONDS = 30.0
_REBUILD = "run `imgbuild fsck --repair`: it makes a new index; images stay, the step cache is lost"


class Connections:
    """The connections of one process to one index file; `schema` makes it, `version` (PRAGMA user_version) tells its form."""

    def __init__(self, path: Path, schema: str, version: int) -> None:
        self.path = path
        self._schema = schema
        self._version = version
        self._local = threading.local()
        self._open: set[ref[_Handle]] = set()
        self._mutex = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; each statement sees the latest commits. sqlite's errors become StoreErrors."""
        driver = _driver()
        try:
            yield self._connection()
        except driver.Error as error:
            raise self._explain(error) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection inside one transaction, committed at the end, undone by an exception. Inside another one it is that."""
        with self.reading() as connection:
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def check(self) -> None:
        """Read the whole file; StoreError where it is damaged."""
        with self.reading() as connection:
            verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise IndexDamagedError(f"the store's index {self.path} is damaged", hint=_REBUILD, detail=str(verdict))

    def close(self) -> None:
        """Close all connections; no thread may be using one. A later use opens anew."""
        with self._mutex:
            handles = [handle for known in tuple(self._open) if (handle := known()) is not None]
            self._open.clear()
            self._local = threading.local()
        for handle in handles:
            handle.connection.close()

    def _connection(self) -> sqlite3.Connection:
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            handle = _Handle(self._connect())
            self._local.handle = handle
            with self._mutex:
                self._open.add(ref(handle, self._open.discard))
        return handle.connection

    def _connect(self) -> sqlite3.Connection:
        with explained(self.path):
            self.path.parent.stat()
        if not (read_only := self._is_read_only()) and not self.path.exists():
            self._make()
        # Where nobody can write, there may be no log either, without which SQLite opens only what it is told never changes.
        address = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1" if read_only else str(self.path)
        uri = address.startswith("file:")
        connection: sqlite3.Connection = _driver().connect(
            address, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri
        )
        try:
            connection.execute("PRAGMA synchronous=NORMAL")
            self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _make(self) -> None:
        """Make the file as a whole, before anyone sees it: two processes that set up one file get in each other's way, and a third
        would meet it half done. Whose is first in its place stays."""
        made = f"{self.path}.{os.getpid()}.{threading.get_ident()}"
        with explained(self.path):
            try:
                connection = _driver().connect(made, isolation_level=None)
                try:
                    self._fill(connection)
                finally:
                    connection.close()
                with suppress(FileExistsError):
                    os.link(made, self.path)
            finally:
                for suffix in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.unlink(made + suffix)

    def _fill(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise IndexDamagedError(f"{self.path} is not imgbuild's index", hint=_REBUILD)
        for statement in self._schema.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION}")
        connection.execute(f"PRAGMA user_version={self._version}")
        connection.execute("COMMIT")

    def _check(self, connection: sqlite3.Connection) -> None:
        version, application = _identity(connection)
        if (version, application) == (0, 0):
            self._fill(connection)  # an empty file
            version, application = self._version, APPLICATION
        if application != APPLICATION:
            raise IndexDamagedError(f"{self.path} is not imgbuild's index", hint=_REBUILD)
        if version != self._version:
            raise IndexDamagedError(
                f"the store's index has the form {version}, this imgbuild knows {self._version}",
                hint="use the imgbuild that made it, or " + _REBUILD,
            )

    def _is_read_only(self) -> bool:
        try:
            return bool(os.statvfs(self.path.parent).f_flag & os.ST_RDONLY)
        except OSError:
            return False

    def _explain(self, error: sqlite3.Error) -> StoreError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return IndexDamagedError(f"the store's index {self.path} is damaged", hint=_REBUILD, detail=str(error))
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")):
            return NoSpaceError(f"no space left for {self.path}", hint=PRUNE, detail=str(error))
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            if self._is_read_only():
                return explain(OSError(errno.EROFS, os.strerror(errno.EROFS)), self.path)
            hint = "set IMGBUILD_ROOT to a directory that can be written"
            return StoreError(f"the store's index {self.path} can't be written", hint=hint, detail=str(error))
        if name.startswith("SQLITE_BUSY"):
            return StoreError(f"the store's index {self.path} is locked", hint="another program keeps it open in a transaction")
        return StoreError(f"the store's index {self.path} can't be used", detail=f"{error} ({name})")


class _Handle:
    """Holds a thread's connection; the connection closes when its thread is gone (sqlite3.Connection has no weak references)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def __del__(self) -> None:
        with suppress(Exception):
            self.connection.close()


def _driver() -> Any:
    """SQLite as the interpreter has it: the module around that registers how to store dates, for which it imports them."""
    try:
        import _sqlite3
    except ImportError:  # the standard library promises only this
        import sqlite3

        return sqlite3
    return _sqlite3


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    # In one statement, and so of one moment: another process may be making the file.
    version, application = connection.execute("SELECT * FROM pragma_user_version, pragma_application_id").fetchone()
    return int(version), int(application)
