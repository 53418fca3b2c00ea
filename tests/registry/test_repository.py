"""Manifests, blobs, tags and referrers against a registry, with all that can go wrong on the way."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import pytest
from registry_mock.client import Mock

from imgbuild.errors import CorruptError, ImageError, RegistryError
from imgbuild.oci.digest import Digest, digest_of
from imgbuild.oci.image import OCI_LAYER, OCI_MANIFEST, Descriptor, Manifest, manifest_bytes
from imgbuild.registry.client import RegistryClient
from imgbuild.registry.endpoints import RegistrySettings
from imgbuild.registry.exchange import Retry
from imgbuild.registry.problems import StatusError, UnreachableError
from imgbuild.registry.repository import Repository

from .support import FakeTime, Heard, Say, Scripted, client_for

BIG = bytes(range(256)) * 4096 * 3  # 3 MiB: more than is sent at once
NAME = "team/app"


def blob(data: bytes) -> Descriptor:
    return Descriptor(OCI_LAYER, digest_of(data), len(data))


def at(mock: Mock, client: RegistryClient) -> Repository:
    return client.repository(mock.authority, NAME)


def fetched(repository: Repository, descriptor: Descriptor) -> bytes:
    def keep(chunks: object) -> bytes:
        data = b"".join(chunks)  # type: ignore[call-overload]
        if digest_of(data) != descriptor.digest:
            raise CorruptError("other bytes")
        return bytes(data)

    return repository.fetch_blob(descriptor, keep)


def push(repository: Repository, data: bytes, mount_from: tuple[str, ...] = ()) -> str:
    return repository.push_blob(blob(data), lambda: io.BytesIO(data), mount_from=mount_from)


def methods(mock: Mock) -> list[str]:
    return [request["method"] for request in mock.requests() if request["path"] != "/v2/"]


@pytest.mark.parametrize("data", [b"", b"x", bytes(1 << 20), BIG])
def test_a_blob_there_and_back(mock: Mock, data: bytes) -> None:
    with client_for() as client:
        repository = at(mock, client)
        assert repository.blob_size(blob(data).digest) is None
        assert push(repository, data) == "sent"
        assert repository.blob_size(blob(data).digest) == len(data)
        assert fetched(repository, blob(data)) == data


def test_chunks_where_they_are_wanted(start: Callable[..., Mock]) -> None:
    mock = start("--chunk-min-length", str(1 << 20))
    with client_for(RegistrySettings(chunk_bytes=500_000)) as client:
        push(at(mock, client), BIG)
    ranges = [request["headers"].get("content-range") for request in mock.requests() if request["method"] == "PATCH"]
    # Shorter ones than the registry wants are not sent.
    assert ranges == ["0-1048575", "1048576-2097151", "2097152-3145727"]


def test_mounted_from_another_repository(mock: Mock) -> None:
    mock.push("other/app", BIG)
    with client_for() as client:
        assert push(at(mock, client), BIG, ("other/app",)) == "mounted"
    assert methods(mock) == ["POST", "POST"]
    assert sum(request["bytes_in"] for request in mock.requests()) == len(BIG)  # those of the set-up


def test_sent_where_the_mount_is_not_possible(mock: Mock) -> None:
    with client_for() as client:
        assert push(at(mock, client), BIG, ("missing/app", "missing/too")) == "sent"
        assert fetched(at(mock, client), blob(BIG)) == BIG


def test_errors_of_the_server_are_waited_out(mock: Mock, time: FakeTime) -> None:
    mock.fault(do="status", status=503, path="/manifests/", count=2)
    document = manifest_bytes(Manifest(blob(b"{}"), ()))
    mock.push(NAME, b"{}")
    retries: list[Retry] = []
    with client_for(time=time, on_retry=retries.append) as client:
        at(mock, client).push_manifest("v1", document, OCI_MANIFEST)
    assert time.slept == [0.4, 0.8]
    assert [retry.attempt for retry in retries] == [2, 3] and "503" in retries[0].problem


def test_retry_after_is_honoured(mock: Mock, time: FakeTime) -> None:
    mock.push(NAME, b"x")
    mock.fault(do="status", status=429, retry_after="7", path="/blobs/")
    with client_for(time=time) as client:
        assert fetched(at(mock, client), blob(b"x")) == b"x"
    assert time.slept == [7]


def test_retry_after_as_a_date(mock: Mock, time: FakeTime) -> None:
    mock.push(NAME, b"x")
    mock.fault(do="status", status=503, retry_after=formatdate(1_000_000_021, usegmt=True), path="/blobs/")
    with client_for(time=time) as client:
        fetched(at(mock, client), blob(b"x"))
    assert time.slept == [21]


def test_too_long_a_wait_is_told_and_not_waited(mock: Mock, time: FakeTime) -> None:
    mock.fault(do="status", status=429, retry_after="86400", path="/manifests/", count=0)
    with client_for(time=time) as client, pytest.raises(StatusError) as caught:
        at(mock, client).manifest("v1")
    assert caught.value.status == 429 and not time.slept and "login" in (caught.value.hint or "")


def test_attempts_end(mock: Mock, time: FakeTime) -> None:
    mock.fault(do="status", status=500, path="/manifests/", count=0)
    with client_for(RegistrySettings(attempts=3), time=time) as client, pytest.raises(StatusError, match="500"):
        at(mock, client).manifest("v1")
    assert len(time.slept) == 2


def test_a_registry_that_is_down(time: FakeTime, start: Callable[..., Mock]) -> None:
    mock = start()
    mock.stop()
    with client_for(RegistrySettings(attempts=2), time=time) as client, pytest.raises(UnreachableError) as caught:
        at(mock, client).manifest("v1")
    assert mock.authority in caught.value.message and "running" in (caught.value.hint or "")
    assert len(time.slept) == 1


def test_a_dropped_connection_is_tried_again(mock: Mock, time: FakeTime) -> None:
    mock.push(NAME, b"x")
    mock.fault(do="drop", path="/blobs/", count=2)
    with client_for(time=time) as client:
        assert fetched(at(mock, client), blob(b"x")) == b"x"


def test_a_cut_download_goes_on_where_it_was(mock: Mock) -> None:
    mock.push(NAME, BIG)
    mock.fault(do="cut", path="/blobs/", after=1_000_000)
    mock.fault(do="cut", path="/blobs/", after=700_000)
    with client_for() as client:
        assert fetched(at(mock, client), blob(BIG)) == BIG
    gets = [request for request in mock.requests() if request["method"] == "GET" and "/blobs/" in request["path"]]
    assert [request["range"] for request in gets] == [None, f"bytes=1000000-{len(BIG) - 1}", f"bytes=1700000-{len(BIG) - 1}"]
    assert sum(request["bytes_out"] for request in gets) == len(BIG)


def test_cuts_without_progress_end(mock: Mock, time: FakeTime) -> None:
    mock.push(NAME, BIG)
    mock.fault(do="cut", path="/blobs/", after=10, count=0)
    with client_for(RegistrySettings(attempts=3), time=time) as client, pytest.raises(UnreachableError):
        fetched(at(mock, client), blob(BIG))
    assert len(time.slept) == 2


def test_a_server_without_ranges_is_read_from_the_beginning(scripted: Callable[..., Scripted]) -> None:
    cut = iter([1_000_000])

    def answer(heard: Heard) -> Say:
        if "/blobs/" not in heard.path:
            return Say()
        size = next(cut, len(BIG))
        return Say(200, {}, BIG[:size], length=len(BIG))

    server = scripted(answer)
    with client_for() as client:
        assert fetched(client.repository(server.host, NAME), blob(BIG)) == BIG


@pytest.mark.parametrize("size", [len(BIG) - 1, len(BIG) + 1, 10, len(BIG) * 2])
def test_a_lie_about_the_size_is_told_before_any_byte(mock: Mock, size: int) -> None:
    mock.push(NAME, BIG)
    with client_for() as client, pytest.raises(CorruptError, match="in its manifest"):
        fetched(at(mock, client), replace(blob(BIG), size=size))


def test_no_more_than_said_is_read_without_a_length(scripted: Callable[..., Scripted]) -> None:
    def answer(heard: Heard) -> Say:
        return Say(200, {}, BIG, length=100) if "/blobs/" in heard.path else Say()

    server = scripted(answer)
    lying = replace(blob(BIG), size=100)
    with client_for() as client, pytest.raises(CorruptError):
        fetched(client.repository(server.host, NAME), lying)


def test_wrong_bytes_of_a_blob(mock: Mock) -> None:
    mock.push(NAME, BIG)
    mock.fault(do="corrupt", path="/blobs/", count=0)
    with client_for() as client, pytest.raises(CorruptError):
        fetched(at(mock, client), blob(BIG))


def test_a_missing_blob_is_a_404(mock: Mock) -> None:
    with client_for() as client, pytest.raises(StatusError) as caught:
        fetched(at(mock, client), blob(b"missing"))
    assert caught.value.status == 404 and caught.value.code == "BLOB_UNKNOWN"


@pytest.mark.parametrize("after", [0, 1_500_000])
def test_a_cut_upload_goes_on_where_the_registry_is(mock: Mock, after: int) -> None:
    mock.fault(do="cut-upload", method="PATCH", path="/uploads/", after=after, reset=True)
    done: list[int] = []
    with client_for() as client:
        repository = at(mock, client)
        repository.push_blob(blob(BIG), lambda: io.BytesIO(BIG), on_bytes=done.append)
        assert fetched(repository, blob(BIG)) == BIG
    patches = [request for request in mock.requests() if request["method"] == "PATCH"]
    assert len(patches) == 2 and done[-1] == len(BIG)
    if after:
        assert patches[1]["headers"]["content-range"] == f"{after}-{len(BIG) - 1}"
        assert sum(request["bytes_in"] for request in patches) == len(BIG)


def test_an_upload_whose_answers_are_lost(mock: Mock) -> None:
    mock.fault(do="lose", method="PATCH", path="/uploads/")
    mock.fault(do="lose", method="PUT", path="/uploads/")
    with client_for() as client:
        assert push(at(mock, client), BIG) == "sent"
        assert fetched(at(mock, client), blob(BIG)) == BIG
    assert sum(request["bytes_in"] for request in mock.requests() if request["method"] == "PATCH") == len(BIG)


def test_a_small_upload_whose_answer_is_lost(mock: Mock) -> None:
    mock.fault(do="lose", method="PUT", path="/uploads/")
    with client_for() as client:
        assert push(at(mock, client), b"small") == "sent"
        assert fetched(at(mock, client), blob(b"small")) == b"small"


def test_uploads_are_not_tried_for_ever(mock: Mock, time: FakeTime) -> None:
    mock.fault(do="cut-upload", method="PATCH", path="/uploads/", after=0, count=0)
    with client_for(RegistrySettings(attempts=3), time=time) as client, pytest.raises(RegistryError):
        push(at(mock, client), BIG)
    assert len(time.slept) < 6


@pytest.mark.parametrize("size", [100, len(BIG)])
def test_a_damaged_blob_is_not_sent(mock: Mock, size: int) -> None:
    data = BIG[:size]
    with client_for() as client, pytest.raises(CorruptError):
        at(mock, client).push_blob(blob(data), lambda: io.BytesIO(b"!" + data[1:]))
    assert "PUT" not in methods(mock)


def test_a_read_only_registry_says_so(start: Callable[..., Mock]) -> None:
    mock = start("--read-only")
    with client_for() as client, pytest.raises(StatusError) as caught:
        push(at(mock, client), b"x")
    assert caught.value.status == 405 and "read-only" in (caught.value.hint or "")


def test_manifests(mock: Mock) -> None:
    document = manifest_bytes(Manifest(blob(b"{}"), ()))
    mock.push(NAME, b"{}")
    with client_for() as client:
        repository = at(mock, client)
        digest = repository.push_manifest("v1", document, OCI_MANIFEST)
        assert digest == digest_of(document)
        for name in ("v1", digest):
            got = repository.manifest(name)
            assert got.data == document and got.descriptor == Descriptor(OCI_MANIFEST, digest, len(document))
        mock.call("DELETE", f"/v2/{NAME}/manifests/{digest}")
        with pytest.raises(StatusError, match="MANIFEST_UNKNOWN"):
            repository.manifest("v1")


def test_a_cut_manifest_is_fetched_again(mock: Mock) -> None:
    document = manifest_bytes(Manifest(blob(b"{}"), ()))
    mock.push(NAME, b"{}")
    mock.put(NAME, "v1", document)
    mock.fault(do="cut", path="/manifests/", after=20)
    with client_for() as client:
        assert at(mock, client).manifest("v1").data == document


def test_a_manifest_with_another_digest(mock: Mock) -> None:
    document = manifest_bytes(Manifest(blob(b"{}"), ()))
    mock.push(NAME, b"{}")
    mock.put(NAME, "v1", document)
    mock.fault(do="corrupt", path="/manifests/", count=0)
    with client_for() as client, pytest.raises(CorruptError):
        at(mock, client).manifest(digest_of(document))


def test_a_manifest_is_bounded(scripted: Callable[..., Scripted]) -> None:
    server = scripted(lambda heard: Say(200, {"Content-Type": OCI_MANIFEST}, b" " * (5 << 20)))
    with client_for() as client, pytest.raises(RegistryError, match="longer than"):
        client.repository(server.host, NAME).manifest("v1")
    with client_for() as client, pytest.raises(ImageError):
        client.repository(server.host, NAME).push_manifest("v1", b" " * (5 << 20), OCI_MANIFEST)


def test_tags_page_by_page(start: Callable[..., Mock]) -> None:
    mock = start("--page-size", "2")
    manifest = mock.image(NAME)
    for number in range(5):
        mock.put(NAME, f"v{number}", manifest)
    with client_for() as client:
        assert list(at(mock, client).tags()) == ["v0", "v1", "v2", "v3", "v4"]
    assert len([request for request in mock.requests() if request["path"].endswith("/tags/list")]) == 3


def test_pages_that_go_round(scripted: Callable[..., Scripted]) -> None:
    server = scripted(lambda heard: Say(200, {"Link": f'<http://elsewhere.example{heard.path}>; rel="next"'}, b'{"tags": ["a"]}'))
    with client_for() as client:
        assert list(client.repository(server.host, NAME).tags()) == ["a"]


def test_referrers_by_the_api(mock: Mock) -> None:
    image = json.dumps(mock.image(NAME)).encode()
    mock.put(NAME, "v1", image)
    subject = Descriptor(OCI_MANIFEST, digest_of(image), len(image))
    first = manifest_bytes(Manifest(blob(b"{}"), (), artifact_type="a/b", subject=subject))
    with client_for() as client:
        repository = at(mock, client)
        repository.push_manifest(digest_of(first), first, OCI_MANIFEST)
        assert [item.digest for item in repository.referrers(subject.digest)] == [digest_of(first)]
        assert [item.digest for item in repository.referrers(subject.digest, "a/b")] == [digest_of(first)]
        assert repository.referrers(subject.digest, "c/d") == ()


def test_referrers_by_the_fallback_tag(scripted: Callable[..., Scripted]) -> None:
    kept: dict[str, bytes] = {}

    def answer(heard: Heard) -> Say:
        if heard.method == "PUT":
            kept[heard.path] = heard.body
            return Say(201)
        if "/manifests/" in heard.path and heard.path in kept:
            return Say(200, {"Content-Type": "application/vnd.oci.image.index.v1+json"}, kept[heard.path])
        return Say(404) if heard.path != "/v2/" else Say()

    server = scripted(answer)
    subject = Descriptor(OCI_MANIFEST, Digest("sha256:" + "ab" * 32), 10)
    with client_for() as client:
        repository = client.repository(server.host, NAME)
        for kind in ("a/b", "c/d", "a/b"):
            data = manifest_bytes(Manifest(blob(b"{}"), (), artifact_type=kind, subject=subject))
            repository.push_manifest(digest_of(data), data, OCI_MANIFEST)
        assert [item.artifact_type for item in repository.referrers(subject.digest)] == ["c/d", "a/b"]
        assert [item.artifact_type for item in repository.referrers(subject.digest, "a/b")] == ["a/b"]
    assert f"/v2/{NAME}/manifests/sha256-{'ab' * 32}" in kept


def test_the_registrys_own_words_are_told(scripted: Callable[..., Scripted]) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "quota \x1b[31mexceeded", "detail": "by 3"}]}).encode()
    server = scripted(lambda heard: Say(413 if "/v2/t" in heard.path else 200, {}, body))
    with client_for() as client, pytest.raises(StatusError) as caught:
        client.repository(server.host, NAME).manifest("v1")
    assert "DENIED: quota  [31mexceeded; by 3" in caught.value.message and caught.value.code == "DENIED"
