"""index.json: names, its form for others, and many writers at once."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing
import referencing.jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.errors import CorruptError, ImageError
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import OCI_INDEX, OCI_MANIFEST, REF_NAME, Descriptor, Index, index_bytes
from imgbuild.oci.reference import Reference, parse_reference
from imgbuild.store.store import Store

from .made import REPOSITORY, put_image, run_child, start_child

SCHEMAS = REPOSITORY.parent / "shared" / "oci-schemas" / "image"

NAME_MANY = """
import sys
from pathlib import Path
from imgbuild.oci.reference import parse_reference
from imgbuild.store.store import Store
with Store.open(Path(sys.argv[1])) as store:
    image = store.tags.get(parse_reference("base"))
    for number in range(10):
        store.tags.set(parse_reference(f"image-{sys.argv[2]}:{number}"), image)
"""


def test_a_name_is_kept(store: Store, root: Path) -> None:
    image = put_image(store, {"a": b"1"})
    hello = parse_reference("hello")
    assert store.tags.get(hello) is None
    assert store.tags.list() == ()
    store.tags.set(hello, image)
    assert store.tags.get(hello) == image
    with Store.open(root) as again:
        assert again.tags.list() == ((hello, image),)


def test_a_name_that_moves_leaves_the_old_image_without_one(store: Store) -> None:
    first, second = put_image(store, {"a": b"1"}), put_image(store, {"a": b"2"})
    hello = parse_reference("hello")
    store.tags.set(hello, first)
    store.tags.set(hello, second)
    assert store.tags.list() == ((None, first), (hello, second))
    store.tags.set(hello, first)
    assert store.tags.list() == ((None, second), (hello, first))
    store.tags.set(parse_reference("other"), second)
    assert store.tags.list() == ((hello, first), (parse_reference("other"), second))
    store.tags.set(parse_reference("other"), first)
    assert store.tags.remove_untagged()[0].descriptor == second
    assert {name for name, _ in store.tags.list()} == {hello, parse_reference("other")}


def test_an_image_with_two_names_keeps_the_other(store: Store) -> None:
    image, newer = put_image(store, {"a": b"1"}), put_image(store, {"a": b"2"})
    one, two = parse_reference("one"), parse_reference("two")
    store.tags.set(one, image)
    store.tags.set(two, image)
    store.tags.set(one, newer)
    assert store.tags.list() == ((two, image), (one, newer))
    assert store.tags.remove(two) == image
    assert store.tags.remove(two) is None
    assert store.tags.list() == ((one, newer),)


def test_images_without_a_name(store: Store) -> None:
    image = put_image(store, {"a": b"1"})
    store.tags.add_untagged(image)
    store.tags.add_untagged(image)
    assert store.tags.list() == ((None, image),)
    store.tags.set(parse_reference("hello"), image)
    store.tags.add_untagged(image)
    assert store.tags.list() == ((parse_reference("hello"), image),)
    assert [entry.name for entry in store.tags.remove_digest(image.digest)] == ["hello:latest"]
    assert store.tags.list() == ()


def test_names_with_a_digest(store: Store) -> None:
    image = put_image(store, {"a": b"1"})
    store.tags.set(parse_reference(f"hello:1@{image.digest}"), image)
    assert json.loads((store.root / "index.json").read_bytes())["manifests"][0]["annotations"][REF_NAME] == f"hello@{image.digest}"
    assert store.tags.get(parse_reference(f"hello@{image.digest}")) == image
    assert store.tags.get(parse_reference(f"hello:other@{image.digest}")) == image
    assert store.tags.get(parse_reference(f"world@{image.digest}")) is None
    assert store.tags.get(parse_reference("hello:1")) is None
    store.tags.set(parse_reference("world:2"), image)
    assert store.tags.get(parse_reference(f"world@{image.digest}")) == image
    with pytest.raises(ImageError, match="can't name"):
        store.tags.set(parse_reference("hello@sha256:" + "0" * 64), image)


def test_an_incomplete_image_gets_no_name(store: Store) -> None:
    image = put_image(store, {"a": b"1"})
    absent = Descriptor(OCI_MANIFEST, Digest("sha256:" + "0" * 64), 3)
    for wrong in (absent, replace(image, size=image.size + 1)):
        with pytest.raises(CorruptError):
            store.tags.set(parse_reference("hello"), wrong)
    for digest in tuple(store.blobs):
        if digest != image.digest:
            store.blobs.remove(digest)
    with pytest.raises(CorruptError, match="missing"):
        store.tags.add_untagged(image)
    assert store.tags.list() == ()


def test_of_a_list_only_the_present_images_are_needed(store: Store) -> None:
    image = put_image(store, {"a": b"1"})
    elsewhere = Descriptor(OCI_MANIFEST, Digest("sha256:" + "0" * 64), 3)
    data = index_bytes(Index((image, elsewhere)))
    both = Descriptor(OCI_INDEX, store.blobs.put(data), len(data))
    store.tags.set(parse_reference("hello"), both)
    assert store.tags.get(parse_reference("hello")) == both
    assert not any(map(store.blobs.is_unsynced, store.blobs))


def test_all_that_a_name_needs_is_on_disk_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put_image(store, {"a": b"1"}, {"b": b"2"})
    def failing(digests: object, **beside: object) -> None:
        raise OSError(5, "the disk fails")

    monkeypatch.setattr(store.blobs, "make_durable", failing)
    with pytest.raises(OSError, match="the disk fails"):
        store.tags.set(parse_reference("hello"), image)
    monkeypatch.undo()
    assert not (store.root / "index.json").exists()
    store.tags.set(parse_reference("hello"), image)
    assert not any(map(store.blobs.is_unsynced, store.blobs))


def test_while_the_disk_is_waited_for_something_else_is_done(store: Store) -> None:
    image = put_image(store, {"a": b"1"})
    seen: list[tuple[bool, bool]] = []
    index = store.root / "index.json"

    def meanwhile() -> None:
        seen.append((index.exists(), any(map(store.blobs.is_unsynced, store.blobs))))

    store.tags.set(parse_reference("hello"), image, meanwhile)
    assert seen == [(False, True), (True, False)]  # before the blobs are there, and before the name is
    store.tags.set(parse_reference("hello"), image, meanwhile)
    assert len(seen) == 2

    def failing() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.tags.set(parse_reference("other"), image, failing)
    assert len(store.tags.list()) == 1


def test_naming_again_writes_nothing(store: Store) -> None:
    image = put_image(store, {"a": b"1"})
    store.tags.set(parse_reference("hello"), image)
    before = (store.root / "index.json").stat()
    store.tags.set(parse_reference("hello"), image)
    store.tags.add_untagged(image)
    store.tags.remove(parse_reference("other"))
    after = (store.root / "index.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_foreign_entries_stay_as_they_are(store: Store) -> None:
    image = put_image(store, {"a": b"1"})
    entry = {"mediaType": image.media_type, "digest": image.digest, "size": image.size}
    foreign: list[Any] = [
        {**entry, "annotations": {REF_NAME: "NOT A NAME"}, "org.example": [1, {"deep": None}]},
        {"mediaType": "application/x-odd", "digest": "md5:123", "size": 1},
        "nonsense",
        {**entry, "annotations": {REF_NAME: "theirs:1", "other": "kept"}, "x": 1},
    ]
    index = {"schemaVersion": 2, "manifests": foreign, "annotations": {"made": "by them"}, "unknown": 7}
    (store.root / "index.json").write_text(json.dumps(index))
    assert [entry.name for entry in store.tags.entries()] == ["NOT A NAME", "theirs:1"]
    assert len(store.tags.unreadable()) == 2
    store.tags.set(parse_reference("hello"), image)
    store.tags.remove(parse_reference("hello"))
    store.tags.remove_untagged()
    assert json.loads((store.root / "index.json").read_bytes()) == index
    newer = put_image(store, {"a": b"2"})
    store.tags.remove_digest(image.digest)
    store.tags.set(parse_reference("hello"), newer)
    assert len(json.loads((store.root / "index.json").read_bytes())["manifests"]) == 3


@pytest.mark.parametrize("text", ["", "{", "[]", '{"manifests": 3}', "[" * 100_000])
def test_an_index_that_is_none(store: Store, text: str) -> None:
    (store.root / "index.json").write_text(text)
    for use in (store.tags.entries, store.tags.remove_untagged):
        with pytest.raises(CorruptError, match=r"index\.json") as caught:
            use()
        assert "fsck" in (caught.value.hint or "")


def test_many_processes_name_images_at_once(store: Store) -> None:
    store.tags.set(parse_reference("base"), put_image(store, {"a": b"1"}))
    children = [start_child(NAME_MANY, store.root, number) for number in range(4)]
    for child in children:
        child.communicate()
        assert child.returncode == 0
    assert len(store.tags.list()) == 1 + 40


def test_the_layout_is_valid_for_the_specification(store: Store) -> None:
    first, second = put_image(store, {"a": b"1"}), put_image(store, {"a": b"2"})
    store.tags.set(parse_reference("hello"), first)
    store.tags.set(parse_reference("localhost:5000/team/app:v1"), second)
    store.tags.set(parse_reference(f"app@{second.digest}"), second)
    store.tags.add_untagged(put_image(store, {"a": b"3"}))
    _validate((store.root / "index.json").read_bytes(), "image-index-schema.json")
    _validate((store.root / "oci-layout").read_bytes(), "image-layout-schema.json")
    _validate(store.blobs.read(first.digest), "image-manifest-schema.json")


def test_skopeo_reads_the_store(store: Store) -> None:
    image = put_image(store, {"a": b"1"}, {"b": b"2"}, label="seen")
    store.tags.set(parse_reference("hello"), image)
    store.tags.set(parse_reference("localhost:5000/team/app:v1"), image)
    for name in ("hello:latest", "localhost:5000/team/app:v1"):
        shown = subprocess.run(["skopeo", "inspect", f"oci:{store.root}:{name}"], stdout=subprocess.PIPE, check=True)
        found = json.loads(shown.stdout)
        assert found["Digest"] == image.digest
        assert found["Labels"] == {"label": "seen"}
        assert len(found["Layers"]) == 2


def test_what_skopeo_writes_is_read(store: Store) -> None:
    image = put_image(store, {"a": b"1"})
    store.tags.set(parse_reference("hello"), image)
    names = [f"oci:{store.root}:{name}" for name in ("hello:latest", "copied:v2")]
    subprocess.run(["skopeo", "copy", "--quiet", *names], stdout=subprocess.DEVNULL, check=True)
    found = store.tags.get(parse_reference("copied:v2"))
    assert found is not None
    assert found.digest == image.digest
    store.tags.set(parse_reference("again"), found)


_names = st.from_regex(r"[a-z0-9]{1,4}([._-][a-z0-9]{1,3})?(/[a-z0-9]{1,4})?", fullmatch=True)
_references = st.builds(
    lambda registry, name, tag: parse_reference(f"{registry}{name}{tag}"),
    st.sampled_from(["", "localhost:5000/", "quay.io/", "docker.io/"]),
    _names,
    st.sampled_from(["", ":1", ":v1.2-rc_3", ":latest"]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["set", "remove", "untagged"]), _references, st.integers(0, 2)), max_size=12))
def test_names_are_a_map(store: Store, changes: list[tuple[str, Reference, int]]) -> None:
    made = [put_image(store, {"a": str(number).encode()}) for number in range(3)]
    for entry in store.tags.entries():
        store.tags.remove_digest(entry.descriptor.digest)
    expected: dict[Reference, Descriptor] = {}
    for action, reference, number in changes:
        if action == "set":
            store.tags.set(reference, made[number])
            expected[reference] = made[number]
        elif action == "remove":
            assert store.tags.remove(reference) == expected.pop(reference, None)
        else:
            store.tags.add_untagged(made[number])
        listed = store.tags.list()
        assert {name: image for name, image in listed if name is not None} == expected
        unnamed = [image.digest for name, image in listed if name is None]
        assert len(set(unnamed)) == len(unnamed)
        assert not set(unnamed) & {image.digest for image in expected.values()}
    for reference, image in expected.items():
        assert store.tags.get(reference) == image


def test_a_child_sees_what_was_named(store: Store) -> None:
    store.tags.set(parse_reference("base"), put_image(store, {"a": b"1"}))
    run_child(NAME_MANY, store.root, 0)
    assert store.tags.get(parse_reference("image-0:9")) is not None


def _validate(data: bytes, name: str) -> None:
    # The schemas' ids are addresses that nobody serves, and that their references are not relative to: file names are.
    def retrieve(address: str) -> referencing.Resource[Any]:
        schema = _without_ids(json.loads((SCHEMAS / address.rpartition("/")[2]).read_text()))
        return referencing.Resource(schema, referencing.jsonschema.DRAFT4)

    registry: referencing.Registry[Any] = referencing.Registry(retrieve=retrieve)  # type: ignore[call-arg]
    jsonschema.Draft4Validator({"$ref": f"schema:/{name}"}, registry=registry).validate(json.loads(data))


def _without_ids(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_ids(value) for key, value in schema.items() if key != "id" or not isinstance(value, str)}
    return [_without_ids(item) for item in schema] if isinstance(schema, list) else schema
