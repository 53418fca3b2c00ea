"""The index: rows, the stat cache, many users at once, and files that are no index."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.errors import StoreError
from imgbuild.light import pathlib
from imgbuild.oci.digest import DiffID, Digest
from imgbuild.oci.image import OCI_LAYER_GZIP, OCI_LAYER_ZSTD, Descriptor
from imgbuild.store.connections import Connections
from imgbuild.store.index import VERSION, Index
from imgbuild.store.rows import BuildRow, LayerRow, SnapshotRow, SourceRow, StepRow
from imgbuild.store.store import Store

from .made import REPOSITORY, run_child, start_child


def _digest(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


def _diff_id(number: int) -> DiffID:
    return DiffID(_digest(number))


STEP = StepRow("key", b'{"op":"run"}', _diff_id(1), "snap", False, '{"cpu": 1}', "build", 12.5)

RECORD = """
import sys
from pathlib import Path
from imgbuild.store.rows import StepRow
from imgbuild.store.store import Store
with Store.open(Path(sys.argv[1])) as store:
    for number in range(50):
        store.index.record_step(StepRow(f"{sys.argv[2]}-{number}", b"{}", None, "", True, "{}", "b", 1.0))
        store.index.step("0-0")
"""


def test_steps(store: Store) -> None:
    assert store.index.step("key") is None
    store.index.record_step(STEP)
    assert store.index.step("key") == STEP
    other = StepRow("other", b"{}", None, "", True, "{}", "build-2", 1.0)
    store.index.record_step(other)
    assert store.index.steps() == (other, STEP)
    assert store.index.steps("build") == (STEP,)
    store.index.forget(steps=["key"])
    assert store.index.steps() == (other,)


def test_a_hit_is_noted_when_the_index_closes(tmp_path: Path) -> None:
    now = 1000.0
    index = Index(tmp_path / "index.db", clock=lambda: now)
    index.record_step(STEP)
    now += 1800
    index.step("key")
    index.close()
    assert index.unused_steps(1001) == {"key"}, "a hit soon after costs no write"
    now += 3600
    index.step("key")
    assert index.unused_steps(now) == set(), "what this process hit is in use"
    index.close()
    assert index.unused_steps(now) == set()
    assert index.unused_steps(now + 1) == {"key"}
    index.close()


def test_layers(store: Store) -> None:
    gzip = LayerRow(_diff_id(1), Descriptor(OCI_LAYER_GZIP, _digest(2), 20), 100, "gzip:2")
    zstd = LayerRow(_diff_id(1), Descriptor(OCI_LAYER_ZSTD, _digest(3), 10, annotations=(("a", "b"),)), 100)
    assert store.index.layer(_diff_id(1)) is None
    store.index.record_layer(gzip)
    store.index.record_layer(zstd)
    assert store.index.layers_of(_diff_id(1)) == (zstd, gzip)
    assert store.index.layer(_diff_id(1)) == zstd
    assert store.index.layers() == (gzip, zstd)
    assert store.index.diff_id_of(_digest(2)) == _diff_id(1)
    assert store.index.diff_id_of(_digest(9)) is None
    store.index.forget(layers=[_digest(3)])
    assert store.index.layers_of(_diff_id(1)) == (gzip,)


def test_snapshots(store: Store) -> None:
    plain, known = SnapshotRow("a", None, 10, 2), SnapshotRow("b", _diff_id(1), 20, 3, "sha256:tree")
    store.index.record_snapshot(plain)
    store.index.record_snapshot(known)
    assert store.index.snapshot("a") == plain
    assert store.index.snapshots_for(_diff_id(1)) == (known,)
    assert store.index.snapshots_for(_diff_id(2)) == ()
    assert store.index.snapshots() == (plain, known)
    store.index.record_snapshot(SnapshotRow("a", _diff_id(2), 10, 2))
    assert len(store.index.snapshots_for(_diff_id(2))) == 1
    store.index.forget(snapshots=["a"])
    assert store.index.snapshot("a") is None


def test_memos_sources_and_builds(store: Store) -> None:
    store.index.record_content_digest("owner", "/a/\udcff", "sha256:1")
    assert store.index.content_digest("owner", "/a/\udcff") == "sha256:1"
    assert store.index.content_digest("other", "/a/\udcff") is None
    here, there = SourceRow(_digest(1), "docker.io", "library/a"), SourceRow(_digest(1), "localhost:5000", "b")
    store.index.record_source(there)
    store.index.record_sources([here, there])
    assert store.index.sources(_digest(1)) == (here, there)
    for number in range(3):
        store.index.record_build(BuildRow(f"b{number}", number, number + 0.5, "{}"))
    assert [row.id for row in store.index.builds(2)] == ["b2", "b1"]
    store.index.record_stats("/context", {"a/": (b"b", b"1")})
    store.index.forget(memos_before=sys.float_info.max)
    assert store.index.content_digest("owner", "/a/\udcff") is None
    assert store.index.stats("/context") == {}
    assert store.index.builds() == ()


_letters = st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))
_names = st.text(_letters, max_size=9) | st.binary(max_size=9).map(os.fsdecode)
_kept = st.dictionaries(_names, st.none() | st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_kept, min_size=1, max_size=4))
def test_the_stat_cache_gives_back_what_it_was_given(store: Store, changes: list[dict[str, tuple[bytes, bytes] | None]]) -> None:
    wanted = store.index.stats("/context")
    for change in changes:
        store.index.record_stats("/context", change)
        store.index.record_stats("/other", changes[0])
        wanted = {directory: packed for directory, packed in (wanted | change).items() if packed is not None}
        assert store.index.stats("/context") == wanted
    assert store.index.stats("/absent") == {}


def test_only_changed_directories_are_written(store: Store) -> None:
    store.index.record_stats("/context", {f"d{number}/": (b"name", b"%d" % number) for number in range(100)})
    with store.index.connections.reading() as connection:
        before = connection.total_changes
        store.index.record_stats("/context", {"d3/": (b"name", b"new")})
        assert connection.total_changes - before <= 4


def test_threads_have_their_own_connections_which_close_with_them(store: Store) -> None:
    store.index.record_step(STEP)
    open_before = _open_files(store.root / "index.db")

    def work() -> None:
        for number in range(20):
            store.index.record_build(BuildRow(f"{threading.get_ident()}-{number}", 1, 2, "{}"))
            assert store.index.step("key") == STEP

    for _ in range(3):
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # SQLite keeps the descriptors of closed connections for its next ones while locks are held (they are the process's).
    assert _open_files(store.root / "index.db") <= open_before + 8
    store.index.close()
    assert _open_files(store.root / "index.db") == 0
    assert store.index.step("key") == STEP


def test_processes_write_at_once(store: Store) -> None:
    children = [start_child(RECORD, store.root, number) for number in range(4)]
    for child in children:
        child.communicate()
        assert child.returncode == 0
    assert len(store.index.steps()) == 200


def test_processes_make_it_at_once(tmp_path: Path) -> None:
    children = [start_child(RECORD, tmp_path / "new", number) for number in range(6)]
    for child in children:
        child.communicate()
        assert child.returncode == 0


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(ValueError, match="stop"), store.index.connections.writing() as connection:
        connection.execute("INSERT INTO builds VALUES('a', 1, 2, '{}')")
        raise ValueError("stop")
    assert store.index.builds() == ()


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs(x)")
    connection.close()


def _newer(path: Path) -> None:
    index = Index(path)
    index.builds()
    index.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()


def _overwritten(path: Path) -> None:
    index = Index(path)
    for number in range(200):
        index.record_build(BuildRow(str(number), 1, 2, "x" * 1000))
    index.close()
    with open(path, "r+b") as stream:
        stream.seek(4096)
        stream.write(os.urandom(50_000))


def _garbled(path: Path) -> None:
    _newer(path)  # so that there is no log
    data = path.read_bytes().replace(b"CREATE", b"CRATES")
    path.write_bytes(data.replace(b"tables", b"table\xff"))  # SQLite names those that it can't read


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"not a database" * 1000), "damaged"),
        (_foreign, "not imgbuild's index"),
        (_newer, "form 99"),
        (_overwritten, "damaged"),
        (_garbled, "damaged"),
        (Path.mkdir, "can't be written"),
    ],
    ids=["garbage", "foreign", "newer", "overwritten", "garbled", "directory"],
)
def test_what_is_no_index_is_said_to_be_none(store: Store, damage: object, message: str) -> None:
    damage(store.root / "index.db")  # type: ignore[operator]
    with pytest.raises(StoreError, match=message) as caught:
        store.index.builds()
        store.index.connections.check()
    if message != "can't be written":
        assert "imgbuild fsck --repair" in (caught.value.hint or "")
    store.index.start_anew(store.discard)
    store.index.record_step(STEP)
    assert store.index.step("key") == STEP


def test_commands_that_need_no_index_do_not_load_sqlite(root: Path) -> None:
    code = """
