"""The builds that there were: a row each in the index, and in ``history/<id>/`` the logs of the steps that it performed.

Builds write no row: they leave a line in the `journal`, which is taken into the index by who wants to know of them (`take_in`). One
that performs something has its directory from then on, under a flock; ``running`` in it says, line by line, what would be lost if it died,
and is gone when it ended. A ``running`` whose lock is free is of a build that was killed: taken in, too, as interrupted.

What is kept (`trim`): builds that ended since a time, and those that performed a step which is still in the cache, since that step's
log is theirs; of these the youngest, as many as fit into a size.

The table is made when it is first needed and needs no other version of the index. What a record says is for `insight.builds` to know; here
it is a JSON object with "id", "started", "ended", "status", "buildfile", "target" and "steps".
"""

from __future__ import annotations

import fcntl
import os

from imgbuild.errors import CorruptError, StoreError
from imgbuild.hints import TYPE_CHECKING, Any, Callable, Iterable, Iterator
from imgbuild.light import json
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.failures import explained
from imgbuild.store.journal import DIRECTORY, JOURNAL, RUNNING, opener
from imgbuild.store.records import Record, admitted, column, is_id, packed, parse_summary, summary_of, unpacked
from imgbuild.store.store import Store
from imgbuild.store.unfinished import is_running, left_by, said_by

if TYPE_CHECKING:
    import sqlite3

TABLE = """
CREATE TABLE history(id TEXT PRIMARY KEY, started REAL NOT NULL, ended REAL NOT NULL, buildfile TEXT NOT NULL, target TEXT NOT NULL,
                     record BLOB NOT NULL);
CREATE INDEX history_by_start ON history(started);
CREATE INDEX history_by_buildfile ON history(buildfile, target, started)
"""
SUMMARIES = (
    "CREATE TABLE IF NOT EXISTS history_summaries(id TEXT PRIMARY KEY, summary TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TRIGGER IF NOT EXISTS history_forgotten AFTER DELETE ON history BEGIN DELETE FROM history_summaries WHERE id = old.id; END",
)
"""Records without their steps, for lists: beside the table, whose rows versions of before there were any go on writing and deleting."""


FORGOTTEN = "CREATE TABLE IF NOT EXISTS history_forgotten(buildfile TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID"
"""The Buildfiles of which builds were forgotten, and when: that there is no record of one does not mean that there was none."""
_MOST_FORGOTTEN = 10_000


