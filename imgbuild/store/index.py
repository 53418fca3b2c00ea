"""What is remembered beside the blobs: steps and their records, layers by diffID, snapshots, memos, builds.

All of it can be made again or be done without; index.json, the blobs and the snapshot directories are the truth. A row may
therefore speak of what is not there any more (a power cut, a hand in the store): whoever acts on one looks.
"""

from __future__ import annotations

import time

from imgbuild.hints import Any, Callable, Iterable, Iterator, Mapping
from imgbuild.light import json, threading
from imgbuild.light.contextlib import contextmanager
from imgbuild.light.functools import partial
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import DiffID, Digest
from imgbuild.oci.image import Descriptor, canonical_json, descriptor_json, parse_descriptor
from imgbuild.store.connections import Connections
from imgbuild.store.rows import BuildRow, LayerRow, SnapshotRow, SourceRow, StepRow

_DOWNLOADS = "http"
"""The owner of what is remembered of files by their URLs."""

SCHEMA = """
CREATE TABLE steps(key TEXT PRIMARY KEY, record BLOB NOT NULL, diff_id TEXT, snapshot TEXT NOT NULL, empty INTEGER NOT NULL,
                   usage TEXT NOT NULL, build TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL);
CREATE INDEX steps_by_build ON steps(build);
CREATE TABLE layers(diff_id TEXT NOT NULL, digest TEXT NOT NULL, descriptor BLOB NOT NULL, uncompressed_size INTEGER NOT NULL,
                    compression TEXT NOT NULL, recorded REAL NOT NULL, PRIMARY KEY(diff_id, digest));
CREATE INDEX layers_by_digest ON layers(digest);
CREATE TABLE snapshots(id TEXT PRIMARY KEY, diff_id TEXT, size INTEGER NOT NULL, inodes INTEGER NOT NULL, tree TEXT NOT NULL);
CREATE INDEX snapshots_by_diff_id ON snapshots(diff_id);
CREATE TABLE contents(owner TEXT NOT NULL, path BLOB NOT NULL, digest TEXT NOT NULL, recorded REAL NOT NULL,
                      PRIMARY KEY(owner, path)) WITHOUT ROWID;
CREATE TABLE stat_roots(root BLOB PRIMARY KEY, recorded REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE stats(root BLOB NOT NULL, directory BLOB NOT NULL, names BLOB NOT NULL, numbers BLOB NOT NULL,
                   PRIMARY KEY(root, directory));
CREATE TABLE sources(digest TEXT NOT NULL, registry TEXT NOT NULL, repository TEXT NOT NULL,
                     PRIMARY KEY(digest, registry, repository)) WITHOUT ROWID;
CREATE TABLE builds(id TEXT PRIMARY KEY, started REAL NOT NULL, ended REAL NOT NULL, result TEXT NOT NULL)
"""
VERSION = 1

_USE_GRAIN = 3600.0
"""Seconds by which the last use of a step may be wrong: a hit that is noted at most once an hour costs no write."""

_STEP = "key, record, diff_id, snapshot, empty, usage, build, created"
_LAYER = "diff_id, descriptor, uncompressed_size, compression"
_SNAPSHOT = "id, diff_id, size, inodes, tree"


def _forget_notes(root: Path) -> None:
    from imgbuild.store.notes import forget_notes

    forget_notes(root)