import sys
from pathlib import Path
from imgbuild.store.store import Store
with Store.open(Path(sys.argv[1])) as store, store.lease():
    store.tags.list()
loaded = {"sqlite3", "yaml", "requests", "ctypes", "concurrent.futures", "asyncio", "subprocess", "logging"} & set(sys.modules)
print(sorted(loaded))
"""
    run_child(code, root)
    assert run_child(code, root) == "[]\n"


def _open_files(path: Path) -> int:
    links = (os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path))
    return sum(link == str(path) for link in links)


def test_many_find_it_while_one_makes_it(tmp_path: Path) -> None:
    for number in range(60):
        index = Index(tmp_path / f"{number}.db")
        together = threading.Barrier(6)

        def look(index: Index = index, together: threading.Barrier = together) -> bool:
            together.wait()
            return index.snapshots() == ()

        with ThreadPoolExecutor(6) as pool:
            assert all(future.result() for future in [pool.submit(look) for _ in range(6)])
        index.close()


def test_what_is_recorded_together_is_one_transaction(store: Store) -> None:
    index, row = store.index, SnapshotRow("together", None, 1, 1, "")
    with pytest.raises(ZeroDivisionError), index.together():
        index.record_snapshot(row)
        assert index.snapshot("together") == row
        raise ZeroDivisionError
    assert index.snapshot("together") is None
    with index.together():
        index.record_snapshot(row)
        with index.together():
            index.record_snapshot(SnapshotRow("too", None, 1, 1, ""))
    assert index.snapshot("together") == row
    assert index.snapshot("too") is not None


LEAVE = """
import os, sys
from pathlib import Path
from imgbuild.store.rows import StepRow
from imgbuild.store.store import Store
store = Store.open(Path(sys.argv[1]), leave=True)
for number in range(int(sys.argv[2])):
    store.index.record_step(StepRow(f"{sys.argv[2]}-{number}", b"x" * 5000, None, "", True, "{}", "b", 1.0))
