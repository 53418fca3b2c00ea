"""Manifests, tags, referrers, the catalog."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from .client import CONFIG, IMAGE, INDEX, LAYER, Answer, Mock, descriptor, digest_of, encode

ABSENT = {"mediaType": IMAGE, "digest": digest_of(b"absent"), "size": 6}


def image_index(*children: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(children)} | more


def get(mock: Mock, name: str, reference: str, method: str = "GET") -> Answer:
    return mock.call(method, f"/v2/{name}/manifests/{reference}", Accept=IMAGE)


@pytest.mark.parametrize("reference", ["latest", "digest"])
def test_push_and_pull(shared: Mock, name: str, reference: str) -> None:
    content = json.dumps(shared.image(name), indent=3).encode()
    digest = digest_of(content)
    put = shared.put(name, digest if reference == "digest" else reference, content)
    assert (put.status, put.location, put.headers["Docker-Content-Digest"]) == (201, f"/v2/{name}/manifests/{digest}", digest)
    for where in {digest, digest if reference == "digest" else reference}:
        got = get(shared, name, where)
        assert (got.status, got.body, got.headers["Content-Type"]) == (200, content, IMAGE)
        head = get(shared, name, where, "HEAD")
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(content)))
        assert head.headers["Docker-Content-Digest"] == digest
    assert shared.call("GET", put.location, If_None_Match=f'"{digest}"').status == 304


def test_sha512(shared: Mock, name: str) -> None:
    content = encode(shared.image(name))
    digest = digest_of(content, "sha512")
    put = shared.put(name, digest, content)
    assert (put.status, put.headers["Docker-Content-Digest"]) == (201, digest)
    assert get(shared, name, digest).body == content


def test_tag_parameters(shared: Mock, name: str) -> None:
    content = encode(shared.image(name))
    put = shared.put(name, f"{digest_of(content)}?tag=a&tag=b", content)
    assert put.headers.get_all("OCI-Tag") == ["a", "b"]
    assert get(shared, name, "b").body == content
    assert shared.put(name, f"{digest_of(content)}?tag=-a", content).status == 400


def test_a_tag_moves(shared: Mock, name: str) -> None:
    first, second = shared.image(name), shared.image(name, annotations={"n": "2"})
    shared.put(name, "t", first)
    shared.put(name, "t", second)
    assert get(shared, name, "t").body == encode(second)
    assert get(shared, name, digest_of(encode(first))).status == 200


def test_wrong_digest(shared: Mock, name: str) -> None:
    content = encode(shared.image(name))
    assert shared.put(name, digest_of(content), content + b" ").codes == ["DIGEST_INVALID"]
    assert shared.put(name, "sha256:baddigeststring", content).codes == ["DIGEST_INVALID"]
    assert get(shared, name, "sha256:baddigeststring").status == 400


@pytest.mark.parametrize(
    "content",
    [
        b"blablabla",
        b"[]",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"{}",
        encode({"schemaVersion": 1, "mediaType": IMAGE, "config": ABSENT, "layers": []}),
        encode({"schemaVersion": 2, "mediaType": IMAGE, "layers": []}),
        encode({"schemaVersion": 2, "mediaType": IMAGE, "config": ABSENT}),
        encode({"schemaVersion": 2, "mediaType": INDEX, "config": ABSENT, "layers": []}),
        encode({"schemaVersion": 2, "mediaType": IMAGE, "config": {"mediaType": "x", "digest": ABSENT["digest"]}, "layers": []}),
        encode({"schemaVersion": 2, "mediaType": IMAGE, "config": {**ABSENT, "size": -1}, "layers": []}),
        encode({"schemaVersion": 2, "mediaType": IMAGE, "config": ABSENT, "layers": ["x"]}),
        encode({"schemaVersion": 2, "mediaType": 7, "config": ABSENT, "layers": []}),
        encode({"schemaVersion": 2, "config": ABSENT, "layers": [], "annotations": []}),
    ],
)
def test_invalid(shared: Mock, name: str, content: bytes) -> None:
    refused = shared.put(name, "t", content)
    assert (refused.status, refused.codes) == (400, ["MANIFEST_INVALID"])


def test_unsupported_media_type(shared: Mock, name: str) -> None:
    assert shared.put(name, "t", b'{"schemaVersion": 2}', "application/json").codes == ["MANIFEST_INVALID"]


def test_parameters_of_the_content_type_are_ignored(shared: Mock, name: str) -> None:
    assert shared.put(name, "t", encode(shared.image(name)), IMAGE + "; charset=utf-8").status == 201
    assert get(shared, name, "t").headers["Content-Type"] == IMAGE


def test_bad_digest_in_a_descriptor(shared: Mock, name: str) -> None:
    document = shared.image(name, config={"mediaType": CONFIG, "digest": "sha256:x", "size": 2})
    assert shared.put(name, "t", document).codes == ["DIGEST_INVALID"]


@pytest.mark.parametrize("tag", [".INVALID", "a" * 129, "-a", "a:b:c"])
def test_invalid_tag(shared: Mock, name: str, tag: str) -> None:
    assert shared.put(name, tag, shared.image(name)).status == 400
    assert get(shared, name, tag, "HEAD").status == (400 if ":" in tag else 404)
    assert get(shared, name, tag, "DELETE").status == (400 if ":" in tag else 404)


def test_size_limit(shared: Mock, name: str) -> None:
    small = encode(shared.image(name, annotations={"a": ""}))
    fits = shared.image(name, annotations={"a": "x" * (4 * 1024 * 1024 - len(small))})
    assert shared.put(name, "t", fits).status == 201
    assert shared.put(name, "t", encode(fits) + b" ").status == 413


def test_missing_content(shared: Mock, name: str) -> None:
    document = shared.image(name)
    document["layers"] = [descriptor(b"one", LAYER), descriptor(b"two", LAYER)]
    refused = shared.put(name, "t", document)
    assert (refused.status, refused.codes) == (404, ["MANIFEST_BLOB_UNKNOWN"] * 2)
    assert [problem["detail"]["digest"] for problem in refused.json["errors"]] == [digest_of(b"one"), digest_of(b"two")]
    assert shared.put(name, "t", image_index(ABSENT)).codes == ["MANIFEST_BLOB_UNKNOWN"]


def test_wrong_size_in_a_descriptor(shared: Mock, name: str) -> None:
    document = shared.image(name)
    document["config"]["size"] += 1
    assert shared.put(name, "t", document).codes == ["SIZE_INVALID"]


def test_non_distributable_layers_may_be_missing(shared: Mock, name: str) -> None:
    layer = descriptor(b"foreign", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    assert shared.put(name, "t", shared.image(name, layers=[layer])).status == 201


def test_index(shared: Mock, name: str) -> None:
    child = encode(shared.image(name))
    assert shared.put(name, digest_of(child), child).status == 201
    shared.push(name, b"a cache entry")
    document = image_index(descriptor(child, IMAGE), descriptor(b"a cache entry", LAYER))
    assert shared.put(name, "index", document).status == 201
    assert shared.put(name, "nested", image_index(descriptor(encode(document), INDEX))).status == 201
    assert shared.put(name, "empty", image_index()).status == 201


def test_delete(shared: Mock, name: str) -> None:
    content = encode(shared.image(name))
    for tag in ("a", "b", "c"):
        shared.put(name, tag, content)
    shared.put(name, "other", shared.image(name, annotations={"n": "2"}))
    assert get(shared, name, "a", "DELETE").status == 202
    assert get(shared, name, "a").codes == ["MANIFEST_UNKNOWN"]
    assert get(shared, name, "b").status == 200
    assert get(shared, name, digest_of(content), "DELETE").status == 202
    assert get(shared, name, digest_of(content), "DELETE").codes == ["MANIFEST_UNKNOWN"]
    assert shared.call("GET", f"/v2/{name}/tags/list").json["tags"] == ["other"]


def test_tags(shared: Mock, name: str) -> None:
    path = f"/v2/{name}/tags/list"
    assert shared.call("GET", path).codes == ["NAME_UNKNOWN"]
    document = shared.image(name)
    for tag in ("b", "a", "C", "d"):
        shared.put(name, tag, document)
    assert shared.call("GET", path).json == {"name": name, "tags": ["C", "a", "b", "d"]}
    page = shared.call("GET", path + "?n=3")
    assert page.json["tags"] == ["C", "a", "b"]
    assert page.headers["Link"] == f'<{path}?n=3&last=b>; rel="next"'
    rest = shared.call("GET", path + "?n=3&last=b")
    assert (rest.json["tags"], rest.headers["Link"]) == (["d"], None)
    assert shared.call("GET", path + "?last=aa").json["tags"] == ["b", "d"]
    zero = shared.call("GET", path + "?n=0")
    assert (zero.json["tags"], zero.headers["Link"]) == ([], None)
    assert shared.call("GET", path + "?n=x").status == 400


def test_referrers(shared: Mock, name: str) -> None:
    subject = encode(shared.image(name))
    described = descriptor(subject, IMAGE)
    path = f"/v2/{name}/referrers/{digest_of(subject)}"
    empty = shared.call("GET", path)
    assert (empty.status, empty.headers["Content-Type"]) == (200, INDEX)
    assert empty.json == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    by_config = shared.image(name, subject=described, annotations={"k": "v"})
    by_type = shared.image(name, subject=described, artifactType="application/x.sbom")
    index = image_index(subject=described)
    for document in (by_config, by_type, index):
        put = shared.put(name, digest_of(encode(document)), document)
        assert (put.status, put.headers["OCI-Subject"]) == (201, digest_of(subject))
    expected = [
        descriptor(encode(by_config), IMAGE) | {"artifactType": CONFIG, "annotations": {"k": "v"}},
        descriptor(encode(by_type), IMAGE) | {"artifactType": "application/x.sbom"},
        descriptor(encode(index), INDEX),
    ]
    listed = shared.call("GET", path)
    assert listed.json["manifests"] == sorted(expected, key=lambda entry: str(entry["digest"]))
    assert "OCI-Filters-Applied" not in listed.headers
    filtered = shared.call("GET", path + "?artifactType=application/x.sbom")
    assert (filtered.json["manifests"], filtered.headers["OCI-Filters-Applied"]) == ([expected[1]], "artifactType")
    assert shared.call("GET", path + "?artifactType=").json["manifests"] == [expected[2]]
    shared.call("DELETE", f"/v2/{name}/manifests/{expected[1]['digest']}")
    assert len(shared.call("GET", path).json["manifests"]) == 2
    assert shared.call("GET", f"/v2/{name}/referrers/sha256:x").codes == ["DIGEST_INVALID"]


def test_catalog_and_pages(start: Callable[..., Mock]) -> None:
    mock = start("--page-size", "2")
    for name in ("b", "a/b", "a", "c"):
        mock.push(name, b"{}")
    mock.begin("never/finished")
    assert mock.call("GET", "/v2/_catalog").headers["Link"] == '</v2/_catalog?last=a%2Fb>; rel="next"'
    assert mock.call("GET", "/v2/_catalog").json == {"repositories": ["a", "a/b"]}
    assert mock.call("GET", "/v2/_catalog?n=1&last=a").json == {"repositories": ["a/b"]}
    assert mock.call("GET", "/v2/_catalog?last=a/b").json == {"repositories": ["b", "c"]}
    subject = descriptor(b"nobody", IMAGE)
    for number in range(3):
        document = mock.image("a", subject=subject, annotations={"n": str(number)})
        assert mock.put("a", digest_of(encode(document)), document).status == 201
    first = mock.call("GET", f"/v2/a/referrers/{subject['digest']}?artifactType={quote(CONFIG, safe='')}")
    following = str(first.headers["Link"]).partition(">")[0].removeprefix("<")
    second = mock.call("GET", following)
    assert second.headers["OCI-Filters-Applied"] == "artifactType"
    digests = [entry["digest"] for answer in (first, second) for entry in answer.json["manifests"]]
    assert digests == sorted(set(digests))
    assert len(digests) == 3
    assert "Link" not in second.headers