class Index:
    """index.db. Safe to use from many threads and processes; opened at the first question."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        # What a file that is gone knew of is not what the new one will: notes of it are of no use.
        self.connections = Connections(path, SCHEMA, VERSION, making=partial(_forget_notes, path.parent))
        self._clock = clock
        self._hits: set[str] = set()
        self._mutex = threading.Lock()

    def close(self, *, leave: bool = False) -> None:
        """Note which steps were used, and close every connection, or `leave` them."""
        with self._mutex:
            hits, self._hits = tuple(self._hits), set()
        try:
            if hits:
                now = self._clock()
                with self.connections.writing() as connection:
                    connection.executemany("UPDATE steps SET used=? WHERE key=?", [(now, key) for key in hits])
        finally:
            self.connections.leave() if leave else self.connections.close()

    def disregard_hits(self) -> None:
        """What was looked up was only to be told of: it has not been used."""
        with self._mutex:
            self._hits.clear()

    def start_anew(self, discard: Callable[[Path], None]) -> None:
        """Give the file up for a new one. For who holds the store alone."""
        self.connections.close()
        for suffix in ("-wal", "-shm", ""):
            discard(Path(f"{self.connections.path}{suffix}"))

    @contextmanager
    def together(self) -> Iterator[None]:
        """All that this thread records meanwhile is one transaction: nothing in it may wait for what another thread records."""
        with self.connections.writing():
            yield

    # Steps

    def step(self, key: str) -> StepRow | None:
        """The step of that key, if it was ever performed here."""
        row = self._one(f"SELECT {_STEP}, used FROM steps WHERE key=?", key)
        if row is None:
            return None
        if self._clock() - row[-1] > _USE_GRAIN:
            with self._mutex:
                self._hits.add(key)
        return _step(row[:-1])

    def steps(self, build: str | None = None) -> tuple[StepRow, ...]:
        """All steps, or those that one build performed; the oldest first."""
        if build is None:
            return tuple(map(_step, self._all(f"SELECT {_STEP} FROM steps ORDER BY created, key")))
        return tuple(map(_step, self._all(f"SELECT {_STEP} FROM steps WHERE build=? ORDER BY created, key", build)))

    def record_step(self, row: StepRow) -> None:
        """Remember a step; the last one of a key stays."""
        values = (row.key, row.record, row.diff_id, row.snapshot, row.empty, row.usage, row.build, row.created)
        self._write("INSERT OR REPLACE INTO steps VALUES(?,?,?,?,?,?,?,?,?)", (*values, self._clock()))

    # Layers

    def layer(self, diff_id: DiffID) -> LayerRow | None:
        """The blob that was last recorded for this layer."""
        row = self._one(f"SELECT {_LAYER} FROM layers WHERE diff_id=? ORDER BY recorded DESC, rowid DESC LIMIT 1", diff_id)
        return None if row is None else _layer(row)

    def layers_of(self, diff_id: DiffID) -> tuple[LayerRow, ...]:
        """All blobs known for this layer (in gzip, in zstd ...), the last recorded first."""
        return tuple(map(_layer, self._all(f"SELECT {_LAYER} FROM layers WHERE diff_id=? ORDER BY recorded DESC, rowid DESC", diff_id)))

    def layers(self) -> tuple[LayerRow, ...]:
        """All layers."""
        return tuple(map(_layer, self._all(f"SELECT {_LAYER} FROM layers ORDER BY diff_id, digest")))

    def record_layer(self, row: LayerRow) -> None:
        """Remember a blob of a layer."""
        descriptor = canonical_json(descriptor_json(row.blob))
        values = (row.diff_id, row.blob.digest, descriptor, row.uncompressed_size, row.compression, self._clock())
        self._write("INSERT OR REPLACE INTO layers VALUES(?,?,?,?,?,?)", values)

    def diff_id_of(self, digest: Digest) -> DiffID | None:
        """The layer that this blob is."""
        row = self._one("SELECT diff_id FROM layers WHERE digest=?", digest)
        return None if row is None else DiffID(row[0])

    # Snapshots

    def snapshot(self, identity: str) -> SnapshotRow | None:
        """The committed snapshot of that id."""
        row = self._one(f"SELECT {_SNAPSHOT} FROM snapshots WHERE id=?", identity)
        return None if row is None else SnapshotRow(*row)

    def snapshots_for(self, diff_id: DiffID) -> tuple[SnapshotRow, ...]:
        """The committed snapshots that hold this layer."""
        return tuple(SnapshotRow(*row) for row in self._all(f"SELECT {_SNAPSHOT} FROM snapshots WHERE diff_id=? ORDER BY id", diff_id))

    def snapshots(self) -> tuple[SnapshotRow, ...]:
        """All committed snapshots."""
        return tuple(SnapshotRow(*row) for row in self._all(f"SELECT {_SNAPSHOT} FROM snapshots ORDER BY id"))

    def record_snapshot(self, row: SnapshotRow) -> None:
        """Remember a snapshot whose directory has its place already, or (again, with the diffID) one whose layer is known now."""
        self._write("INSERT OR REPLACE INTO snapshots VALUES(?,?,?,?,?)", (row.id, row.diff_id, row.size, row.inodes, row.tree))

    # Memos

    def content_digest(self, owner: str, path: str) -> str | None:
        """The digest recorded for `path` in the root file system that `owner` identifies."""
        row = self._one("SELECT digest FROM contents WHERE owner=? AND path=?", owner, _bytes(path))
        return None if row is None else str(row[0])

    def record_content_digest(self, owner: str, path: str, digest: str) -> None:
        """Remember the digest of `path`; `owner` must change whenever the content below it may."""
        self._write("INSERT OR REPLACE INTO contents VALUES(?,?,?,?)", (owner, _bytes(path), digest, self._clock()))

    def download(self, url: str) -> str | None:
        """What was recorded of the file behind a URL."""
        return self.content_digest(_DOWNLOADS, url)

    def record_download(self, url: str, facts: str) -> None:
        """Remember what is known of the file behind a URL: a JSON object, whose "digest" names its blob."""
        self.record_content_digest(_DOWNLOADS, url, facts)

    def downloads(self) -> frozenset[Digest]:
        """The blobs of all downloads that are remembered."""
        return frozenset(Digest(json.loads(row[0])["digest"]) for row in self._all("SELECT digest FROM contents WHERE owner=?", _DOWNLOADS))

    def stats(self, root: str) -> dict[str, tuple[bytes, bytes]]:
        """What was recorded of the directories below `root`, by their paths."""
        rows = self._all("SELECT directory, names, numbers FROM stats WHERE root=?", _bytes(root))
        return {directory.decode("utf-8", "surrogateescape"): (names, numbers) for directory, names, numbers in rows}

    def record_stats(self, root: str, changes: Mapping[str, tuple[bytes, bytes] | None]) -> None:
        """Remember what is said of directories below `root`: names and numbers that only the one who asks for them understands. None is
        forgotten, what is not among the changes stays."""
        key = _bytes(root)
        with self.connections.writing() as connection:
            new = [(key, _bytes(directory), *packed) for directory, packed in changes.items() if packed is not None]
            connection.executemany("INSERT OR REPLACE INTO stats VALUES(?,?,?,?)", new)
            gone = [(key, _bytes(directory)) for directory, packed in changes.items() if packed is None]
            connection.executemany("DELETE FROM stats WHERE root=? AND directory=?", gone)
            connection.execute("INSERT OR REPLACE INTO stat_roots VALUES(?,?)", (key, self._clock()))

    def sources(self, digest: Digest) -> tuple[SourceRow, ...]:
        """The repositories that are known to have this blob."""
        rows = self._all("SELECT digest, registry, repository FROM sources WHERE digest=? ORDER BY registry, repository", digest)
        return tuple(SourceRow(*row) for row in rows)

    def record_source(self, row: SourceRow) -> None:
        """Remember that a repository has a blob."""
        self.record_sources((row,))

    def record_sources(self, rows: Iterable[SourceRow]) -> None:
        """As `record_source`, for many."""
        with self.connections.writing() as connection:
            values = [(row.digest, row.registry, row.repository) for row in rows]
            connection.executemany("INSERT OR IGNORE INTO sources VALUES(?,?,?)", values)

    # Builds

    def record_build(self, row: BuildRow) -> None:
        """Remember a build."""
        self._write("INSERT OR REPLACE INTO builds VALUES(?,?,?,?)", (row.id, row.started, row.ended, row.result))

    def builds(self, limit: int = 100) -> tuple[BuildRow, ...]:
        """The last builds, the last one first."""
        rows = self._all("SELECT id, started, ended, result FROM builds ORDER BY started DESC, id DESC LIMIT ?", limit)
        return tuple(BuildRow(*row) for row in rows)

    # Forgetting

    def unused_steps(self, since: float) -> frozenset[str]:
        """The keys of the steps that were neither performed nor hit since then (to the hour)."""
        with self._mutex:
            hits = frozenset(self._hits)
        return frozenset(row[0] for row in self._all("SELECT key FROM steps WHERE used < ?", since)) - hits

    def forget(
        self, *, steps: Iterable[str] = (), layers: Iterable[Digest] = (), snapshots: Iterable[str] = (), memos_before: float | None = None
    ) -> None:
        """Drop rows, in one transaction: steps by key, layers by their blob (and where it came from), snapshots by id; and
        memos and builds recorded before a time."""
        with self.connections.writing() as connection:
            connection.executemany("DELETE FROM steps WHERE key=?", [(key,) for key in steps])
            connection.executemany("DELETE FROM snapshots WHERE id=?", [(identity,) for identity in snapshots])
            for digest in layers:
                connection.execute("DELETE FROM layers WHERE digest=?", (digest,))
                connection.execute("DELETE FROM sources WHERE digest=?", (digest,))
            if memos_before is not None:
                before = (memos_before,)
                connection.execute("DELETE FROM contents WHERE recorded < ?", before)
                connection.execute("DELETE FROM stats WHERE root IN (SELECT root FROM stat_roots WHERE recorded < ?)", before)
                connection.execute("DELETE FROM stat_roots WHERE recorded < ?", before)
                connection.execute("DELETE FROM builds WHERE ended < ?", before)

    def _one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        with self.connections.reading() as connection:
            row: tuple[Any, ...] | None = connection.execute(query, values).fetchone()
            return row

    def _all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self.connections.reading() as connection:
            return connection.execute(query, values).fetchall()

    def _write(self, statement: str, values: tuple[object, ...]) -> None:
        with self.connections.reading() as connection:  # one statement is a transaction by itself
            connection.execute(statement, values)


def _step(row: tuple[Any, ...]) -> StepRow:
    key, record, diff_id, snapshot, empty, usage, build, created = row
    return StepRow(key, record, diff_id, snapshot, bool(empty), usage, build, created)


def _layer(row: tuple[Any, ...]) -> LayerRow:
    diff_id, descriptor, size, compression = row
    return LayerRow(diff_id, _descriptor(descriptor), size, compression)


def _descriptor(data: bytes) -> Descriptor:
    return parse_descriptor(json.loads(data), "layer in the index")


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