store.close()
os._exit(0)
"""


def test_who_ends_leaves_its_log_to_the_next_one(tmp_path: Path) -> None:
    root = tmp_path / "store"
    log = root / "index.db-wal"
    run_child(LEAVE, root, 2)
    assert 0 < log.stat().st_size < 1 << 19
    run_child(LEAVE, root, 3)
    with Store.open(root) as store:
        assert {row.key for row in store.index.steps()} == {"2-0", "2-1", "3-0", "3-1", "3-2"}
    assert not log.exists()
    run_child(LEAVE, root, 150)
    assert not log.exists()
    with Store.open(root) as store:
        assert len(store.index.steps()) == 155


def test_a_log_that_was_left_is_none_of_a_new_index(tmp_path: Path) -> None:
    root = tmp_path / "store"
    run_child(LEAVE, root, 150)
    run_child(LEAVE, root, 2)
    assert (root / "index.db-wal").exists()
    (root / "index.db").unlink()
    with Store.open(root) as store:
        assert list(store.index.steps()) == []
        store.index.connections.check()


BESIDE = """
import sys
assert "functools" not in sys.modules
from imgbuild.light import threading
from imgbuild.store import connections
asked, done = threading.Event(), threading.Event()
found = []
def other():
    asked.wait()
    try:
        from functools import wraps
        found.append(wraps.__module__)
    finally:
        done.set()
if sys.argv[1] == "beside":
    thread = threading.Thread(target=other)
    thread.start()
with connections._with_functools():
    asked.set()
    if sys.argv[1] == "beside":
        done.wait()
    import _sqlite3
if sys.argv[1] == "beside":
    thread.join()
    assert found == ["functools"], found
assert ("functools" in sys.modules) == (sys.argv[1] == "beside")
"""


@pytest.mark.parametrize("others", ["alone", "beside"])
def test_other_threads_get_the_real_module_while_the_driver_is_loaded(others: str) -> None:
    command = [sys.executable, "-S", "-c", BESIDE, others]
    done = subprocess.run(command, env={"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_empty_log_is_none_where_nobody_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "store"
    with Store.open(root) as store:
        store.index.record_step(STEP)
    (root / "index.db-wal").touch()
    monkeypatch.setattr(Connections, "_is_read_only", lambda self: True)
    connections = Connections(pathlib.Path(root / "index.db"), "", VERSION)
    connections.check()
    connections.close()
    assert not (root / "index.db-shm").exists()
