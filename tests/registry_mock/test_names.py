"""Paths: names that are none, endpoints that are none, methods that are not for here."""

import pytest

from .client import Mock, digest_of

DIGEST = digest_of(b"")


@pytest.mark.parametrize("name", ["A", "a//b", "a/../b", "..", "%2e%2e/x", "-a", "a_", "a___b", "_blobs", "a" * 256, "a/_tags", "a%00"])
def test_invalid_names(shared: Mock, name: str) -> None:
    answer = shared.call("GET", f"/v2/{name}/blobs/{DIGEST}")
    assert (answer.status, answer.codes) == (400, ["NAME_INVALID"])


@pytest.mark.parametrize("name", ["a__b", "a--b/c.d", "0", "blobs/uploads", "a" * 255])
def test_valid_names(shared: Mock, name: str) -> None:
    assert shared.call("GET", f"/v2/{name}/blobs/{DIGEST}").codes == ["BLOB_UNKNOWN"]


def test_a_name_may_hold_the_words_of_the_api(shared: Mock) -> None:
    digest = shared.push("a/manifests/b/blobs/uploads", b"x")
    assert shared.call("GET", f"/v2/a/manifests/b/blobs/uploads/blobs/{digest}").body == b"x"


@pytest.mark.parametrize("path", ["/", "/v1/", "/v2/a", "/v2/a/blobs/", "/v2/a/tags", "/token", "/_nothing"])
def test_no_endpoint(shared: Mock, path: str) -> None:
    assert shared.call("GET", path).status == 404


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("PUT", f"/v2/a/blobs/{DIGEST}", "GET, HEAD, DELETE"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("DELETE", "/v2/a/tags/list", "GET"),
        ("OPTIONS", "/v2/a/tags/list", "GET"),
    ],
)
def test_wrong_method(shared: Mock, method: str, path: str, allow: str) -> None:
    answer = shared.call(method, path)
    assert (answer.status, answer.codes, answer.headers["Allow"]) == (405, ["UNSUPPORTED"], allow)


def test_unknown_method(shared: Mock) -> None:
    answer = shared.call("BREW", "/v2/")
    assert (answer.status, answer.codes) == (501, ["UNKNOWN"])


def test_percent_encoded_digest(shared: Mock, name: str) -> None:
    digest = shared.push(name, b"x")
    assert shared.call("GET", f"/v2/{name}/blobs/{digest.replace(':', '%3A')}").body == b"x"
