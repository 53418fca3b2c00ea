"""SQLite as the index uses it: as many connections as are used at once, opened when first needed; sqlite3's one door.

WAL with synchronous=NORMAL: a commit writes no more than a few pages and waits for no disk, a power cut may undo the last
commits and never damages the file. OFF would save the sync of a checkpoint, and risk the whole index for it. What is in the
index can be had again (blobs, index.json and directories are the truth), but not for nothing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from imgbuild.errors import StoreError
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Iterator
from imgbuild.light import functools, threading
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.failures import PRUNE, IndexDamagedError, NoSpaceError, explain, explained

if TYPE_CHECKING:
    import sqlite3

APPLICATION = 0x696D6764
"""PRAGMA application_id: which program the file belongs to."""

_BUSY_SECONDS = 30.0
_LOG = 1 << 19
"""Bytes of a log that are read again, by who opens the file, in some tenths of a millisecond."""
_REBUILD = "run `imgbuild fsck --repair`: it makes a new index; images stay, the step cache is lost"


class Connections:
    """The connections of one process to one index file; `schema` makes it, `version` (PRAGMA user_version) tells its form. One that is not
    `lasting` waits for no disk: a power cut may cost all of it."""

    def __init__(
        self, path: Path, schema: str, version: int, *, lasting: bool = True, making: Callable[[], object] = lambda: None
    ) -> None:
        self._making = making
        self.path = path
        self._schema = schema
        self._version = version
        self._synchronous = f"PRAGMA synchronous={'NORMAL' if lasting else 'OFF'}"
        self._local = threading.local()
        self._idle: list[_Handle] = []
        self._all: set[_Handle] = set()
        self._mutex = threading.Lock()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that no other thread uses meanwhile; each statement sees the latest commits. sqlite's errors become StoreErrors."""
        driver = _driver()
        try:
            handle = self._taken()
            try:
                yield handle.connection
            finally:
                self._given_back(handle)
        except driver.Error as error:
            raise self._explain(error) from error
        except UnicodeDecodeError as error:  # the driver, about a name in a damaged file
            raise IndexDamagedError(f"the store's index {self.path} is damaged", hint=_REBUILD, detail=str(error)) from error

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """As `reading`, inside one transaction, committed at the end, undone by an exception. Inside another one it is that."""
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
            handles = tuple(self._all)
            self._all.clear()
            self._idle.clear()
            self._local = threading.local()
        for handle in handles:
            handle.connection.close()

    def leave(self) -> None:
        """In the place of `close`, for a process that ends now. The last one to close brings the log into the file, which waits for the
        disk three times: that is put off until the log is worth it. What is in the log is there for whoever opens the file next."""
        try:
            grown = os.stat(f"{self.path}-wal").st_size > _LOG
        except OSError:
            grown = True
        if grown:
            self.close()

    def _taken(self) -> _Handle:
        """The connection that this thread uses already, or one that nobody uses."""
        handle: _Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            with self._mutex:
                handle = self._idle.pop() if self._idle else None
            if handle is None:
                handle = _Handle(self._connect())
                with self._mutex:
                    self._all.add(handle)
            self._local.handle = handle
        handle.uses += 1
        return handle

    def _given_back(self, handle: _Handle) -> None:
        handle.uses -= 1
        if not handle.uses and getattr(self._local, "handle", None) is handle:
            self._local.handle = None
            with self._mutex:
                if handle in self._all:
                    self._idle.append(handle)

    def _connect(self) -> sqlite3.Connection:
        with explained(self.path):
            self.path.parent.stat()
        if not (read_only := self._is_read_only()) and not self.path.exists():
            self._make()
        # Where nobody can write, and there is no log, SQLite opens only what it is told never changes.
        unchanging = "" if _length(f"{self.path}-wal") else "&immutable=1"
        address = f"{self.path.absolute().as_uri()}?mode=ro{unchanging}" if read_only else str(self.path)
        uri = address.startswith("file:")
        connection: sqlite3.Connection = _driver().connect(
            address, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=uri
        )
        try:
            connection.execute(self._synchronous)
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
                self._put(made)
            finally:
                for suffix in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.unlink(made + suffix)

    def _put(self, made: str) -> None:
        """Link what was made into its place. A log that somebody left beside a file that is gone is not that of the new one, which it
        would damage: who takes it away has the directory alone, as the next one to come may be writing into their own."""
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(OSError):  # where directories can't be locked
                fcntl.flock(directory, fcntl.LOCK_EX)
            if not self.path.exists():
                for suffix in ("-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.unlink(f"{self.path}{suffix}")
                self._making()
                with suppress(FileExistsError):
                    os.link(made, self.path)
        finally:
            os.close(directory)

    def _fill(self, connection: sqlite3.Connection) -> None:
        connection.execute(self._synchronous)
        connection.execute("PRAGMA journal_mode=WAL")
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


def _length(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


class _Handle:
    """A connection, and how often its thread uses it at the moment, one use within the other."""

    __slots__ = ("connection", "uses")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.uses = 0


def _driver() -> Any:
    """SQLite as the interpreter has it: the module around that registers how to store dates, for which it imports them."""
    try:
        with _with_functools():
            import _sqlite3
    except ImportError:  # the standard library promises only this
        import sqlite3

        return sqlite3
    return _sqlite3


@contextmanager
def _with_functools() -> Iterator[None]:
    """SQLite's module takes one function from `functools`, which imports ten others: where nobody has loaded it, ours stands for it. Not
    beside other threads, which may import it at that moment and need more of it."""
    if "functools" in sys.modules or "_sqlite3" in sys.modules or threading.active_count() > 1:
        yield
        return
    sys.modules["functools"] = functools
    try:
        yield
    finally:
        if sys.modules.get("functools") is functools:
            del sys.modules["functools"]


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    # In one statement, and so of one moment: another process may be making the file.
    version, application = connection.execute("SELECT * FROM pragma_user_version, pragma_application_id").fetchone()
    return int(version), int(application)
