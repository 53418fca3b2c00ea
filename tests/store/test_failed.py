"""Failed steps in the store: found, bounded, held, and what they stand on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imgbuild.errors import CorruptError, NotFoundError, StoreError, UsageError
from imgbuild.store.failed import Keep, failed_steps, find_failed, held, overdue, read_failed, take_away
from imgbuild.store.fsck import broken, check
from imgbuild.store.garbage import Policy, collect
from imgbuild.store.store import Store

from .made import put_snapshot


def put_failed(store: Store, identity: str, created: float, size: int = 10, lowers: tuple[str, ...] = ()) -> Path:
    directory = store.root / "failed" / identity
    (directory / "fs").mkdir(parents=True)
    facts = {"version": 1, "created": created, "size": size, "step": "RUN x", "lowers": lowers, "stages": {}}
    (directory / "failure.json").write_text(json.dumps(facts))
    return directory


def test_found_by_word(store: Store) -> None:
    for identity, created in (("aa11", 1.0), ("aa22", 3.0), ("bb33", 2.0)):
        put_failed(store, identity, created)
    (store.root / "failed" / "line-5").mkdir()
    assert [step.id for step in failed_steps(store.root)] == ["aa22", "bb33", "aa11"]
    assert [find_failed(store.root, word).id for word in ("last", "bb33", "b", "aa1")] == ["aa22", "bb33", "bb33", "aa11"]
    with pytest.raises(UsageError, match="the beginning of 2"):
        find_failed(store.root, "aa")
    for word in ("cc", "", "line-5", "../x"):
        with pytest.raises(NotFoundError):
            find_failed(store.root, word)


@pytest.mark.parametrize(
    ("keep", "going"),
    [
        (Keep(), []),
        (Keep(number=2), ["c", "d"]),
        (Keep(number=0), ["a", "b", "c", "d"]),
        (Keep(seconds=25.0), ["c", "d"]),
        (Keep(bytes=35), ["b"]),
        (Keep(bytes=5), ["a", "b", "c", "d"]),
    ],
)
def test_what_is_beyond_the_limits(store: Store, keep: Keep, going: list[str]) -> None:
    for identity, created, size in (("a", 90.0, 10), ("b", 80.0, 30), ("c", 70.0, 10), ("d", 60.0, 10)):
        put_failed(store, identity, created, size)
    assert [step.id for step in overdue(failed_steps(store.root), keep, 100.0)] == going


def test_one_that_a_newer_version_kept_is_left(store: Store) -> None:
    snapshot = put_snapshot(store, "kept", None, {"a": b"1"}).parent.name
    directory = put_failed(store, "aa11", 1.0, lowers=(snapshot,))
    facts = json.loads((directory / "failure.json").read_text())
    (directory / "failure.json").write_text(json.dumps({**facts, "version": 2, "new": True}))
    (finding,) = check(store, repair=True)
    assert (finding.kind, finding.note) == ("failed", True)
    assert "was kept by a newer imgbuild" in finding.message
    collect(store, Policy())
    assert directory.is_dir()
    assert store.has_snapshot(snapshot)
    assert failed_steps(store.root) == ()
    with pytest.raises(StoreError, match="newer imgbuild"):
        find_failed(store.root, "aa")
    (directory / "failure.json").write_text(json.dumps({**facts, "version": "2"}))
    assert [finding.note for finding in check(store)] == [False]


def test_one_that_is_looked_at_stays(store: Store) -> None:
    put_failed(store, "aa", 1.0)
    (step,) = failed_steps(store.root)
    with held(step), held(step):
        take_away(store, [step])
        assert step.directory.exists()
    with pytest.raises(FileNotFoundError), held(step):
        raise FileNotFoundError("of who looks at it")
    take_away(store, [step])
    assert not step.directory.exists()
    take_away(store, [step])
    with pytest.raises(NotFoundError, match="just been taken away"), held(step):
        pass


def test_what_it_stands_on_is_no_garbage(store: Store) -> None:
    put_snapshot(store, "below", None, {"a": b"1"})
    put_failed(store, "aa", store.clock(), lowers=("below",))
    assert collect(store, Policy(failed=Keep())).snapshots == 0
    assert broken(check(store)) == ()
    assert check(store) == ()
    freed = collect(store, Policy(failed=Keep(number=0)))
    assert (freed.snapshots, freed.directories) == (1, 1)


@pytest.mark.parametrize("text", ["", "{}", "[]", "{", '{"version": 0}', "[" * 100_000])
def test_a_record_that_is_none(store: Store, text: str) -> None:
    directory = put_failed(store, "aa", 1.0)
    (directory / "failure.json").write_text(text)
    with pytest.raises(CorruptError):
        read_failed(directory)
    assert failed_steps(store.root) == ()
    assert [(finding.kind, finding.what) for finding in broken(check(store))] == [("failed", "aa")]
    check(store, repair=True)
    assert not directory.exists()


def test_what_is_missing_is_found(store: Store) -> None:
    put_failed(store, "aa", 1.0, lowers=("gone",))
    (finding,) = check(store)
    assert "the snapshot gone, which is missing" in finding.message