class History:
    """The builds of a store. Asking takes in what was left in the journal before; where the store can't be written, it is only read.
    `on_damage` is told, in a sentence, of what had to be left out."""

    def __init__(self, store: Store, on_damage: Callable[[str], None] = lambda said: None) -> None:
        self._store = store
        self._root = store.root / DIRECTORY
        self._connections = store.index.connections
        self._only_here: dict[str, Record] = {}
        self._on_damage = on_damage

    def take_in(self) -> None:
        """Bring what builds have said into the index. Idempotent, and safe beside builds and other takers."""
        try:
            with self._journal() as (lines, taken):
                self._insert(self._parsed(lines))
                taken()
            with explained(self._root):
                self._bury()
        except StoreError:
            said = {name: record for name in self._directories() if (record := left_by(self._store.root, self._root / name)) is not None}
            self._only_here = said | {record["id"]: record for record in self._parsed(_read(self._store.root / JOURNAL))}

    def recent(
        self, limit: int | None = None, *, buildfile: str | None = None, target: str | None = None, before: float | None = None
    ) -> list[Record]:
        """The builds, the last one first; those of a Buildfile or a target only, or those that started before a time."""
        self.take_in()
        wanted = {"buildfile": buildfile, "target": target}
        wanted = {name: column(value) for name, value in wanted.items() if value is not None}
        conditions = [f"{name}=?" for name in wanted] + (["started < ?"] if before is not None else [])
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        values = (*wanted.values(), *([before] if before is not None else []))
        most = -1 if limit is None else limit
        rows = self._rows(f"SELECT id, record FROM history{where} ORDER BY started DESC, id DESC LIMIT ?", *values, most)
        found = {record["id"]: record for row in rows if (record := self._readable(*row)) is not None}
        for record in (*self._only_here.values(), *self._running()):
            if all(column(record[name]) == value for name, value in wanted.items()) and (before is None or record["started"] < before):
                found.setdefault(record["id"], record)
        return sorted(found.values(), key=_by_age, reverse=True)[:limit]

    def summaries(self, limit: int | None = None) -> list[Record]:
        """The builds, the last one first, each without its steps, but with the "count" of these."""
        self.take_in()
        source, summary = "history", "NULL"
        if self._is_made("history_summaries"):
            source, summary = "history LEFT JOIN history_summaries USING(id)", "summary"
        query = f"SELECT id, {summary} AS s, iif({summary} IS NULL, record, NULL) FROM {source} ORDER BY started DESC, id DESC LIMIT ?"
        found, missing = {}, []
        for build, short, data in self._rows(query, -1 if limit is None else limit):
            read = parse_summary(build, short)
            if read is None and (whole := self._readable(build, data) if data is not None else self._again(build)) is not None:
                missing.append(whole)
                read = summary_of(whole)
            if read is not None:
                found[build] = read
        if missing:
            with suppress(StoreError), self._writing() as connection:  # another version has taken these in
                _summarize(connection, missing)
        for record in (*self._only_here.values(), *self._running()):
            found.setdefault(record["id"], summary_of(record))
        return sorted(found.values(), key=_by_age, reverse=True)[:limit]

    def get(self, build: str) -> Record | None:
        """The record of a build; CorruptError where it is damaged."""
        self.take_in()
        for row in self._rows("SELECT record FROM history WHERE id=?", build):
            return unpacked(build, row[0])
        beside = {**{record["id"]: record for record in self._running()}, **self._only_here}
        return beside.get(build)

    def ids(self) -> list[str]:
        """The ids of all builds, the last one first."""
        self.take_in()
        found = {row[0]: row[1] for row in self._rows("SELECT id, started FROM history")}
        for record in (*self._only_here.values(), *self._running()):
            found.setdefault(record["id"], record["started"])
        return sorted(found, key=lambda build: (found[build], build), reverse=True)

    def has_forgotten(self, buildfile: str) -> bool:
        """Whether builds of a Buildfile were forgotten."""
        if not self._is_made("history_forgotten"):
            return False
        return bool(self._rows_of("SELECT 1 FROM history_forgotten WHERE buildfile=?", column(buildfile)))

    def running(self) -> list[str]:
        """The ids of the builds that are under way."""
        return [record["id"] for record in self._running()]

    def remove(self, builds: Iterable[str]) -> None:
        """Forget builds, and their logs. One that is running stays."""
        self.take_in()
        running = set(self.running())
        going = [build for build in builds if build not in running]
        with self._writing() as connection:
            now = [(self._store.clock(), build) for build in going]
            connection.executemany("INSERT OR REPLACE INTO history_forgotten SELECT buildfile, ? FROM history WHERE id=?", now)
            connection.execute(
                "DELETE FROM history_forgotten WHERE at < (SELECT at FROM history_forgotten ORDER BY at DESC LIMIT 1 OFFSET ?)",
                (_MOST_FORGOTTEN - 1,),
            )
            connection.executemany("DELETE FROM history WHERE id=?", [(build,) for build in going])
        for build in filter(is_id, going):
            self._store.discard(self._root / build)

    def trim(self, *, since: float, size: int) -> int:
        """Forget what is not to be kept; how many builds."""
        self.take_in()
        cached = {row[0] for row in self._rows_of("SELECT DISTINCT json_extract(usage, '$.build') FROM steps WHERE json_valid(usage)")}
        running = set(self.running())
        going, left = [], size
        for build, ended, bytes_ in self._rows("SELECT id, ended, length(record) FROM history ORDER BY ended DESC"):
            if ended < since and build not in cached:
                going.append(build)
                continue
            left -= bytes_ + _size(self._root / build)
            if left < 0:
                going.append(build)
        if going:
            self.remove(going)
        known = {row[0] for row in self._rows("SELECT id FROM history")} | running
        for name in self._directories():  # of builds that nothing knows any more: the index is another one
            if name not in known and not is_running(self._root / name):
                self._store.discard(self._root / name)
        return len(going)

    def _insert(self, records: Iterable[Record]) -> None:
        records = list(records)
        if not records and (self._is_made("history") or not self._rows_of("SELECT 1 FROM builds LIMIT 1")):
            return
        rows = [
            (record["id"], record["started"], record["ended"], column(record["buildfile"]), column(record["target"]), packed(record))
            for record in records
        ]
        insert = "INSERT OR IGNORE INTO history VALUES(?,?,?,?,?,?)"
        with self._writing() as connection:
            new = [record for record, row in zip(records, rows, strict=True) if connection.execute(insert, row).rowcount]
            _summarize(connection, new)  # of one that is there already, more may be known

    def _readable(self, build: str, data: object) -> Record | None:
        """A record of the index, None where it is damaged, which is said."""
        try:
            return unpacked(build, data)
        except CorruptError as error:
            self._on_damage(f"{error.message}, and is left out")
            return None

    def _again(self, build: str) -> Record | None:
        """The whole record of a build."""
        return next((self._readable(*row) for row in self._rows("SELECT id, record FROM history WHERE id=?", build)), None)

    @contextmanager
    def _journal(self) -> Iterator[tuple[bytes, Any]]:
        """The journal's bytes, and what takes them out of it; nobody adds to it meanwhile."""
        path = self._store.root / JOURNAL
        with explained(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                data = _read(path)
                yield data, lambda: os.ftruncate(descriptor, 0) if data else None
            finally:
                os.close(descriptor)

    def _parsed(self, data: bytes) -> list[Record]:
        """The records that a journal's lines are; those that are torn are left out."""
        found: dict[str, Record] = {}
        for line in filter(None, data.split(b"\n")):
            record = None
            with suppress(ValueError, RecursionError):
                record = admitted(self._repeated(line.decode(), found) if line.startswith(b"=") else json.loads(line))
            if record is None:
                self._on_damage("a line of the journal of builds is torn or damaged, and is left out")
            else:
                found[record["id"]] = record
        return list(found.values())

    def _repeated(self, line: str, before: dict[str, Record]) -> Record:
        """The record of a build that was the same as another one: that one's, as far as it is known, with every step cached."""
        _, build, started, ended, other = line.split("\t")
        of = before.get(other)
        if of is None:
            of = self._again(other) or {}
        own = {"id": build, "started": float(started), "ended": float(ended), "status": "done", "same": other}
        shared = {name: value for name, value in of.items() if name not in ("began", "steps", "cached", "performed")}
        steps = [_found_again(step, other) for step in of.get("steps", ())]
        return {**shared, **own, "steps": steps, "cached": len(steps), "performed": 0}

    def _running(self) -> list[Record]:
        """What builds that are under way have said so far."""
        known = {row[0] for row in self._rows("SELECT id FROM history")}
        places = [self._root / name for name in self._directories() if name not in known]
        return [record for place in places if is_running(place) and (record := said_by(self._store.root, place)) is not None]

    def _bury(self) -> None:
        """Take in what builds that died had said."""
        for name in self._directories():
            path = self._root / name / RUNNING
            if not path.exists() or is_running(path.parent):
                continue
            if (record := left_by(self._store.root, path.parent)) is not None:
                self._insert([record])
            with suppress(FileNotFoundError):
                path.unlink()
            with suppress(OSError):
                path.parent.rmdir()  # it has no logs

    def _directories(self) -> list[str]:
        try:
            with os.scandir(self._root) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and is_id(entry.name))
        except OSError:
            return []

    def _is_made(self, name: str) -> bool:
        return bool(self._rows_of("SELECT 1 FROM sqlite_master WHERE name=?", name))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connections.writing() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='history'").fetchone():
                for statement in TABLE.split(";"):
                    connection.execute(statement)
                _adopt(connection)
            for statement in (*SUMMARIES, FORGOTTEN):
                connection.execute(statement)
            yield connection

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._rows_of(query, *values) if self._is_made("history") else []

    def _rows_of(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connections.reading() as connection:
            return connection.execute(query, values).fetchall()


def _adopt(connection: sqlite3.Connection) -> None:
    """What the index remembers of builds of before there was a history."""
    for build, started, ended, result in connection.execute("SELECT id, started, ended, result FROM builds").fetchall():
        with suppress(ValueError, TypeError):
            record = {**json.loads(result), "id": build, "started": started, "ended": ended, "status": "done", "steps": []}
            connection.execute("INSERT OR IGNORE INTO history VALUES(?,?,?,?,?,?)", (build, started, ended, "", "", packed(record)))
    connection.execute("DELETE FROM builds")


def _found_again(step: Record, build: str) -> Record:
    """A step as a build finds it that performs nothing: with what it is, and what it cost whoever performed it."""
    performing = ("outcome", "shown", "started", "seconds", "waited", "causes", "differs", "more", "against", "error")
    found = {name: value for name, value in step.items() if name not in performing}
    return {"build": build, **found, "outcome": "cached", "started": 0.0, "seconds": 0.0}


def _summarize(connection: sqlite3.Connection, records: Iterable[Record]) -> None:
    """Keep the summaries of records that are in the table."""
    rows = [(json.dumps(summary_of(record), separators=(",", ":")), record["id"]) for record in records]
    connection.executemany("INSERT OR REPLACE INTO history_summaries SELECT id, ? FROM history WHERE id=?", rows)


def _by_age(record: Record) -> tuple[float, str]:
    return record["started"], record["id"]


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=opener) as stream:
            return stream.read() or b""
    except OSError:
        return b""


def _size(directory: Path) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return 0
