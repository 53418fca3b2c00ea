"""Layers that are sent while they are made: there at the end or not at all, and sent again by the push where that failed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from registry_mock.client import Mock

from imgbuild.errors import CorruptError
from imgbuild.oci.digest import Digest, digest_of
from imgbuild.oci.image import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, Manifest, manifest_bytes
from imgbuild.registry.client import RegistryClient
from imgbuild.store.store import Store
from imgbuild.transfer.ahead import Ahead
from imgbuild.transfer.pull import Puller
from imgbuild.transfer.push import Pusher

from .support import AMD64, Seen, config_of, ref, tar_of

TAR = tar_of({"large": random.Random(3).randbytes(20 << 20)})
CONFIG = config_of([digest_of(TAR)])
LAYER = Descriptor(OCI_LAYER, digest_of(TAR), len(TAR))
MANIFEST = manifest_bytes(Manifest(Descriptor(OCI_CONFIG, digest_of(CONFIG), len(CONFIG)), (LAYER,)))


def write(store: Store, begin: Callable[..., object], data: bytes = TAR) -> Digest:
    with store.blobs.writer() as writer:
        begin(writer)
        for at in range(0, len(data), 1 << 20):
            writer.write(data[at : at + (1 << 20)])
        return writer.commit()


def pushed(store: Store, client: RegistryClient, mock: Mock, ahead: Ahead | None, seen: Seen, name: str = "team/app:v1") -> None:
    store.blobs.put(CONFIG)
    descriptor = Descriptor(OCI_MANIFEST, store.blobs.put(MANIFEST), len(MANIFEST))
    with store.lease():
        Pusher(store, client, seen, ahead=ahead).push_image(descriptor, ref(mock, name))


def uploads(mock: Mock) -> list[dict[str, Any]]:
    return [request for request in mock.requests() if request["method"] == "PATCH"]


def assert_whole(new_store: Callable[[], Store], client: RegistryClient, mock: Mock) -> None:
    other = new_store()
    image = Puller(other, client).pull(ref(mock), AMD64)
    assert other.blobs.read(image.layers[0].blob.digest, 1 << 30) == TAR


def test_a_layer_is_sent_once_while_it_is_made(new_store: Callable[[], Store], mock: Mock, client: RegistryClient, seen: Seen) -> None:
    store = new_store()
    with Ahead(store, lambda: client, ref(mock)) as ahead:
        assert write(store, ahead.begin) == LAYER.digest
        pushed(store, client, mock, ahead, seen)
    (upload,) = uploads(mock)
    assert upload["headers"].get("transfer-encoding") == "chunked"
    assert seen.how() == ["sent", "sent"]
    assert [row.repository for row in store.index.sources(LAYER.digest)] == ["team/app"]
    assert_whole(new_store, client, mock)


def test_small_layers_wait_for_the_push(new_store: Callable[[], Store], mock: Mock, client: RegistryClient) -> None:
    store = new_store()
    with Ahead(store, lambda: client, ref(mock)) as ahead:
        write(store, ahead.begin, b"x" * 1000)
    assert mock.requests() == []


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "cut-upload", "method": "PATCH", "after": 9 << 20},
        {"do": "status", "method": "POST", "status": 403},
        {"do": "status", "method": "PATCH", "status": 500},
        {"do": "lose", "method": "PATCH"},
        {"do": "drop", "method": "PUT", "path": "/uploads/"},
        {"do": "lose", "method": "PUT", "path": "/uploads/"},
    ],
    ids=lambda fault: f"{fault['do']}-{fault['method']}",
)
def test_what_fails_is_sent_by_the_push(
    new_store: Callable[[], Store], mock: Mock, client: RegistryClient, seen: Seen, fault: dict[str, Any]
) -> None:
    mock.fault(**fault)
    store = new_store()
    with Ahead(store, lambda: client, ref(mock)) as ahead:
        write(store, ahead.begin)
        pushed(store, client, mock, ahead, seen)
    assert_whole(new_store, client, mock)


def test_what_the_registry_has_is_not_kept_twice(new_store: Callable[[], Store], mock: Mock, client: RegistryClient, seen: Seen) -> None:
    mock.push("team/app", TAR)
    store = new_store()
    with Ahead(store, lambda: client, ref(mock)) as ahead:
        write(store, ahead.begin)
        pushed(store, client, mock, ahead, seen)
    assert seen.how() == ["present", "sent"]
    assert [request for request in mock.requests() if request["method"] == "DELETE"]
    assert_whole(new_store, client, mock)


def test_another_repository_is_not_served_by_it(new_store: Callable[[], Store], mock: Mock, client: RegistryClient, seen: Seen) -> None:
    store = new_store()
    with Ahead(store, lambda: client, ref(mock, "other/app:v1")) as ahead:
        write(store, ahead.begin)
        pushed(store, client, mock, ahead, seen)
    assert_whole(new_store, client, mock)


def test_leaving_does_not_wait_for_a_stalled_registry(new_store: Callable[[], Store], mock: Mock, client: RegistryClient) -> None:
    mock.fault(do="slow-upload", rate=1000, path="/blobs/", count=0)
    store = new_store()
    with Ahead(store, lambda: client, ref(mock)) as ahead:
        write(store, ahead.begin)
        while not uploads(mock) and not [request for request in mock.requests() if request["method"] == "POST"]:
            pass
    assert not [request for request in mock.requests() if request["method"] == "PUT"]


def test_what_is_discarded_is_not_there(new_store: Callable[[], Store], mock: Mock, client: RegistryClient) -> None:
    store = new_store()

    def broken() -> None:
        with store.blobs.writer() as writer:
            ahead.begin(writer)
            writer.write(TAR)
            raise CorruptError("something else went wrong")

    with pytest.raises(CorruptError), Ahead(store, lambda: client, ref(mock)) as ahead:
        broken()
    assert not [request for request in mock.requests() if request["method"] == "PUT"]
    assert store.index.sources(LAYER.digest) == ()
