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
import zlib

from imgbuild.errors import StoreError
from imgbuild.hints import TYPE_CHECKING, Any, Iterable, Iterator
from imgbuild.light import json
from imgbuild.light.contextlib import contextmanager, suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.failures import explained
from imgbuild.store.journal import DIRECTORY, JOURNAL, RUNNING
from imgbuild.store.locks import try_flock
from imgbuild.store.logs import has_log, log_name
from imgbuild.store.store import Store

if TYPE_CHECKING:
    import sqlite3

Record = dict[str, Any]

TABLE = """
CREATE TABLE history(id TEXT PRIMARY KEY, started REAL NOT NULL, ended REAL NOT NULL, buildfile TEXT NOT NULL, target TEXT NOT NULL,
                     record BLOB NOT NULL);
CREATE INDEX history_by_start ON history(started);
CREATE INDEX history_by_buildfile ON history(buildfile, target, started)
"""
_COLUMNS = ("id", "started", "ended", "buildfile", "target")


class History:
    """The builds of a store. Asking takes in what was left in the journal before; where the store can't be written, it is only read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = store.root / DIRECTORY
        self._connections = store.index.connections
        self._only_here: dict[str, Record] = {}

    def take_in(self) -> None:
        """Bring what builds have said into the index. Idempotent, and safe beside builds and other takers."""
        try:
            with self._journal() as (lines, taken):
                self._insert(self._parsed(lines))
                taken()
            self._bury()
        except StoreError:
            said = {name: record for name in self._directories() if (record := self._died(name)) is not None}
            self._only_here = said | {record["id"]: record for record in self._parsed(_read(self._store.root / JOURNAL))}

    def recent(
        self, limit: int | None = None, *, buildfile: str | None = None, target: str | None = None, before: float | None = None
    ) -> list[Record]:
        """The builds, the last one first; those of a Buildfile or a target only, or those that started before a time."""
        self.take_in()
        wanted = {"buildfile": buildfile, "target": target}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        conditions = [f"{name}=?" for name in wanted] + (["started < ?"] if before is not None else [])
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        values = (*wanted.values(), *([before] if before is not None else []))
        most = -1 if limit is None else limit
        rows = self._rows(f"SELECT record FROM history{where} ORDER BY started DESC, id DESC LIMIT ?", *values, most)
        found = {record["id"]: record for record in map(_unpacked, rows)}
        for record in (*self._only_here.values(), *self._running()):
            if all(record.get(name) == value for name, value in wanted.items()) and (before is None or record["started"] < before):
                found.setdefault(record["id"], record)
        return sorted(found.values(), key=lambda record: (record["started"], record["id"]), reverse=True)[:limit]

    def get(self, build: str) -> Record | None:
        """The record of a build."""
        self.take_in()
        for row in self._rows("SELECT record FROM history WHERE id=?", build):
            return _unpacked(row)
        beside = {**{record["id"]: record for record in self._running()}, **self._only_here}
        return beside.get(build)

    def ids(self) -> list[str]:
        """The ids of all builds, the last one first."""
        self.take_in()
        found = {row[0]: row[1] for row in self._rows("SELECT id, started FROM history")}
        for record in (*self._only_here.values(), *self._running()):
            found.setdefault(record["id"], record["started"])
        return sorted(found, key=lambda build: (found[build], build), reverse=True)

    def remove(self, builds: Iterable[str]) -> None:
        """Forget builds, and their logs. One that is running stays."""
        self.take_in()
        running = {record["id"] for record in self._running()}
        going = [build for build in builds if build not in running]
        with self._writing() as connection:
            connection.executemany("DELETE FROM history WHERE id=?", [(build,) for build in going])
        for build in going:
            self._store.discard(self._root / build)

    def trim(self, *, since: float, size: int) -> int:
        """Forget what is not to be kept; how many builds."""
        self.take_in()
        cached = {row[0] for row in self._rows_of("SELECT DISTINCT json_extract(usage, '$.build') FROM steps WHERE json_valid(usage)")}
        running = {record["id"] for record in self._running()}
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
            if name not in known and not self._is_running(name):
                self._store.discard(self._root / name)
        return len(going)

    def _insert(self, records: Iterable[Record]) -> None:
        values = [(*(record.get(name, "") for name in _COLUMNS), _packed(record)) for record in records]
        if values or not self._is_made():
            with self._writing() as connection:
                connection.executemany("INSERT OR IGNORE INTO history VALUES(?,?,?,?,?,?)", values)

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
        for line in data.split(b"\n"):
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                record = self._repeated(line.decode(), found) if line.startswith(b"=") else json.loads(line or b"null")
                if isinstance(record, dict) and float(record["started"]) <= float(record["ended"]) and record["id"]:
                    found[record["id"]] = record
        return list(found.values())

    def _repeated(self, line: str, before: dict[str, Record]) -> Record:
        """The record of a build that was the same as another one: that one's, as far as it is known, with every step cached."""
        _, build, started, ended, other = line.split("\t")
        of = before.get(other)
        if of is None:
            of = next((_unpacked(row) for row in self._rows("SELECT record FROM history WHERE id=?", other)), {})
        own = {"id": build, "started": float(started), "ended": float(ended), "status": "done", "same": other}
        shared = {name: value for name, value in of.items() if name not in ("began", "steps", "cached", "performed")}
        steps = [_found_again(step, other) for step in of.get("steps", ())]
        return {**shared, **own, "steps": steps, "cached": len(steps), "performed": 0}

    def _running(self) -> list[Record]:
        """What builds that are under way have said so far."""
        known = {row[0] for row in self._rows("SELECT id FROM history")}
        names = [name for name in self._directories() if name not in known and self._is_running(name)]
        return [record for name in names if (record := self._begun(name)) is not None]

    def _bury(self) -> None:
        """Take in what builds that died had said."""
        for name in self._directories():
            path = self._root / name / RUNNING
            if not path.exists() or self._is_running(name):
                continue
            if (record := self._died(name)) is not None:
                self._insert([record])
            with suppress(FileNotFoundError):
                path.unlink()
            with suppress(OSError):
                path.parent.rmdir()  # it has no logs

    def _died(self, name: str) -> Record | None:
        """The record of a build that ended without a word: None of one that did not."""
        with suppress(FileNotFoundError):
            ended = os.stat(self._root / name / RUNNING).st_mtime
            if not self._is_running(name) and (record := self._begun(name)) is not None:
                return _interrupted(record, ended)
        return None

    def _begun(self, name: str) -> Record | None:
        """The record that the file of a build that has not ended amounts to."""
        lines = []
        for line in _read(self._root / name / RUNNING).split(b"\n"):
            with suppress(ValueError, RecursionError):
                lines.append(json.loads(line or b"null"))
        said = [line for line in lines if isinstance(line, dict)]
        if not said or "id" not in said[0]:
            return None
        steps: dict[int, Record] = {}
        for step in said[1:]:
            steps[step["number"]] = {**steps.get(step["number"], {}), **step}
        own = [self._under_way(name, steps[number]) for number in sorted(steps)]
        return {**said[0], "status": "running", "ended": said[0]["started"], "steps": own}

    def _under_way(self, build: str, step: Record) -> Record:
        """A step of a build that has not ended. What it has written so far is there; only its end would have told so."""
        if "outcome" in step:
            return step
        log = log_name(build, step["number"])
        return {**step, "outcome": "running", **({"log": log} if has_log(self._store.root, log) else {})}

    def _is_running(self, name: str) -> bool:
        try:
            descriptor = os.open(self._root / name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not try_flock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def _directories(self) -> list[str]:
        try:
            with os.scandir(self._root) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def _is_made(self) -> bool:
        return bool(self._rows_of("SELECT 1 FROM sqlite_master WHERE name='history'"))

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connections.writing() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name='history'").fetchone():
                for statement in TABLE.split(";"):
                    connection.execute(statement)
                _adopt(connection)
            yield connection

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self._rows_of(query, *values) if self._is_made() else []

    def _rows_of(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._connections.reading() as connection:
            return connection.execute(query, values).fetchall()


def _adopt(connection: sqlite3.Connection) -> None:
    """What the index remembers of builds of before there was a history."""
    for build, started, ended, result in connection.execute("SELECT id, started, ended, result FROM builds").fetchall():
        with suppress(ValueError, TypeError):
            record = {**json.loads(result), "id": build, "started": started, "ended": ended, "status": "done", "steps": []}
            connection.execute("INSERT OR IGNORE INTO history VALUES(?,?,?,?,?,?)", (build, started, ended, "", "", _packed(record)))
    connection.execute("DELETE FROM builds")


def _found_again(step: Record, build: str) -> Record:
    """A step as a build finds it that performs nothing: with what it is, and what it cost whoever performed it."""
    performing = ("outcome", "started", "seconds", "waited", "causes", "differs", "more", "against", "error")
    found = {name: value for name, value in step.items() if name not in performing}
    return {"build": build, **found, "outcome": "cached", "started": 0.0, "seconds": 0.0}


def _interrupted(record: Record, ended: float) -> Record:
    steps = [{**step, "outcome": "interrupted"} if step["outcome"] == "running" else step for step in record["steps"]]
    return {**record, "status": "interrupted", "ended": max(ended, record["started"]), "steps": steps}


def _packed(record: Record) -> bytes:
    return zlib.compress(json.dumps(record, separators=(",", ":")).encode())


def _unpacked(row: tuple[Any, ...]) -> Record:
    record: Record = json.loads(zlib.decompress(row[0]))
    return record


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _size(directory: Path) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)
    except OSError:
        return 0
