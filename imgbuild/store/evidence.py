"""What is kept so that a miss can be explained: the trees of what steps read, and which steps were taken out of the cache, and when.

A database of its own beside the index: nothing but explanations reads it, so a build in which everything is cached does not open it, and
where it is lost or damaged, less can be said and nothing else happens; so no build waits for the disk to have it. Few nodes wait in a
file beside it (`fresh`), so that a build that performs something small does not open it either.
"""

from __future__ import annotations

import time

from imgbuild.errors import StoreError
from imgbuild.hints import TYPE_CHECKING, Callable, Iterable, Iterator, Mapping, Protocol, Sequence
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.connections import Connections
from imgbuild.store.failures import explained
from imgbuild.store.fresh import LONG, Fresh
from imgbuild.store.nodes import Node, node_of, pack, short, unpack
from imgbuild.values import dataclass

if TYPE_CHECKING:
    import sqlite3

FILE = "evidence.db"
LOG = "evidence.log"

SCHEMA = """
CREATE TABLE nodes(digest BLOB PRIMARY KEY, entries BLOB NOT NULL);
CREATE TABLE evicted(key TEXT PRIMARY KEY, evicted REAL NOT NULL, policy TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX evicted_by_time ON evicted(evicted)
"""
VERSION = 1

_INSERT = "INSERT OR IGNORE INTO nodes VALUES(?,?)"
_LITTLE = 1 << 16
"""Characters of texts that are not worth a database."""
MOST_EVICTED = 10_000
"""How many steps that were taken out are remembered; then the oldest are forgotten."""


class Texts(Protocol):
    """What digests were made of, as the one who took them has it: texts by digests, the digests that were asked for among them, and the
    sizes of a text's entries."""

    roots: list[str]
    texts: dict[str, str]

    def sizes(self, digest: str) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True)
class Tombstone:
    """That a step was taken out of the cache: when (seconds since 1970), and by what."""

    key: str
    evicted: float
    policy: str


class Evidence:
    """The file. Safe to use from many threads and processes; made when there is something to keep."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = root / FILE
        self._fresh = Fresh(root / LOG)
        self.connections = Connections(self.path, SCHEMA, VERSION, lasting=False)
        self._clock = clock

    def close(self, *, leave: bool = False) -> None:
        """As `Connections.close`, or `leave` them."""
        self.connections.leave() if leave else self.connections.close()

    def check(self) -> None:
        """Read the whole file, if there is one; StoreError where it is damaged."""
        if self.path.exists():
            self.connections.check()

    def keep(self, kept: Iterable[Texts]) -> None:
        """Keep trees: of what is known already, nothing is written again. A node is only there with all that is below it."""
        kept = tuple(kept)
        if self._fresh.size() < LONG and sum(len(text) for tree in kept for text in tree.texts.values()) <= _LITTLE:
            self._fresh.add((digest, pack(node)) for tree in kept for digest, node in _new(tree, lambda digest: False))
            return
        self._take_in()
        with self.connections.writing() as connection:
            for tree in kept:
                for digest, node in _new(tree, lambda digest: _has(connection, digest)):
                    connection.execute(_INSERT, (digest, pack(node)))

    def _take_in(self) -> None:
        with explained(self.path):
            self._fresh.take(self._insert)

    def _insert(self, nodes: Iterable[tuple[bytes, bytes]]) -> None:
        with self.connections.writing() as connection:
            connection.executemany(_INSERT, nodes)

    def node(self, digest: str) -> Node | None:
        """The node with that (short) digest."""
        if (fresh := self._fresh.get(bytes.fromhex(digest))) is not None:
            return unpack(fresh)
        if not self.path.exists():
            return None
        with self.connections.reading() as connection:
            row = connection.execute("SELECT entries FROM nodes WHERE digest=?", (bytes.fromhex(digest),)).fetchone()
        return None if row is None else unpack(row[0])

    def bury(self, keys: Iterable[str], policy: str) -> None:
        """Remember that these steps were taken out."""
        rows = [(key, self._clock(), policy) for key in keys]
        if not rows:
            return
        with self.connections.writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO evicted VALUES(?,?,?)", rows[-MOST_EVICTED:])
            connection.execute(
                "DELETE FROM evicted WHERE key IN (SELECT key FROM evicted ORDER BY evicted DESC, key LIMIT -1 OFFSET ?)", (MOST_EVICTED,)
            )

    def tombstone(self, key: str) -> Tombstone | None:
        """What is known of a step that was taken out."""
        if not self.path.exists():
            return None
        with self.connections.reading() as connection:
            row = connection.execute("SELECT key, evicted, policy FROM evicted WHERE key=?", (key,)).fetchone()
        return None if row is None else Tombstone(*row)

    def exhume(self, key: str) -> None:
        """Forget that a step was taken out: it is performed again."""
        with self.connections.reading() as connection:
            connection.execute("DELETE FROM evicted WHERE key=?", (key,))

    def sweep(self, roots: Iterable[str]) -> None:
        """Forget the trees that no input of these digests begins with. For who holds the store alone."""
        if not self.path.exists() and not self._fresh.size():
            return
        self._take_in()
        with self.connections.writing() as connection:
            rows = connection.execute("SELECT digest FROM nodes").fetchall()
            unseen = {row[0].hex() for row in rows}
            pending = [short(digest) for digest in roots]
            while pending:
                digest = pending.pop()
                if digest not in unseen:
                    continue
                unseen.discard(digest)
                row = connection.execute("SELECT entries FROM nodes WHERE digest=?", (bytes.fromhex(digest),)).fetchone()
                pending.extend(unpack(row[0]).below())
            connection.executemany("DELETE FROM nodes WHERE digest=?", [(bytes.fromhex(digest),) for digest in unseen])

    def start_anew(self, discard: Callable[[Path], None]) -> None:
        """Give the file up. For who holds the store alone."""
        self.connections.close()
        for suffix in ("-wal", "-shm", ""):
            with suppress(StoreError):
                discard(Path(f"{self.path}{suffix}"))
        with suppress(StoreError):
            discard(self.path.with_name(LOG))


def _new(tree: Texts, is_known: Callable[[bytes], bool]) -> Iterator[tuple[bytes, Node]]:
    """The nodes of a tree that are not known yet: those above such as are."""
    texts = {short(digest): digest for digest in tree.texts}
    pending = [short(digest) for digest in tree.roots]
    while pending:
        digest = pending.pop()
        own = texts.pop(digest, None)
        if own is None or is_known(bytes.fromhex(digest)):
            continue
        node = node_of(tree.texts[own], tree.sizes(own))
        yield bytes.fromhex(digest), node
        pending.extend(node.below())


def _has(connection: sqlite3.Connection, digest: bytes) -> bool:
    return connection.execute("SELECT 1 FROM nodes WHERE digest=?", (digest,)).fetchone() is not None


def fetch_from(trees: Iterable[Texts], else_from: Callable[[str], Node | None] = lambda digest: None) -> Callable[[str], Node | None]:
    """Where the nodes of trees that are at hand come from, by short digests."""
    known: Mapping[str, tuple[Texts, str]] = {short(digest): (tree, digest) for tree in trees for digest in tree.texts}

    def fetch(digest: str) -> Node | None:
        if digest not in known:
            return else_from(digest)
        tree, own = known[digest]
        return node_of(tree.texts[own], tree.sizes(own))

    return fetch
