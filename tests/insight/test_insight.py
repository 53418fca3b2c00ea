"""inspect, history and the list of images, of images made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgbuild.errors import CorruptError, ImageError
from imgbuild.insight.history import history
from imgbuild.insight.image import load_image
from imgbuild.insight.images import images
from imgbuild.insight.inspect import inspect
from imgbuild.oci.config import History, ImageConfig, RunConfig, config_bytes
from imgbuild.oci.digest import DiffID, digest_of
from imgbuild.oci.image import (
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    index_bytes,
    manifest_bytes,
)
from imgbuild.oci.platform import Platform
from imgbuild.oci.reference import parse_reference
from imgbuild.store.rows import LayerRow
from imgbuild.store.store import Store

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
HELLO = parse_reference("hello")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def _image(store: Store, config: ImageConfig, layers: list[bytes]) -> Descriptor:
    blobs = tuple(Descriptor(OCI_LAYER, store.blobs.put(data), len(data)) for data in layers)
    data = config_bytes(config)
    manifest = manifest_bytes(Manifest(Descriptor(OCI_CONFIG, store.blobs.put(data), len(data)), blobs))
    return Descriptor(OCI_MANIFEST, store.blobs.put(manifest), len(manifest))


def _config(*layers: bytes, created: str = "2024-05-06T07:08:09Z", history: tuple[History, ...] = (), **fields: object) -> ImageConfig:
    diff_ids = tuple(DiffID(digest_of(b"tar of " + data)) for data in layers)
    return ImageConfig(AMD64, RunConfig(**fields), diff_ids, history, created, "someone")  # type: ignore[arg-type]


def test_inspect_has_docker_s_fields(store: Store) -> None:
    config = _config(b"one", env=("A=b",), cmd=("sh",), labels=(("l", "v"),), exposed_ports=("80/tcp",), history=(History(comment="last"),))
    image = _image(store, config, [b"one"])
    store.index.record_layer(LayerRow(config.diff_ids[0], Descriptor(OCI_LAYER, digest_of(b"one"), 3), 10_000))
    for name in ("hello", "hello:v2", "localhost:5000/team/app:1"):
        store.tags.set(parse_reference(name), image)
    store.tags.set(parse_reference(f"pulled@{image.digest}"), image)
    shown = inspect(store, HELLO, image, AMD64)
    assert shown.pop("Config") == {
        "User": "",
        "Env": ["A=b"],
        "Cmd": ["sh"],
        "Entrypoint": None,
        "Volumes": None,
        "WorkingDir": "",
        "Labels": {"l": "v"},
        "OnBuild": None,
        "ExposedPorts": {"80/tcp": {}},
    }
    assert shown == {
        "Id": digest_of(config_bytes(config)),
        "RepoTags": ["hello:latest", "hello:v2", "localhost:5000/team/app:1"],
        "RepoDigests": [f"hello@{image.digest}", f"localhost:5000/team/app@{image.digest}", f"pulled@{image.digest}"],
        "Parent": "",
        "Comment": "last",
        "Created": "2024-05-06T07:08:09Z",
        "DockerVersion": "",
        "Author": "someone",
        "Architecture": "amd64",
        "Os": "linux",
        "Size": 10_000,
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Digest": image.digest,
        "Descriptor": {"mediaType": OCI_MANIFEST, "digest": image.digest, "size": image.size},
    }


def test_an_image_without_anything(store: Store) -> None:
    image = _image(store, _config(created=""), [])
    shown = inspect(store, None, image, AMD64)
    assert (shown["RepoTags"], shown["RepoDigests"], shown["Size"]) == ([], [], 0)
    assert shown["Created"] == "0001-01-01T00:00:00Z"
    assert history(store, image, AMD64) == ()


def test_of_several_platforms_this_one_s(store: Store) -> None:
    mine, other = _image(store, _config(b"one"), [b"one"]), Descriptor(OCI_MANIFEST, digest_of(b"elsewhere"), 9, ARM64)
    mine = Descriptor(mine.media_type, mine.digest, mine.size, AMD64)
    data = index_bytes(Index((other, mine)))
    both = Descriptor(OCI_INDEX, store.blobs.put(data), len(data))
    store.tags.set(HELLO, both)
    shown = inspect(store, HELLO, both, AMD64)
    assert shown["Digest"] == mine.digest
    assert shown["Descriptor"]["digest"] == both.digest
    assert shown["RepoTags"] == ["hello:latest"]
    with pytest.raises(CorruptError, match="missing"):
        inspect(store, HELLO, both, ARM64)
    with pytest.raises(ImageError, match="no image for linux/s390x"):
        inspect(store, HELLO, both, Platform("linux", "s390x"))


def test_history_tells_layers_and_instructions(store: Store) -> None:
    told = (
        History("2024-01-01T00:00:00Z", "ADD rootfs", "base"),
        History("2024-01-02T00:00:00Z", "ENV A=b", empty_layer=True),
        History("2024-01-03T00:00:00Z", "RUN make"),
    )
    config = _config(b"one", b"three", history=told)
    rows = history(store, _image(store, config, [b"one", b"three"]), AMD64)
    assert [row.created_by for row in rows] == ["RUN make", "ENV A=b", "ADD rootfs"]
    assert [row.size for row in rows] == [5, 0, 3]
    assert [row.layer for row in rows] == [config.diff_ids[1], None, config.diff_ids[0]]
    assert [row.blob for row in rows] == [digest_of(b"three"), None, digest_of(b"one")]
    assert rows[-1].comment == "base"


def test_a_history_that_tells_too_little_or_too_much(store: Store) -> None:
    short = _config(b"base", b"top", history=(History("", "COPY top"),))
    rows = history(store, _image(store, short, [b"base", b"top"]), AMD64)
    assert [(row.created_by, row.blob) for row in rows] == [("COPY top", digest_of(b"top")), ("", digest_of(b"base"))]
    long = _config(b"one", history=(History("", "a"), History("", "b")))
    rows = history(store, _image(store, long, [b"one"]), AMD64)
    assert [(row.created_by, row.blob) for row in rows] == [("b", None), ("a", digest_of(b"one"))]


def test_the_list_of_images(store: Store) -> None:
    old = _image(store, _config(b"one", created="2020-01-01T00:00:00Z"), [b"one"])
    young = _image(store, _config(b"two", created="2024-01-01T00:00:00Z"), [b"two"])
    store.tags.set(parse_reference("docker.io/library/old:1"), old)
    store.tags.set(parse_reference("localhost:5000/old"), old)
    store.tags.set(parse_reference(f"old@{old.digest}"), old)
    store.tags.add_untagged(young)
    rows = images(store, AMD64)
    assert [(row.repository, row.tag) for row in rows] == [(None, None), ("old", "1"), ("old", None), ("localhost:5000/old", "latest")]
    assert rows[0].digest == young.digest
    assert rows[0].size == 3
    assert {row.id for row in rows[1:]} == {digest_of(config_bytes(_config(b"one", created="2020-01-01T00:00:00Z")))}


def test_images_that_can_not_be_read_are_listed_with_the_reason(store: Store) -> None:
    image = _image(store, _config(b"one"), [b"one"])
    store.tags.set(HELLO, image)
    elsewhere = index_bytes(Index((Descriptor(OCI_MANIFEST, digest_of(b"x"), 1, ARM64),)))
    store.tags.set(parse_reference("arm"), Descriptor(OCI_INDEX, store.blobs.put(elsewhere), len(elsewhere)))
    store.tags.set(parse_reference("odd"), Descriptor("application/x-odd", store.blobs.put(b"odd"), 3))
    store.blobs.remove(image.digest)
    problems = {row.repository: row.problem for row in images(store, AMD64)}
    assert "missing" in problems["hello"]
    assert "no image for linux/amd64" in problems["arm"]
    assert "application/x-odd" in problems["odd"]


def test_an_artifact(store: Store) -> None:
    empty = Descriptor(OCI_EMPTY, store.blobs.put(b"{}"), 2)
    blob = Descriptor("text/plain", store.blobs.put(b"hello"), 5)
    data = manifest_bytes(Manifest(empty, (blob,), artifact_type="text/plain"))
    artifact = Descriptor(OCI_MANIFEST, store.blobs.put(data), len(data))
    assert load_image(store, artifact, AMD64).config is None
    assert inspect(store, None, artifact, AMD64)["Size"] == 5
    assert history(store, artifact, AMD64) == ()
