"""Blobs: pull, push in one, in two and in many requests, mount, delete."""

import contextlib
from collections.abc import Callable

import pytest

from .client import Mock, digest_of, send

ABSENT = digest_of(b"absent")


def test_base(shared: Mock) -> None:
    answer = shared.call("GET", "/v2/")
    assert answer.status == 200
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_push_in_one(shared: Mock, name: str, algorithm: str) -> None:
    digest = digest_of(b"abc", algorithm)
    pushed = shared.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", b"abc")
    assert (pushed.status, pushed.location, pushed.headers["Docker-Content-Digest"]) == (201, f"/v2/{name}/blobs/{digest}", digest)
    got = shared.call("GET", pushed.location)
    assert (got.status, got.body, got.headers["Docker-Content-Digest"]) == (200, b"abc", digest)
    head = shared.call("HEAD", pushed.location)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "3")


@pytest.mark.parametrize("content", [b"", b"{}", bytes(range(256)) * 1024])
def test_push_in_two(shared: Mock, name: str, content: bytes) -> None:
    digest = digest_of(content)
    location = shared.begin(name)
    assert shared.call("PUT", f"{location}?digest={digest}", content).status == 201
    assert shared.call("GET", f"/v2/{name}/blobs/{digest}").body == content
    assert shared.call("GET", location).codes == ["BLOB_UPLOAD_UNKNOWN"]


@pytest.mark.parametrize("body", [[b"ab", b"c"], [b"abc"], []])
def test_chunked_transfer_encoding(shared: Mock, name: str, body: list[bytes]) -> None:
    content = b"".join(body)
    location = shared.begin(name)
    patched = shared.call("PATCH", location, iter(body))
    assert (patched.status, patched.headers["Range"]) == (202, f"0-{max(0, len(content) - 1)}")
    assert shared.call("PUT", f"{patched.location}?digest={digest_of(content)}").status == 201
    assert shared.call("GET", f"/v2/{name}/blobs/{digest_of(content)}").body == content


@pytest.mark.parametrize("last", ["PATCH", "PUT"])
def test_chunks(shared: Mock, name: str, last: str) -> None:
    location = shared.begin(name)
    first = shared.call("PATCH", location, b"abcd", Content_Range="0-3")
    assert (first.status, first.headers["Range"]) == (202, "0-3")
    status = shared.call("GET", first.location)
    assert (status.status, status.headers["Range"], status.body) == (204, "0-3", b"")
    assert "Content-Length" not in status.headers
    finish = f"{status.location}?digest={digest_of(b'abcdef')}"
    if last == "PATCH":
        assert shared.call("PATCH", status.location, b"ef", Content_Range="4-5").status == 202
        assert shared.call("PUT", finish).status == 201
    else:
        assert shared.call("PUT", finish, b"ef", Content_Range="4-5").status == 201
    assert shared.call("GET", f"/v2/{name}/blobs/{digest_of(b'abcdef')}").body == b"abcdef"


@pytest.mark.parametrize("bad", ["4-7", "0-1", "1-2", "2-1", "bytes 2-3/4", "x", ""])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_out_of_order_leaves_the_upload(shared: Mock, name: str, method: str, bad: str) -> None:
    location = shared.begin(name)
    shared.call("PATCH", location, b"ab", Content_Range="0-1")
    refused = shared.call(method, f"{location}?digest={digest_of(b'abcd')}", b"cd", Content_Range=bad)
    assert (refused.status, refused.headers["Range"], refused.location) == (416, "0-1", location)
    assert shared.call("PUT", f"{location}?digest={digest_of(b'abcd')}", b"cd", Content_Range="2-3").status == 201


def test_content_range_that_is_not_the_length(shared: Mock, name: str) -> None:
    location = shared.begin(name)
    assert shared.call("PATCH", location, b"ab", Content_Range="0-5").codes == ["SIZE_INVALID"]
    assert shared.call("PATCH", location, iter([b"ab"]), Content_Range="0-5").codes == ["SIZE_INVALID"]
    assert shared.call("PATCH", location, b"ab", Content_Range="0-1").headers["Range"] == "0-1"


def test_wrong_digest(shared: Mock, name: str) -> None:
    assert shared.call("POST", f"/v2/{name}/blobs/uploads/?digest={ABSENT}", b"x").codes == ["DIGEST_INVALID"]
    location = shared.begin(name)
    refused = shared.call("PUT", f"{location}?digest={ABSENT}", b"x")
    assert (refused.status, refused.codes) == (400, ["DIGEST_INVALID"])
    assert shared.call("GET", location).status == 404
    assert shared.call("HEAD", f"/v2/{name}/blobs/{ABSENT}").status == 404


@pytest.mark.parametrize("digest", ["", "sha256:abc", "sha256:" + "A" * 64, "md5:" + "a" * 32, "sha256:../../etc", "x"])
def test_malformed_digest(shared: Mock, name: str, digest: str) -> None:
    location = shared.begin(name)
    assert shared.call("PUT", f"{location}?digest={digest}", b"x").codes == ["DIGEST_INVALID"]
    assert shared.call("PUT", location, b"x").codes == ["DIGEST_INVALID"]
    assert shared.call("PUT", f"{location}?digest={digest_of(b'x')}", b"x").status == 201


def test_unknown_blob(shared: Mock, name: str) -> None:
    for method in ("GET", "HEAD", "DELETE"):
        answer = shared.call(method, f"/v2/{name}/blobs/{ABSENT}")
        assert answer.status == 404
        assert method == "HEAD" or answer.codes == ["BLOB_UNKNOWN"]
    assert shared.call("GET", f"/v2/{name}/blobs/sha256:baddigest").codes == ["DIGEST_INVALID"]


