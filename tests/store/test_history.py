"""The builds that a store remembers: what builds say, what is taken in, and what goes."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from imgbuild.errors import StoreError
from imgbuild.solve.underway import Words
from imgbuild.store import journal
from imgbuild.store.history import History
from imgbuild.store.rows import BuildRow, StepRow
from imgbuild.store.store import Store


def _record(number: int, **more: object) -> dict[str, Any]:
    steps = [{"number": 1, "name": "[1/1] RUN true", "outcome": "done", "build": f"b{number}", "log": f"b{number}/1", "key": "k"}]
    times = {"started": float(number), "ended": number + 0.5}
    return {"id": f"b{number}", "status": "done", "buildfile": "/Buildfile", "target": "", "steps": steps, **times, **more}


def _say(store: Store, *records: dict[str, Any]) -> None:
    for record in records:
        assert journal.append(store.root, json.dumps(record))


def test_the_last_build_comes_first(store: Store) -> None:
    _say(store, _record(1), _record(3), _record(2, target="a"))
    history = History(store)
    assert history.ids() == ["b3", "b2", "b1"]
    assert [record["id"] for record in history.recent(2)] == ["b3", "b2"]
    assert [record["id"] for record in history.recent(target="a")] == ["b2"]
    assert [record["id"] for record in history.recent(buildfile="/Buildfile", before=3.0)] == ["b2", "b1"]
    assert history.get("b1") == _record(1)
    assert history.get("b4") is None
    assert (store.root / journal.JOURNAL).read_bytes() == b""


def test_a_torn_line_harms_no_other(store: Store) -> None:
    _say(store, _record(1))
    with open(store.root / journal.JOURNAL, "ab") as stream:
        stream.write(b'\n{"id": "torn", "sta')
    _say(store, _record(2), {"id": "nothing"}, _record(3, ended=0.0))
    journal.append(store.root, "=\tshort")
    assert History(store).ids() == ["b2", "b1"]


def test_a_build_that_was_the_same_as_another_one(store: Store) -> None:
    _say(store, _record(1, names=["x:latest"], performed=1))
    journal.append_same(store.root, "again", 5.0, 5.25, "b1")
    first = History(store).get("again")
    journal.append_same(store.root, "thrice", 6.0, 6.25, "again")
    journal.append_same(store.root, "lost", 7.0, 7.25, "unknown")
    history = History(store)
    assert history.ids() == ["lost", "thrice", "again", "b1"]
    for record in (first, history.get("thrice")):
        assert record is not None
        assert (record["status"], record["names"], record["cached"], record["performed"]) == ("done", ["x:latest"], 1, 0)
        (step,) = record["steps"]
        assert (step["outcome"], step["build"], step["log"], step["key"]) == ("cached", "b1", "b1/1", "k")
    lost = history.get("lost")
    assert lost is not None
    assert (lost["status"], lost["steps"], lost["same"]) == ("done", [], "unknown")


def test_many_say_and_take_in_at_once(store: Store) -> None:
    def say(first: int) -> None:
        for number in range(first, first + 50):
            _say(store, _record(number))

    threads = [threading.Thread(target=say, args=(first,)) for first in range(0, 200, 50)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        with Store.open(store.root) as other:
            History(other).take_in()
    assert len(History(store).ids()) == 200


def _begin(store: Store, build: str, *lines: dict[str, Any]) -> int:
    directory = store.root / "history" / build
    directory.mkdir()
    (directory / journal.RUNNING).write_text("".join(f"\n{json.dumps(line)}\n" for line in lines))
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def test_a_build_runs_until_its_lock_is_free(store: Store) -> None:
    header = {"id": "b1", "started": 1.0, "buildfile": "/Buildfile", "target": ""}
    steps: list[dict[str, Any]] = [
        {"number": 1, "name": "[1/2] RUN a"}, {"number": 1, "outcome": "done", "seconds": 2.0}, {"number": 2, "name": "[2/2] RUN b"},
    ]  # fmt: skip
    descriptor = _begin(store, "b1", header, *steps)
    history = History(store)
    running = history.get("b1")
    assert running is not None
    assert running["status"] == "running"
    assert history.ids() == ["b1"]
    history.remove(["b1"])
    assert history.ids() == ["b1"]
    os.close(descriptor)
    dead = history.get("b1")
    assert dead is not None
    assert dead["status"] == "interrupted"
    assert [(step["number"], step["name"], step["outcome"]) for step in dead["steps"]] == [
        (1, "[1/2] RUN a", "done"), (2, "[2/2] RUN b", "interrupted"),
    ]  # fmt: skip
    assert dead["ended"] >= dead["started"]
    assert not (store.root / "history" / "b1").exists()


def test_a_killed_build_took_until_it_was_last_heard_of(store: Store) -> None:
    descriptor = _begin(store, "b1", {"id": "b1", "started": 100.0}, {"number": 1, "name": "[1/1] RUN a", "started": 2.0})
    (store.root / "history" / "b1" / "1.log").write_bytes(b"x")
    os.utime(store.root / "history" / "b1" / journal.RUNNING, (103.0, 103.0))
    os.utime(store.root / "history" / "b1" / "1.log", (150.5, 150.5))
    os.close(descriptor)
    record = History(store).get("b1")
    assert record is not None
    assert (record["status"], record["ended"], record["steps"][0]["seconds"]) == ("interrupted", 150.5, 48.5)


def test_one_that_could_not_write_its_record_has_said_how_it_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "append", lambda root, line: False)
    words = Words(str(store.root), "b1")
    words.say({"id": "b1", "started": 1.0, "buildfile": "/Buildfile", "target": ""})
    words.say({"number": 1, "name": "[1/2] RUN a", "outcome": "failed"})
    words.say({"number": 2, "name": "[2/2] RUN b"})
    size = (store.root / "history" / "b1" / journal.RUNNING).stat().st_size
    words.end({"status": "failed", "ended": 3.0, "error": {"message": "no"}, "steps": [], "notices": ["n"]})
    assert (store.root / "history" / "b1" / journal.RUNNING).stat().st_size == size  # that room was taken before
    record = History(store).get("b1")
    assert record is not None
    assert (record["status"], record["ended"], record["error"], record["notices"]) == ("failed", 3.0, {"message": "no"}, ["n"])
    assert [step["outcome"] for step in record["steps"]] == ["failed", "canceled"]
    assert not (store.root / "history" / "b1").exists()


def test_one_that_died_between_its_last_words_and_its_end_has_ended(store: Store) -> None:
    os.close(_begin(store, "b1", {"id": "b1", "started": 1.0}))
    _say(store, _record(1))
    record = History(store).get("b1")
    assert record is not None
    assert record["status"] == "done"
    assert not (store.root / "history" / "b1").exists()


def test_what_is_not_kept(store: Store) -> None:
    _say(store, *(_record(number) for number in range(1, 6)))
    for number in range(1, 6):
        directory = store.root / "history" / f"b{number}"
        directory.mkdir()
        (directory / "1.log").write_bytes(b"x" * 1000)
    stray = store.root / "history" / "stray"
    stray.mkdir()
    kept_by_a_step = StepRow("k", b"{}", None, "", True, json.dumps({"build": "b1"}), "b1", 1.0)
    store.index.record_step(kept_by_a_step)
    history = History(store)
    assert history.trim(since=3.0, size=1 << 20) == 1
    assert history.ids() == ["b5", "b4", "b3", "b1"]
    assert history.trim(since=3.0, size=2900) == 2
    assert history.ids() == ["b5", "b4"]
    assert sorted(path.name for path in (store.root / "history").iterdir() if path.is_dir()) == ["b4", "b5"]


def test_what_is_removed_is_gone_with_its_logs(store: Store) -> None:
    _say(store, _record(1), _record(2))
    (store.root / "history" / "b1").mkdir()
    history = History(store)
    history.remove(["b1", "unknown"])
    assert history.ids() == ["b2"]
    assert not (store.root / "history" / "b1").exists()
    assert history.has_forgotten("/Buildfile")
    assert not history.has_forgotten("/other")


def test_builds_of_a_store_that_had_no_history(root: Path) -> None:
    with Store.open(root) as store:
        store.index.record_build(BuildRow("old", 1.0, 2.0, '{"digest": "sha256:1", "cached": 3}'))
        (root / "history").rmdir()
        assert journal.append(root, json.dumps(_record(5)))
        history = History(store)
        assert history.ids() == ["b5", "old"]
        old = history.get("old")
        assert old is not None
        assert (old["digest"], old["cached"], old["status"]) == ("sha256:1", 3, "done")
        assert store.index.builds() == ()


def test_a_store_that_can_not_be_written_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    _say(store, _record(1))
    assert History(store).ids() == ["b1"]
    _say(store, _record(2))

    def refuse(*arguments: object) -> None:
        raise OSError(30, "read-only")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refuse)
        history = History(store)
        assert history.ids() == ["b2", "b1"]
        assert [record["id"] for record in history.recent()] == ["b2", "b1"]
        assert history.get("b2") == _record(2)
    assert History(store).ids() == ["b2", "b1"]


def test_who_died_is_known_where_the_store_can_not_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    os.close(_begin(store, "b1", {"id": "b1", "started": 1.0, "buildfile": "/Buildfile", "target": ""}))
    history = History(store)
    with monkeypatch.context() as patch:
        patch.setattr(History, "_journal", _refused)
        assert [(record["id"], record["status"]) for record in history.recent()] == [("b1", "interrupted")]
    assert History(store).ids() == ["b1"]


def _refused(history: History) -> None:
    raise StoreError("the file system is read-only")


def test_the_index_stays_one_that_older_versions_read(store: Store) -> None:
    _say(store, _record(1))
    History(store).take_in()
    store.index.close()
    with sqlite3.connect(store.root / "index.db") as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


def test_the_journal_needs_next_to_nothing() -> None:
    program = "import sys; import imgbuild.store.journal; print(sorted({'json', '_sqlite3', 'sqlite3', 'typing', 're'} & set(sys.modules)))"
    environ = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout == "[]\n"


def test_nobody_waits_for_a_fifo(store: Store) -> None:
    os.mkfifo(store.root / journal.JOURNAL)
    os.close(_begin(store, "b1"))
    (store.root / "history/b1" / journal.RUNNING).unlink()
    os.mkfifo(store.root / "history/b1" / journal.RUNNING)
    assert list(journal.lately(store.root)) == []
    assert not journal.append(store.root, "{}")
    assert History(store).recent() == []


def test_nothing_fails_for_a_journal_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "history").write_text("a file")
    assert not journal.append(tmp_path, "{}")


def test_what_was_said_lately_is_told_without_the_index(tmp_path: Path) -> None:
    assert list(journal.lately(tmp_path)) == []
    for number in (1, 2):
        journal.append(tmp_path, f'{{"id":"b{number}","steps":[]}}')
    journal.append(tmp_path, "torn {")
    journal.append_same(tmp_path, "b3", 1.0, 2.0, "b1")
    assert [record["id"] for record in journal.lately(tmp_path)] == ["b1", "b2", "b1"]
    for number in range(2000):  # what is near the end, and what is not
        journal.append_same(tmp_path, f"s{number}", 3.0, 4.0, "b1" if number % 2 else "b2")
    assert [record["id"] for record in journal.lately(tmp_path)] == ["b1", "b2"] * 1000 + ["b1", "b2", "b1"]
    journal.append(tmp_path, json.dumps({"id": "b3", "text": "x" * 40_000}))
    assert [record["id"] for record in journal.lately(tmp_path)] == ["b3"] + ["b1", "b2"] * 1000 + ["b1", "b2", "b1"]
    journal.append_same(tmp_path, "s", 3.0, 4.0, "b9")
    assert list(journal.lately(tmp_path)) == []
    (tmp_path / journal.JOURNAL).unlink()
    journal.append(tmp_path, json.dumps({"id": "b1"}))
    journal.append_same(tmp_path, "b4", 1.0, 2.0, "b0")  # which the index knows
    assert list(journal.lately(tmp_path)) == []
    journal.append(tmp_path, '{"id":"b5"}')
    assert [record["id"] for record in journal.lately(tmp_path)] == ["b5"]
    journal.append(tmp_path, '{"id":"b6","pad":"%s"}' % ("x" * (1 << 18)))
    assert list(journal.lately(tmp_path)) == []


def test_one_that_died_after_its_end_was_written_has_ended(store: Store) -> None:
    os.close(_begin(store, "b1", {"id": "b1", "started": 1.0, "buildfile": "/Buildfile", "target": ""}))
    _say(store, _record(1))
    history = History(store)
    assert [record["status"] for record in history.recent()] == ["done"]
    assert [record["status"] for record in history.summaries()] == ["done"]


def test_what_stands_in_the_place_of_the_history_is_no_history(store: Store) -> None:
    (store.root / "history").rmdir()
    (store.root / "history").write_text("own")
    history = History(store)
    assert history.recent() == history.summaries() == []
    assert history.running() == []
