"""kill -9 at any instant, a full disk, a read-only one, no permission: one clear error, and a whole store."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest

from imgbuild.errors import StoreError
from imgbuild.oci.reference import parse_reference
from imgbuild.store.failures import NoSpaceError
from imgbuild.store.fsck import broken, check
from imgbuild.store.store import Store
from imgbuild.store.temporary import write_durably

from .made import put_image, run_child, start_child

WRITE = """
import os, sys
from pathlib import Path
sys.path[:0] = ["tests"]
from imgbuild.oci.digest import digest_of
from imgbuild.oci.reference import parse_reference
from imgbuild.store.store import Store
from imgbuild.store.garbage import Policy, collect
from store.made import put_image, put_layer, put_snapshot, put_step
with Store.open(Path(sys.argv[1])) as store:
    print("begun", flush=True)
    for number in range(10_000):
        text = f"{sys.argv[2]}-{number}".encode()
        with store.lease(), store.lock("image"):
            image = put_image(store, {"a": text}, {"b": text * 5000})
            store.tags.set(parse_reference(f"image-{number % 3}"), image)
            blob, diff_id = put_layer(store, {"c": text})
            identity = digest_of(text)[7:]
            put_snapshot(store, identity, diff_id, {"c": text, "d/e": text})
            put_step(store, diff_id, identity)
        if number % 5 == 4:
            collect(store, Policy(keep_cache=number % 10 == 4, drop_untagged=True))
        print(number, flush=True)
"""

SMALL = """
import json, os, sys
from pathlib import Path
sys.path[:0] = ["tests"]
from imgbuild.errors import StoreError
from imgbuild.linux.syscalls import CLONE_NEWNS, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, mount, unshare
from imgbuild.oci.reference import parse_reference
from imgbuild.store.fsck import broken, check
from imgbuild.store.rows import BuildRow
from imgbuild.store.store import Store
from store.made import put_image
place = Path(sys.argv[1])
unshare(CLONE_NEWNS)
mount(None, "/", None, MS_REC | MS_PRIVATE)
mount("tmpfs", place, "tmpfs", 0, "size=2m")
failures = []
def attempt(work):
    try:
        work()
    except StoreError as error:
        failures.append([error.message, error.hint])
