"""Pushing: what is sent, what is not, in which order, and in which form."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import pytest
from registry.support import FakeTime
from registry_mock.client import Mock

from imgbuild.errors import AuthError, CorruptError, NotFoundError, RegistryError, UsageError
from imgbuild.oci.digest import digest_of
from imgbuild.oci.image import DOCKER_MANIFEST, OCI_LAYER_ZSTD
from imgbuild.registry.client import RegistryClient
from imgbuild.registry.credentials import Credential
from imgbuild.registry.endpoints import RegistrySettings
from imgbuild.store.store import Store
from imgbuild.transfer.convert import Conversion
from imgbuild.transfer.pull import Puller
from imgbuild.transfer.push import Pusher

from .support import AMD64, Seen, client_for, make, put_image, ref


def served(mock: Mock, path: str) -> bytes:
    answer = mock.call("GET", f"/v2/{path}", Accept="*/*")
    assert answer.status == 200, answer
    return answer.body


def count(mock: Mock, method: str, part: str = "") -> int:
    return len([request for request in mock.requests() if request["method"] == method and part in request["path"]])


def test_push(store: Store, mock: Mock, client: RegistryClient, seen: Seen) -> None:
    made = make()
    put_image(store, made, "app:v1")
    pushed = Pusher(store, client, seen).push(ref(None, "app:v1"), ref(mock))
    assert served(mock, "team/app/manifests/v1") == made.manifest
    assert all(served(mock, f"team/app/blobs/{digest_of(blob)}") == blob for blob in (*made.layers, made.config))
    assert pushed.descriptor == made.descriptor
    assert [blob.how for blob in pushed.blobs] == ["sent"] * 3
    assert sum(blob.size for blob in pushed.blobs) == sum(map(len, (*made.layers, made.config)))
    # The manifest comes last: who sees the name sees a whole image.
    writes = [request["path"] for request in mock.requests() if request["method"] == "PUT"]
    assert "/manifests/" in writes[-1] and not any("/manifests/" in path for path in writes[:-1])


def test_nothing_is_sent_twice(store: Store, mock: Mock, client: RegistryClient) -> None:
    put_image(store, make(b"base", b"one"), "app:v1")
    put_image(store, make(b"base", b"two"), "app:v2")
    pusher = Pusher(store, client)
    pusher.push(ref(None, "app:v1"), ref(mock))
    again = pusher.push(ref(None, "app:v1"), ref(mock, "team/app:again"))
    assert [blob.how for blob in again.blobs] == ["present"] * 3
    second = pusher.push(ref(None, "app:v2"), ref(mock, "team/app:v2"))
    assert [blob.how for blob in second.blobs] == ["present", "sent", "sent"]
    assert count(mock, "POST") == 5


def test_mounted_from_where_it_is_known_to_be(store: Store, mock: Mock, client: RegistryClient) -> None:
    put_image(store, make(), "app:v1")
    pusher = Pusher(store, client)
    pusher.push(ref(None, "app:v1"), ref(mock, "team/base:v1"))
    sent = sum(request["bytes_in"] for request in mock.requests() if "/blobs/" in request["path"])
    pushed = pusher.push(ref(None, "app:v1"), ref(mock, "team/other:v1"))
    assert [blob.how for blob in pushed.blobs] == ["mounted"] * 3
    assert sum(request["bytes_in"] for request in mock.requests() if "/blobs/" in request["path"]) == sent


def test_a_pulled_base_is_mounted(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = make()
    with client_for() as other:
        source = ref(mock, "library/base:v1")
        put_image(store, made, "seed:v1")
        Pusher(store, other).push(ref(None, "seed:v1"), source)
    Puller(store, client).pull(source, AMD64)
    pushed = Pusher(store, client).push(source, ref(mock, "team/app:v1"))
    assert {blob.how for blob in pushed.blobs} == {"mounted"}


def test_a_mount_source_that_lost_the_blob(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = make()
    put_image(store, made, "app:v1")
    pusher = Pusher(store, client)
    pusher.push(ref(None, "app:v1"), ref(mock, "team/base:v1"))
    for blob in (*made.layers, made.config):
        assert mock.call("DELETE", f"/v2/team/base/blobs/{digest_of(blob)}").status == 202
    assert {blob.how for blob in pusher.push(ref(None, "app:v1"), ref(mock)).blobs} == {"sent"}


def test_faults_on_the_way(store: Store, mock: Mock, client: RegistryClient, time: FakeTime) -> None:
    big = bytes(range(256)) * 12000
    made = make(big, b"x", compress=False)
    put_image(store, made, "app:v1")
    mock.fault(do="status", status=429, retry_after="11", method="HEAD")
    mock.fault(do="status", status=503, method="POST")
    mock.fault(do="cut-upload", method="PATCH", after=1 << 20, reset=True)
    mock.fault(do="lose", method="PUT", path="/manifests/")
    Pusher(store, client).push(ref(None, "app:v1"), ref(mock))
    assert served(mock, "team/app/manifests/v1") == made.manifest
    assert 11 in time.slept
    patched = sum(request["bytes_in"] for request in mock.requests() if request["method"] == "PATCH")
    assert patched == len(made.layers[0])


def test_a_failed_push_names_nothing(store: Store, mock: Mock, time: FakeTime) -> None:
    put_image(store, make(), "app:v1")
    mock.fault(do="status", status=500, method="PUT", path="/uploads/", count=0)
    with client_for(RegistrySettings(attempts=2), time=time) as client, pytest.raises(RegistryError):
        Pusher(store, client).push(ref(None, "app:v1"), ref(mock))
    assert count(mock, "PUT", "/manifests/") == 0


def test_a_damaged_layer_is_not_pushed(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = make()
    put_image(store, made, "app:v1")
    path = store.blobs.path(digest_of(made.layers[0]))
    path.chmod(0o644)
    path.write_bytes(b"!" * len(made.layers[0]))
    with pytest.raises(CorruptError):
        Pusher(store, client).push(ref(None, "app:v1"), ref(mock))
    assert count(mock, "PUT", "/manifests/") == 0


def test_what_is_not_there(store: Store, mock: Mock, client: RegistryClient) -> None:
    with pytest.raises(NotFoundError):
        Pusher(store, client).push(ref(None, "app:v1"), ref(mock))


def test_without_a_login(store: Store, start: Callable[..., Mock]) -> None:
    mock = start("--auth", "bearer", "--user", "me:pw-secret")
    put_image(store, make(), "app:v1")
    with client_for() as client, pytest.raises(AuthError) as caught:
        Pusher(store, client).push(ref(None, "app:v1"), ref(mock))
    assert "imgbuild login" in (caught.value.hint or "")
    with client_for(credential=Credential("me", "pw-secret")) as client:
        Pusher(store, client).push(ref(None, "app:v1"), ref(mock))


def test_to_zstd_and_never_twice(store: Store, mock: Mock, client: RegistryClient, seen: Seen) -> None:
    made = make(b"one" * 1000, b"two" * 1000)
    put_image(store, made, "app:v1")
    pusher = Pusher(store, client, seen)
    pushed = pusher.push(ref(None, "app:v1"), ref(mock), conversion=Conversion(compression="zstd"))
    assert seen.how().count("converted") == 2
    document = json.loads(served(mock, "team/app/manifests/v1"))
    assert [layer["mediaType"] for layer in document["layers"]] == [OCI_LAYER_ZSTD] * 2
    assert document["config"]["digest"] == digest_of(made.config)
    assert pushed.descriptor.digest != made.descriptor.digest
    seen.events.clear()
    again = pusher.push(ref(None, "app:v1"), ref(mock, "team/two:v1"), conversion=Conversion(compression="zstd"))
    assert "converted" not in seen.how() and again.descriptor == pushed.descriptor
    # What is sent is an image that can be pulled: the content is the same.
    Puller(store, client).pull(ref(mock, "team/two:v1"), AMD64)


def test_in_dockers_form(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = make()
    put_image(store, made, "app:v1")
    pusher = Pusher(store, client)
    pusher.push(ref(None, "app:v1"), ref(mock), conversion=Conversion(compression="zstd"))
    image = Puller(store, client).pull(ref(mock), AMD64)
    pushed = pusher.push(ref(mock), ref(mock, "team/docker:v1"), conversion=Conversion(format="docker"))
    document = json.loads(served(mock, "team/docker/manifests/v1"))
    assert pushed.descriptor.media_type == document["mediaType"] == DOCKER_MANIFEST
    kinds = {document["config"]["mediaType"], *(layer["mediaType"] for layer in document["layers"])}
    assert kinds == {"application/vnd.docker.container.image.v1+json", "application/vnd.docker.image.rootfs.diff.tar.gzip"}
    tars = [gzip.decompress(served(mock, f"team/docker/blobs/{layer['digest']}")) for layer in document["layers"]]
    assert (
        ["sha256:" + digest_of(tar).partition(":")[2] for tar in tars] == list(made.diff_ids) == [layer.diff_id for layer in image.layers]
    )
    # And back, as it is and as an OCI image.
    back = Puller(store, client).pull(ref(mock, "team/docker:v1"), AMD64)
    assert back.descriptor == pushed.descriptor
    assert pusher.push(ref(mock, "team/docker:v1"), ref(mock, "team/same:v1")).descriptor == pushed.descriptor


def test_a_conversion_that_changes_nothing_keeps_the_bytes(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = make()
    put_image(store, made, "app:v1")
    pushed = Pusher(store, client).push(ref(None, "app:v1"), ref(mock), conversion=Conversion("gzip", "oci"))
    assert pushed.descriptor == made.descriptor


def test_docker_has_no_zstd() -> None:
    with pytest.raises(UsageError):
        Conversion("zstd", "docker")


def test_a_layer_that_is_not_what_its_config_says(store: Store, mock: Mock, client: RegistryClient) -> None:
    made, other = make(b"one"), make(b"other")
    made.layers = other.layers
    document = json.loads(other.manifest)
    document["config"] = json.loads(made.manifest)["config"]
    made.manifest = json.dumps(document).encode()
    put_image(store, made, "app:v1")
    with pytest.raises(CorruptError, match="damaged"):
        Pusher(store, client).push(ref(None, "app:v1"), ref(mock), conversion=Conversion("zstd"))
    assert count(mock, "PUT", "/manifests/") == 0


def test_by_digest(store: Store, mock: Mock, client: RegistryClient) -> None:
    made = make()
    put_image(store, made, "app:v1")
    pusher = Pusher(store, client)
    pusher.push(ref(None, "app:v1"), ref(mock, f"team/app@{made.descriptor.digest}"))
    assert served(mock, f"team/app/manifests/{made.descriptor.digest}") == made.manifest
    with pytest.raises(UsageError):
        pusher.push(ref(None, "app:v1"), ref(mock, f"team/app@sha256:{'0' * 64}"))
