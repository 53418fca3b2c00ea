"""Pulling: what is fetched, what is not, and what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from registry.support import FakeTime, Heard, Say, Scripted
from registry_mock.client import Mock

from imgbuild.errors import CorruptError, ImageError, NotFoundError, RegistryError
from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import OCI_INDEX, OCI_MANIFEST, canonical_json, parse_manifest
from imgbuild.registry.client import RegistryClient
from imgbuild.registry.endpoints import RegistrySettings
from imgbuild.store.locks import Interrupted
from imgbuild.store.store import Store
from imgbuild.transfer.events import TransferFinished, TransferNotice, TransferStarted
from imgbuild.transfer.images import check_image
from imgbuild.transfer.pull import Puller, PullPolicy
from imgbuild.transfer.push import Pusher

from .support import AMD64, ARM64, Made, Seen, client_for, index_of, make, put_image, ref, serve


def blob_requests(mock: Mock) -> list[str]:
    return [
        request["path"].rpartition("/")[2] for request in mock.requests() if request["method"] == "GET" and "/blobs/" in request["path"]
    ]


def network_requests(mock: Mock) -> int:
    return len([request for request in mock.requests() if request["method"] in ("GET", "HEAD")])


def rewritten(mock: Mock, made: Made, change: Callable[[dict[str, Any]], None]) -> None:
    """Serve an image whose manifest was tampered with."""
    for blob in (*made.layers, made.config):
        mock.push("team/app", blob)
    document = made.document
    change(document)
    mock.put("team/app", "v1", canonical_json(document), document["mediaType"])


def assert_untouched(store: Store) -> None:
    assert store.tags.list() == ()
    assert not [path for path in (store.root / "tmp").iterdir() if path.name.startswith("blob")]


def test_pull(store: Store, mock: Mock, client: RegistryClient, seen: Seen) -> None:
    made = serve(mock, make())
    image = Puller(store, client, seen).pull(ref(mock), AMD64)
    assert store.tags.get(ref(mock)) == image.descriptor == image.tagged == made.descriptor
    assert store.blobs.read(image.descriptor.digest) == made.manifest
    assert [layer.diff_id for layer in image.layers] == list(made.diff_ids)
    assert all(store.blobs.read(layer.blob.digest) == data for layer, data in zip(image.layers, made.layers, strict=True))
    assert seen.how() == ["fetched"] * 3
    assert isinstance(seen.events[0], TransferStarted) and isinstance(seen.events[-1], TransferFinished)
    assert [row.repository for row in store.index.sources(image.layers[0].blob.digest)] == ["team/app"]


def test_what_is_here_is_not_fetched(store: Store, mock: Mock, client: RegistryClient, seen: Seen) -> None:
    serve(mock, make(b"base", b"one"), tag="v1")
    serve(mock, make(b"base", b"two"), tag="v2")
    Puller(store, client).pull(ref(mock), AMD64)
    before = len(blob_requests(mock))
    Puller(store, client, seen).pull(ref(mock, "team/app:v2"), AMD64)
    assert len(blob_requests(mock)) - before == 2
    assert seen.how() == ["fetched", "fetched", "present"]


def test_the_policies(store: Store, mock: Mock, client: RegistryClient) -> None:
    old, new = make(b"old"), make(b"new")
    serve(mock, old)
    puller = Puller(store, client)
    with pytest.raises(NotFoundError, match="never"):
        puller.pull(ref(mock), AMD64, PullPolicy.NEVER)
    puller.pull(ref(mock), AMD64)
    count = network_requests(mock)
    serve(mock, new)
    for policy in (PullPolicy.MISSING, PullPolicy.NEVER):
        assert puller.pull(ref(mock), AMD64, policy).descriptor == old.descriptor
    assert network_requests(mock) == count
    assert puller.pull(ref(mock), AMD64, PullPolicy.NEWER).descriptor == new.descriptor
    serve(mock, old)
    assert puller.pull(ref(mock), AMD64, PullPolicy.ALWAYS).descriptor == old.descriptor
    # The one that lost its name stays.
    assert {descriptor.digest for _, descriptor in store.tags.list()} == {old.descriptor.digest, new.descriptor.digest}


def test_newer_makes_do_with_what_is_here(store: Store, mock: Mock, client: RegistryClient, seen: Seen) -> None:
    made = serve(mock, make())
    Puller(store, client).pull(ref(mock), AMD64)
    mock.fault(do="status", status=500, count=0)
    assert Puller(store, client, seen).pull(ref(mock), AMD64, PullPolicy.NEWER).descriptor == made.descriptor
    assert any(isinstance(event, TransferNotice) for event in seen.events)
    with pytest.raises(RegistryError):
        Puller(store, client).pull(ref(mock), AMD64, PullPolicy.ALWAYS)


@pytest.mark.parametrize("policy", list(PullPolicy))
def test_offline_is_exact(store: Store, policy: PullPolicy) -> None:
    made = make()
    put_image(store, made, "local:v1")
    assert Puller(store, None).pull(ref(None, "local:v1"), AMD64, policy).descriptor == made.descriptor
    with pytest.raises(NotFoundError, match="offline"):
        Puller(store, None).pull(ref(None, "other:v1"), AMD64, policy)


def test_the_platform_out_of_an_index(store: Store, mock: Mock, client: RegistryClient) -> None:
    amd, arm = make(b"amd"), make(b"arm", platform=ARM64)
    for made in (amd, arm):
        serve(mock, made, tag=made.descriptor.digest)
    index = index_of((arm, ARM64), (amd, AMD64))
    mock.put("team/app", "v1", index, OCI_INDEX)
    puller = Puller(store, client)
    assert puller.pull(ref(mock), AMD64).descriptor == amd.descriptor
    assert store.tags.get(ref(mock)) == amd.descriptor
    # Another platform under the same name is not what is here.
    assert puller.pull(ref(mock), ARM64).descriptor == arm.descriptor
    with pytest.raises(ImageError, match="s390x"):
        puller.pull(ref(mock), replace(AMD64, architecture="s390x"))


def test_a_nested_index_and_an_index_by_its_digest(store: Store, mock: Mock, client: RegistryClient) -> None:
    amd = serve(mock, make(b"amd"))
    inner = index_of((amd, AMD64))
    mock.put("team/app", digest_of(inner), inner, OCI_INDEX)
    entry = {"mediaType": OCI_INDEX, "digest": digest_of(inner), "size": len(inner), "platform": {"os": "linux", "architecture": "amd64"}}
    outer = canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
    mock.put("team/app", "outer", outer, OCI_INDEX)
    pinned = ref(mock, f"team/app:outer@{digest_of(outer)}")
    image = Puller(store, client).pull(pinned, AMD64)
    assert image.descriptor == amd.descriptor and image.tagged.digest == digest_of(outer)
    # Pinned by the index, it is found without a network.
    assert Puller(store, None).pull(pinned, AMD64).descriptor == amd.descriptor
    # Of an index, what is here is meant where nobody says more.
    assert Pusher(store, client).push(pinned, ref(mock, "team/again:v1")).descriptor == amd.descriptor


def test_a_digest_is_verified(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = serve(mock, make())
    mock.fault(do="corrupt", path="/manifests/", count=0)
    with pytest.raises(CorruptError):
        Puller(store, client).pull(ref(mock, f"team/app@{made.descriptor.digest}"), AMD64)
    assert_untouched(store)


def test_a_wrong_digest_of_a_layer(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = serve(mock, make())
    mock.fault(do="corrupt", path=digest_of(made.layers[1]), count=0)
    with pytest.raises(CorruptError, match="other bytes"):
        Puller(store, client).pull(ref(mock), AMD64)
    assert_untouched(store)
    assert not store.blobs.has(digest_of(made.layers[1]))


@pytest.mark.parametrize("delta", [-1, 1, 1 << 40])
@pytest.mark.parametrize("what", ["layers", "config"])
def test_a_manifest_that_lies_about_sizes(
    store: Store, scripted: Callable[..., Scripted], client: RegistryClient, what: str, delta: int
) -> None:
    made = make()
    document = made.document
    liar = document["config"] if what == "config" else document["layers"][0]
    liar["size"] += delta
    manifest = canonical_json(document)
    blobs = {digest_of(data): data for data in (*made.layers, made.config)}

    def answer(heard: Heard) -> Say:
        name = heard.path.rpartition("/")[2]
        if "/manifests/" in heard.path:
            return Say(200, {"Content-Type": OCI_MANIFEST}, manifest)
        return Say(200, {}, blobs[name]) if name in blobs else Say()

    server = scripted(answer)
    with pytest.raises((CorruptError, ImageError), match=r"bytes"):
        Puller(store, client).pull(ref(None, f"{server.host}/team/app:v1"), AMD64)
    assert_untouched(store)


def test_faults_on_the_way(store: Store, mock: Mock, client: RegistryClient, time: FakeTime) -> None:
    made = serve(mock, make(bytes(range(256)) * 2000, b"x"))
    mock.fault(do="status", status=502, path="/manifests/")
    mock.fault(do="status", status=429, retry_after="9", path="/blobs/")
    mock.fault(do="cut", after=100, path="/blobs/")
    mock.fault(do="drop", path="/blobs/")
    assert Puller(store, client).pull(ref(mock), AMD64).descriptor == made.descriptor
    assert 9 in time.slept and len(time.slept) == 4


def test_schema_1_is_refused_with_advice(store: Store, scripted: Callable[..., Scripted], client: RegistryClient) -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    body = b'{"schemaVersion": 1, "name": "x", "fsLayers": []}'
    for said in (kind, "application/json", ""):
        server = scripted(lambda heard, said=said: Say(200, {"Content-Type": said}, body))
        with pytest.raises(ImageError, match="schema 1"):
            Puller(store, client).pull(ref(None, f"{server.host}/a:v1"), AMD64)


def test_an_artifact_is_no_image(store: Store, mock: Mock, client: RegistryClient) -> None:
    def change(document: dict[str, Any]) -> None:
        document["config"]["mediaType"] = "application/vnd.example.chart"

    rewritten(mock, make(), change)
    with pytest.raises(ImageError, match="artifact"):
        Puller(store, client).pull(ref(mock), AMD64)
    assert not blob_requests(mock)


def test_an_unknown_layer_type(store: Store, mock: Mock, client: RegistryClient) -> None:
    def change(document: dict[str, Any]) -> None:
        document["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+encrypted"

    rewritten(mock, make(), change)
    with pytest.raises(ImageError, match="encrypted"):
        Puller(store, client).pull(ref(mock), AMD64)


def test_layers_and_diff_ids_must_agree(store: Store, mock: Mock, client: RegistryClient) -> None:
    def change(document: dict[str, Any]) -> None:
        del document["layers"][0]

    rewritten(mock, make(), change)
    with pytest.raises(ImageError, match="diff_ids"):
        Puller(store, client).pull(ref(mock), AMD64)
    assert_untouched(store)


def test_one_blob_with_two_sizes() -> None:
    manifest = parse_manifest(make().manifest)
    first = manifest.layers[0]
    with pytest.raises(ImageError, match="two sizes"):
        check_image(replace(manifest, layers=(first, replace(first, size=5))), "x")


def test_a_foreign_layer_is_not_fetched_from_elsewhere(store: Store, scripted: Callable[..., Scripted], client: RegistryClient) -> None:
    made = make()
    elsewhere = scripted(lambda heard: Say(200, {}, made.layers[0]))
    document = made.document
    document["layers"][0] |= {"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "urls": [elsewhere.url]}
    manifest = canonical_json(document)

    def answer(heard: Heard) -> Say:
        name = heard.path.rpartition("/")[2]
        if "/manifests/" in heard.path:
            return Say(200, {"Content-Type": OCI_MANIFEST}, manifest)
        blobs = {digest_of(data): data for data in (made.layers[1], made.config)}
        return Say(200, {}, blobs[name]) if name in blobs else Say(404 if "/blobs/" in heard.path else 200)

    server = scripted(answer)
    with pytest.raises(ImageError, match="foreign") as caught:
        Puller(store, client).pull(ref(None, f"{server.host}/a:v1"), AMD64)
    assert elsewhere.url in (caught.value.detail or "") and not elsewhere.heard
    assert_untouched(store)


def test_a_config_for_another_platform(store: Store, mock: Mock, client: RegistryClient) -> None:
    serve(mock, make(platform=ARM64))
    with pytest.raises(ImageError, match="linux/arm64") as caught:
        Puller(store, client).pull(ref(mock), AMD64)
    assert "--platform" in (caught.value.hint or "")


def test_a_config_that_is_nonsense(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = make()
    bad = Made(made.layers, made.diff_ids, b"[]", made.manifest)

    def change(document: dict[str, Any]) -> None:
        document["config"] |= {"digest": digest_of(b"[]"), "size": 2}

    rewritten(mock, bad, change)
    with pytest.raises(ImageError):
        Puller(store, client).pull(ref(mock), AMD64)
    assert_untouched(store)


def test_a_damaged_store_is_put_right(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = serve(mock, make())
    puller = Puller(store, client)
    puller.pull(ref(mock), AMD64)
    for blob in (made.layers[0], made.config):
        store.blobs.remove(digest_of(blob))
    with pytest.raises(CorruptError):
        Puller(store, None).pull(ref(mock), AMD64)
    puller.pull(ref(mock), AMD64)
    assert all(store.blobs.has(digest_of(blob)) for blob in (*made.layers, made.config))


def test_two_pulls_at_once_fetch_once(new_store: Callable[[], Store], mock: Mock) -> None:
    made = serve(mock, make(*(b"layer %d" % number for number in range(6))))
    store = new_store()
    errors: list[BaseException] = []

    def pull() -> None:
        try:
            with Store.open(store.root) as own, client_for() as client:
                Puller(own, client).pull(ref(mock), AMD64)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=pull) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(blob_requests(mock)) == sorted(digest_of(blob) for blob in (*made.layers, made.config))


def test_a_cancelled_pull_leaves_nothing(store: Store, mock: Mock, client: RegistryClient) -> None:
    serve(mock, make())
    with pytest.raises(Interrupted):
        Puller(store, client, cancelled=lambda: bool(blob_requests(mock))).pull(ref(mock), AMD64)
    assert_untouched(store)


def test_resolving_fetches_no_layer(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = serve(mock, make())
    puller = Puller(store, client)
    with store.lease():
        image = puller.resolve(ref(mock), AMD64)
        assert blob_requests(mock) == [digest_of(made.config)] and store.tags.list() == ()
        assert not image.complete(store)
        puller.fetch(image)
        assert image.complete(store)


def test_the_media_type_may_be_left_to_the_manifest(store: Store, scripted: Callable[..., Scripted], client: RegistryClient) -> None:
    made = make()
    document = made.document
    del document["mediaType"]
    manifest = json.dumps(document).encode()
    blobs = {digest_of(data): data for data in (*made.layers, made.config)}

    def answer(heard: Heard) -> Say:
        if "/manifests/" in heard.path:
            return Say(200, {"Content-Type": "text/plain; charset=utf-8"}, manifest)
        return Say(200, {}, blobs.get(heard.path.rpartition("/")[2], b""))

    server = scripted(answer)
    image = Puller(store, client).pull(ref(None, f"{server.host}/a:v1"), AMD64)
    assert image.descriptor.media_type == OCI_MANIFEST


def test_attempts_are_bounded(store: Store, mock: Mock, time: FakeTime) -> None:
    serve(mock, make())
    mock.fault(do="status", status=503, path="/blobs/", count=0)
    with client_for(RegistrySettings(attempts=2), time=time) as client, pytest.raises(RegistryError, match="503"):
        Puller(store, client).pull(ref(mock), AMD64)
    assert_untouched(store)