"""

FULL = """
with Store.open(place / "store") as store:
    image = put_image(store, {"a": b"x"})
    store.tags.set(parse_reference("hello"), image)
    def big_blob():
        with store.blobs.writer() as writer:
            for _ in range(4):
                writer.write(os.urandom(1 << 20))
            writer.commit()
    attempt(big_blob)
    with open(place / "filler", "wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 4096):
                pass
        except OSError:
            pass
    attempt(lambda: store.blobs.put(b"y" * 100_000))
    def big_row():
        for number in range(100):
            store.index.record_build(BuildRow(str(number), 1, 2, "z" * 100_000))
    attempt(big_row)
    attempt(lambda: store.tags.set(parse_reference("other"), image))
    attempt(lambda: Store.open(place / "second"))
    assert os.listdir(store.root / "tmp") == []
    (place / "filler").unlink()
    store.tags.set(parse_reference("other"), image)
    assert len(store.tags.list()) == 2
    assert not broken(check(store))
print(json.dumps(failures))
"""

PRUNED = """
from imgbuild.oci.digest import digest_of
from imgbuild.store.garbage import Policy, collect
from store.made import put_layer, put_snapshot, put_step
mount("tmpfs", place, "tmpfs", 0, "size=24m")
def fill(stream, size):
    try:
        while stream.write(b"x" * size):
            pass
    except OSError:
        pass
with Store.open(place / "store") as store:
    store.tags.set(parse_reference("hello"), put_image(store, {"a": b"x"}))
    store.tags.add_untagged(put_image(store, {"a": os.urandom(500_000)}))
    for number in range(200):
        _, diff_id = put_layer(store, {"a": b"%d" % number})
        put_snapshot(store, str(number), diff_id, {"a": b"%d" % number})
        put_step(store, diff_id, str(number))
with open(place / "filler", "wb", buffering=0) as filler:
    fill(filler, 4096)
    fill(filler, 1)
with Store.open(place / "store") as store:
    attempt(lambda: store.blobs.put(b"y"))
    attempt(lambda: store.index.steps())
    freed = collect(store, Policy(keep_cache=False, drop_untagged=True))
    assert (freed.blobs, freed.snapshots, freed.steps, freed.images) == (203, 200, 200, 1), freed
    assert freed.bytes > 500_000
    assert store.index.steps() == () and store.blobs.put(b"y")
    assert [name for name, _ in store.tags.list()] == [parse_reference("hello")]
    assert not broken(check(store))
    assert (store.root / "reserve").stat().st_size == 1 << 20
print(json.dumps(failures))
"""

READ_ONLY = """
with Store.open(place / "store") as store:
    image = put_image(store, {"a": b"x"})
    store.tags.set(parse_reference("hello"), image)
mount(None, place, None, MS_REMOUNT | MS_RDONLY)
with Store.open(place / "store") as store, store.lease():
    assert store.tags.get(parse_reference("hello")) == image
    assert store.blobs.read(image.digest)
    attempt(lambda: store.blobs.put(b"y"))
    attempt(lambda: store.tags.set(parse_reference("other"), image))
    attempt(lambda: store.index.record_build(BuildRow("1", 1, 2, "")))
    attempt(lambda: Store.open(place / "second"))
print(json.dumps(failures))
"""


def test_killed_writers_leave_a_whole_store(root: Path) -> None:
    chance = random.Random(7)
    for turn in range(12):
        children = [start_child(WRITE, root, f"{turn}-{number}") for number in range(2)]
        for child in children:
            assert child.stdout is not None
            for _ in range(1 + chance.randrange(4)):
                child.stdout.readline()
        for child in children:
            child.kill()
        for child in children:
            child.communicate()
        with Store.open(root) as store:
            assert list((root / "tmp").iterdir()) == []
            findings = check(store)
            assert broken(findings) == (), findings
            for name, image in store.tags.list():
                assert name is None or store.tags.get(name) == image
    with Store.open(root) as store:
        assert store.tags.list()


def test_a_full_disk(tmp_path: Path) -> None:
    failures = json.loads(run_child(SMALL + FULL, tmp_path))
    assert len(failures) == 5
    for message, hint in failures:
        assert message.startswith("no space left for")
        assert "imgbuild prune" in hint


def test_a_full_disk_can_be_pruned(tmp_path: Path) -> None:
    failures = json.loads(run_child(SMALL + PRUNED, tmp_path))
    assert len(failures) == 2
    assert all(message.startswith("no space left for") for message, _ in failures)


def test_a_read_only_disk(tmp_path: Path) -> None:
    failures = json.loads(run_child(SMALL + READ_ONLY, tmp_path))
    assert len(failures) == 4
    for message, hint in failures:
        assert "read-only" in message or "can't be written" in message
        assert "IMGBUILD_ROOT" in hint


def test_no_permission() -> None:
    code = """
import os, sys
from pathlib import Path
from imgbuild.errors import StoreError
from imgbuild.store.store import Store
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for place in (Path(sys.argv[1], "roots"), Path(sys.argv[1], "roots", "store"), Path(sys.argv[1], "new")):
    try:
        Store.open(place)
    except StoreError as error:
        print(error.message, "|", error.hint)
"""
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        Store.open(place / "roots").close()
        lines = run_child(code, place).splitlines()
        assert len(lines) == 3
        assert all("no permission for" in line and "IMGBUILD_ROOT" in line for line in lines)
    finally:
        shutil.rmtree(place)


def test_places_that_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters").mkdir()
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout" / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "oci-layout").write_text("[]")
    expected = {"file": "a file stands", "home": "holds 'letters'", "layout": "version 2.0.0", "odd": "not an OCI layout"}
    for name, message in expected.items():
        with pytest.raises(StoreError, match=message):
            Store.open(tmp_path / name)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letters"]


def test_an_interrupted_beginning_is_begun_again(root: Path) -> None:
    with Store.open(root):
        pass
    (root / "oci-layout").unlink()
    (root / "cache").rmdir()
    with Store.open(root) as store:
        assert (root / "cache").is_dir()
        assert store.tags.get(parse_reference("hello")) is None


def test_another_s_layout_becomes_a_store(root: Path) -> None:
    (root / "blobs" / "sha256").mkdir(parents=True)
    (root / "oci-layout").write_text('{ "imageLayoutVersion" : "1.0.0" }\n')
    (root / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    with Store.open(root) as store:
        assert store.tags.list() == ()
        assert store.blobs.has(store.blobs.put(b"x"))


def _stingy(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Let write(2) take little at once, and nothing once `room` bytes are written: what a disk does that fills up."""
    write, left = os.write, [room]

    def write_some(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = write(descriptor, data[: min(7, left[0])])
        left[0] -= done
        return done

    monkeypatch.setattr(os, "write", write_some)


def test_a_part_is_not_taken_for_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, temporary = tmp_path / "index.json", tmp_path / "tmp"
    temporary.mkdir()
    with monkeypatch.context() as patch:
        _stingy(patch, 1000)
        write_durably(path, b"old" * 20, temporary)
    assert path.read_bytes() == b"old" * 20
    _stingy(monkeypatch, 100)
    with pytest.raises(NoSpaceError):
        write_durably(path, b"new" * 40, temporary)
    assert path.read_bytes() == b"old" * 20
    assert os.listdir(temporary) == []


def test_names_survive_a_disk_that_fills_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put_image(store, {"a": b"x"})
    names = [parse_reference(f"image-{number}") for number in range(20)]
    for name in names:
        store.tags.set(name, image)
    _stingy(monkeypatch, 500)
    with pytest.raises(NoSpaceError):
        store.tags.set(parse_reference("other"), image)
    assert {name for name, _ in store.tags.list()} == set(names)
