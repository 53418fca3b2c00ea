"""Records: what is written is read, names are unique, and what a dead supervisor left is put right."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgbuild.errors import ConflictError, CorruptError, NotFoundError
from imgbuild.runtime.records import DAMAGED, LOST, ContainerRecord, Held, MountPoint, Records, parse_record, record_json
from imgbuild.sandbox.spec import Identity, Process
from imgbuild.store.temporary import Scratch


@pytest.fixture
def records(tmp_path: Path) -> Records:
    (tmp_path / "trash").mkdir()
    return Records(tmp_path / "containers", Scratch(tmp_path).discard, lambda: 42.0)


def plain(**fields: object) -> Callable[[str, str], ContainerRecord]:
    return lambda identifier, name: ContainerRecord(id=identifier, name=name, **fields)  # type: ignore[arg-type]


FULL = ContainerRecord(
    id="a" * 64,
    name="n",
    image="busybox:latest",
    state="running",
    created=1.5,
    init=(1, 2),
    snapshots=("s1", "s2"),
    process=Process(
        ("a", "\udcff"), ("A=1",), "/w", Identity(1, 2, (3, 4), "/h"), frozenset({"KILL"}), terminal=True, rlimits=(("nofile", 1, 2),)
    ),
    mounts=(MountPoint("bind", "/s", "/t", True),),
    labels=(("k", "v"),),
)


def test_a_record_survives_its_json(records: Records) -> None:
    import json

    assert parse_record(json.dumps(record_json(FULL)).encode(), "x") == FULL
    later = record_json(FULL) | {"of_a_later_version": 1}
    assert parse_record(json.dumps(later).encode(), "x") == FULL


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"process": 1}', b'{"id": "x", "process": {"identity": {}}}'])
def test_damaged_records(text: bytes) -> None:
    with pytest.raises(CorruptError, match="damaged"):
        parse_record(text, "x")


def test_creation_and_names(records: Records) -> None:
    with held(records, plain(), "web") as web, held(records, plain(created=1.0)) as other:
        assert web.record.name == "web"
        assert other.record.name
        with pytest.raises(ConflictError, match="'web' is taken"):
            records.create(plain(), "web")
        assert [record.id for record in records.all()] == [other.record.id, web.record.id]
        assert records.find("web") == records.find(web.record.id[:10]) == web.record
        for word in ("", "nobody", "."):
            with pytest.raises(NotFoundError):
                records.find(word)
        assert records.supervised(web.record.id)


def test_an_ambiguous_id(records: Records) -> None:
    first: dict[str, list[str]] = {}
    for _ in range(17):
        kept = records.create(plain(state="exited"))
        kept.close()
        first.setdefault(kept.record.id[0], []).append(kept.record.id)
    letter = next(letter for letter, ids in first.items() if len(ids) > 1)
    with pytest.raises(NotFoundError, match="start of"):
        records.find(letter)


def test_what_a_killed_supervisor_left(records: Records) -> None:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            running = records.create(plain(state="running", init=(1, 1)), "kept")
            removed = records.create(plain(state="running", auto_remove=True), "removed")
            os.write(write_end, f"{running.record.id} {removed.record.id}".encode())
            signal.pause()
        finally:
            os._exit(0)
    kept, gone = os.read(read_end, 1000).decode().split()
    for descriptor in (read_end, write_end):
        os.close(descriptor)
    assert records.find("kept").state == "running"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = records.find("kept")
    assert (found.id, found.state, found.exit_code, found.error, found.finished, found.init) == (kept, "exited", 137, LOST, 42.0, None)
    assert records.read(gone) is None
    assert not records.directory(gone).exists()
    assert len(records.all()) == 1


def test_directories_without_a_record_go(records: Records) -> None:
    records.all()
    records.directory("half").mkdir()
    assert records.all() == ()
    assert not records.directory("half").exists()


def test_a_damaged_record_hides_only_itself(records: Records) -> None:
    for name in ("good", "bad"):
        records.create(plain(state="exited"), name).close()
    bad = records.find("bad").id
    (records.directory(bad) / "container.json").write_text("{")
    assert {(record.name, record.error) for record in records.all()} == {("good", ""), ("", DAMAGED)}
    assert records.find(bad[:12]).id == bad
    records.remove(bad)
    assert [record.name for record in records.all()] == ["good"]


def test_what_containers_stand_on(records: Records) -> None:
    with held(records, plain(state="running", snapshots=("a", "b"))), held(records, plain(state="running", snapshots=("b", "c"))):
        assert records.snapshots() == {"a", "b", "c"}


@pytest.mark.parametrize("text", [None, b"", b'{"id"', b"[" * 100_000])
def test_with_a_damaged_record_nothing_is_unused(records: Records, text: bytes | None) -> None:
    with held(records, plain(state="running", snapshots=("a",))) as container, held(records, plain(state="running", snapshots=("b",))):
        path = container.directory / "container.json"
        path.unlink()
        if text is not None:
            path.write_bytes(text)
        with pytest.raises(CorruptError, match=container.record.short_id):
            records.snapshots()
        records.remove(container.record.id)
        assert records.snapshots() == {"b"}


def test_settling(records: Records) -> None:
    with held(records, plain(state="running")) as container:
        identifier = container.record.id
        still = records.settle(identifier, 0)
        assert still is not None
        assert still.state == "running"
        seen: list[ContainerRecord | None] = []
        waiter = threading.Thread(target=lambda: seen.append(records.settle(identifier, None)))
        waiter.start()
        container.update(state="exited", exit_code=3)
    waiter.join(30)
    assert [record and record.exit_code for record in seen] == [3]
    assert records.settle("gone", None) is None
    assert records.settle("gone", 1) is None


def test_updating_what_was_removed_by_force(records: Records) -> None:
    with held(records, plain(state="running")) as container:
        records.remove(container.record.id)
        assert container.update(state="exited").state == "exited"
    assert records.all() == ()


def test_concurrent_creation_gives_one_winner_of_a_name(records: Records) -> None:
    outcomes: list[str] = []

    def create() -> None:
        try:
            records.create(plain(state="exited"), "same").close()
            outcomes.append("made")
        except ConflictError:
            outcomes.append("conflict")

    threads = [threading.Thread(target=create) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["conflict"] * 15 + ["made"]


@contextmanager
def held(records: Records, make: Callable[[str, str], ContainerRecord], name: str = "") -> Iterator[Held]:
    container = records.create(make, name)
    try:
        yield container
    finally:
        container.close()