def test_cancel(shared: Mock, name: str) -> None:
    location = shared.begin(name)
    assert shared.call("DELETE", location).status == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        assert shared.call(method, f"{location}?digest={ABSENT}").codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert shared.call("GET", f"/v2/{name}/blobs/uploads/..").codes == ["BLOB_UPLOAD_UNKNOWN"]


def test_delete_is_for_one_repository(shared: Mock, name: str) -> None:
    digest = shared.push(name, b"abc")
    shared.push(name + "/other", b"abc")
    deleted = shared.call("DELETE", f"/v2/{name}/blobs/{digest}")
    assert deleted.status == 202
    assert shared.call("GET", f"/v2/{name}/blobs/{digest}").status == 404
    assert shared.call("GET", f"/v2/{name}/other/blobs/{digest}").status == 200
    assert shared.call("DELETE", f"/v2/{name}/other/blobs/{digest}").status == 202
    shared.push(name, b"abc")
    assert shared.call("GET", f"/v2/{name}/blobs/{digest}").body == b"abc"


def test_a_blob_is_seen_only_where_it_was_pushed(shared: Mock, name: str) -> None:
    digest = shared.push(name, b"mine")
    assert shared.call("HEAD", f"/v2/{name}/other/blobs/{digest}").status == 404


@pytest.mark.parametrize("source", ["&from={name}", ""])
def test_mount(shared: Mock, name: str, source: str) -> None:
    digest = shared.push(name, name.encode())
    mounted = shared.call("POST", f"/v2/{name}/other/blobs/uploads/?mount={digest}" + source.format(name=name))
    assert (mounted.status, mounted.location) == (201, f"/v2/{name}/other/blobs/{digest}")
    assert shared.call("GET", mounted.location).body == name.encode()


@pytest.mark.parametrize("query", [f"mount={ABSENT}&from=nowhere", f"mount={ABSENT}", "mount=x&from=y", f"mount={ABSENT}&from=../x"])
def test_mount_that_fails_becomes_an_upload(shared: Mock, name: str, query: str) -> None:
    begun = shared.call("POST", f"/v2/{name}/blobs/uploads/?{query}")
    assert begun.status == 202
    assert shared.call("PUT", f"{begun.location}?digest={digest_of(b'x')}", b"x").status == 201


@pytest.mark.parametrize(
    ("asked", "part", "told"),
    [("2-4", b"cde", "2-4"), ("4-", b"ef", "4-5"), ("-2", b"ef", "4-5"), ("4-99", b"ef", "4-5"), ("-99", b"abcdef", "0-5")],
)
def test_range(shared: Mock, name: str, asked: str, part: bytes, told: str) -> None:
    digest = shared.push(name, b"abcdef")
    answer = shared.call("GET", f"/v2/{name}/blobs/{digest}", Range=f"bytes={asked}")
    assert (answer.status, answer.body, answer.headers["Content-Range"]) == (206, part, f"bytes {told}/6")
    assert answer.headers["Content-Length"] == str(len(part))


@pytest.mark.parametrize("asked", ["6-", "9-12", "4-2", "-0"])
def test_range_that_is_not_there(shared: Mock, name: str, asked: str) -> None:
    digest = shared.push(name, b"abcdef")
    answer = shared.call("GET", f"/v2/{name}/blobs/{digest}", Range=f"bytes={asked}")
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */6")


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "lines=1-2", "bytes=-", "bytes"])
def test_range_that_we_do_not_do_is_the_whole(shared: Mock, name: str, asked: str) -> None:
    digest = shared.push(name, b"abcdef")
    assert shared.call("GET", f"/v2/{name}/blobs/{digest}", Range=asked).status == 200


def test_conditional(shared: Mock, name: str) -> None:
    path = f"/v2/{name}/blobs/{shared.push(name, b'abcdef')}"
    tag = str(shared.call("HEAD", path).headers["ETag"])
    assert shared.call("GET", path, If_None_Match=tag).status == 304
    assert shared.call("GET", path, Range="bytes=1-1", If_Range=tag).status == 206
    assert shared.call("GET", path, Range="bytes=1-1", If_Range='"other"').status == 200


def test_keep_alive_over_refusals(shared: Mock, name: str) -> None:
    with contextlib.closing(shared.connect()) as connection:
        for method in ("PUT", "PATCH"):
            refused = send(connection, method, f"/v2/{name}/blobs/uploads/{'0' * 32}?digest={ABSENT}", b"x" * 1_000_000)
            assert refused.status == 404
            assert "Connection" not in refused.headers
        socket = connection.sock
        assert send(connection, "GET", "/v2/").status == 200
        assert connection.sock is socket


def test_opaque_locations(start: Callable[..., Mock]) -> None:
    mock = start("--opaque-locations", "--chunk-min-length", "16")
    begun = mock.call("POST", "/v2/a/blobs/uploads/")
    assert begun.headers["OCI-Chunk-Min-Length"] == "16"
    assert begun.location.startswith(mock.url + "/v2/a/blobs/uploads/")
    path, _, query = begun.location.removeprefix(mock.url).partition("?")
    assert mock.call("PATCH", path, b"x").codes == ["BLOB_UPLOAD_INVALID"]
    patched = mock.call("PATCH", f"{path}?{query}", b"x")
    assert patched.location == begun.location
    assert mock.call("PUT", f"{path}?{query}&digest={digest_of(b'x')}").status == 201
