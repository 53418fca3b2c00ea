"""Each fault, and the log of requests."""

import contextlib
import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

from .client import GONE, Answer, Mock, basic, digest_of, send

CONTENT = bytes(range(256)) * 1024


@pytest.fixture
def mock(start: Callable[..., Mock]) -> Mock:
    return start()


def blob(mock: Mock) -> str:
    path = f"/v2/a/blobs/{mock.push('a', CONTENT)}"
    mock.call("DELETE", "/_requests")
    return path


def logged(mock: Mock, *keys: str) -> list[tuple[Any, ...]]:
    return [tuple(record[key] for key in keys) for record in mock.requests()]


def partial(mock: Mock, path: str) -> bytes:
    """What came of a body before its connection ended."""
    with contextlib.closing(mock.connect()) as connection:
        connection.request("GET", path)
        with pytest.raises(http.client.IncompleteRead) as caught:
            connection.getresponse().read()
        return caught.value.partial


def test_status_counts_down(mock: Mock) -> None:
    path = blob(mock)
    mock.fault(do="status", status=502, path="/blobs/", method="GET", count=2)
    assert mock.call("HEAD", path).status == 200
    answers = [mock.call("GET", path) for _ in range(3)]
    assert [answer.status for answer in answers] == [502, 502, 200]
    assert answers[0].codes == ["UNKNOWN"]
    assert logged(mock, "method", "status", "fault") == [
        ("HEAD", 200, None),
        ("GET", 502, "status"),
        ("GET", 502, "status"),
        ("GET", 200, None),
    ]


def test_retry_after(mock: Mock) -> None:
    mock.fault(do="status", status=429, retry_after=7, headers={"X-Limit": "1"})
    answer = mock.call("GET", "/v2/")
    assert (answer.status, answer.headers["Retry-After"], answer.headers["X-Limit"]) == (429, "7", "1")
    assert answer.codes == ["TOOMANYREQUESTS"]


def test_redirect(mock: Mock) -> None:
    path = blob(mock)
    mock.fault(do="status", status=307, headers={"Location": path})
    answer = mock.call("GET", "/v2/somewhere/else")
    assert (answer.status, answer.location, answer.body) == (307, path, b"")


def test_a_fault_does_nothing_of_what_was_asked(mock: Mock) -> None:
    mock.fault(do="status", status=500)
    assert mock.call("POST", f"/v2/a/blobs/uploads/?digest={digest_of(CONTENT)}", CONTENT).status == 500
    assert mock.call("HEAD", f"/v2/a/blobs/{digest_of(CONTENT)}").status == 404


def test_drop(mock: Mock) -> None:
    mock.fault(do="drop", count=2)
    mock.fault(do="drop", reset=True)
    for _ in range(3):
        with pytest.raises(GONE):
            mock.call("GET", "/v2/")
    assert mock.call("GET", "/v2/").status == 200
    assert logged(mock, "status", "fault") == [(None, "drop")] * 3 + [(200, None)]


def test_lose_does_what_was_asked(mock: Mock) -> None:
    mock.fault(do="lose", method="POST")
    with pytest.raises(GONE):
        mock.push("a", CONTENT)
    assert mock.call("HEAD", f"/v2/a/blobs/{digest_of(CONTENT)}").status == 200


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_cut(mock: Mock, after: int) -> None:
    path = blob(mock)
    mock.fault(do="cut", after=after, path="/blobs/")
    assert partial(mock, path) == CONTENT[:after]
    rest = mock.call("GET", path, Range=f"bytes={after}-")
    assert (rest.status, rest.body) == (206, CONTENT[after:])
    assert logged(mock, "bytes_out", "range") == [(after, None), (len(CONTENT) - after, f"bytes={after}-")]


def test_cut_by_reset(mock: Mock) -> None:
    path = blob(mock)
    mock.fault(do="cut", after=1000, reset=True)
    with contextlib.closing(mock.connect()) as connection, pytest.raises(GONE):
        connection.request("GET", path)
        connection.getresponse().read()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("after", [0, 5, 100_000])
def test_cut_upload_is_resumable(mock: Mock, after: int, chunked: bool) -> None:
    location = mock.begin("a")
    mock.fault(do="cut-upload", after=after, method="PATCH")
    with contextlib.suppress(*GONE):
        mock.call("PATCH", location, iter([CONTENT]) if chunked else CONTENT)
        pytest.fail("the connection was not closed")
    status = mock.call("GET", location)
    assert (status.status, status.headers["Range"]) == (204, f"0-{max(0, after - 1)}")
    rest = mock.call("PATCH", location, CONTENT[after:], Content_Range=f"{after}-{len(CONTENT) - 1}")
    assert rest.status == 202
    assert mock.call("PUT", f"{location}?digest={digest_of(CONTENT)}").status == 201
    uploads = [record["bytes_in"] for record in mock.requests() if record["method"] == "PATCH"]
    assert uploads == [after, len(CONTENT) - after]


def test_a_client_that_goes_away_leaves_a_resumable_upload(mock: Mock) -> None:
    location = mock.begin("a")
    with contextlib.closing(mock.connect()) as connection:
        connection.putrequest("PATCH", location)
        connection.putheader("Content-Length", str(len(CONTENT)))
        connection.endheaders(CONTENT[:1000])
        for _ in range(10_000):
            if mock.requests()[-1]["bytes_in"] == 1000:
                break
    # The status waits for the older request, which has ended now that its connection is closed.
    assert mock.call("GET", location).headers["Range"] == "0-999"


def test_slow(mock: Mock) -> None:
    path = blob(mock)
    mock.fault(do="slow", rate=1_000_000_000, method="GET")
    assert mock.call("GET", path).body == CONTENT
    location = mock.begin("a")
    mock.fault(do="slow-upload", rate=1_000_000_000, method="PATCH")
    assert mock.call("PATCH", location, CONTENT).status == 202
    assert [fault for (fault,) in logged(mock, "fault") if fault] == ["slow", "slow-upload"]


def test_stopping_does_not_wait_for_a_slow_body(mock: Mock) -> None:
    path = blob(mock)
    mock.fault(do="slow", rate=0.001)
    with contextlib.closing(mock.connect()) as connection:
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        assert mock.stop() == 0


@pytest.mark.parametrize(("given", "at"), [({}, len(CONTENT) // 2), ({"at": 0}, 0), ({"at": 70_000}, 70_000)])
def test_corrupt(mock: Mock, given: dict[str, int], at: int) -> None:
    path = blob(mock)
    mock.fault(do="corrupt", **given)
    got = mock.call("GET", path)
    assert (got.status, got.headers["Docker-Content-Digest"]) == (200, digest_of(CONTENT))
    assert [number for number, byte in enumerate(got.body) if byte != CONTENT[number]] == [at]
    assert mock.call("GET", path).body == CONTENT


def test_length_that_lies(mock: Mock) -> None:
    path = blob(mock)
    mock.fault(do="length", delta=5)
    assert partial(mock, path) == CONTENT
    mock.fault(do="length", delta=-5)
    short = mock.call("GET", path)
    assert (short.headers["Content-Length"], short.body) == (str(len(CONTENT) - 5), CONTENT[:-5])


def test_skip_and_forever(mock: Mock) -> None:
    mock.fault(do="status", status=503, skip=1, count=None, path=r"/v2/$")
    assert [mock.call("GET", "/v2/").status for _ in range(4)] == [200, 503, 503, 503]
    assert mock.call("GET", "/v2/?x=1").status == 200
    assert [fault["skip"] for fault in mock.call("GET", "/_faults").json] == [0]
    assert mock.call("DELETE", "/_faults").status == 204
    assert mock.call("GET", "/v2/").status == 200
    assert mock.call("GET", "/_faults").json == []


def test_faults_from_the_command_line(start: Callable[..., Mock]) -> None:
    words = r"do=status method=GET,PUT path='^/v2/a b\d' count=3 status=504 retry_after=9 reset=false"
    mock = start("--fault", words, "--fault", json.dumps({"do": "cut", "after": 3}))
    first, second = mock.call("GET", "/_faults").json
    assert (first["do"], first["method"], first["path"], first["count"]) == ("status", "GET,PUT", r"^/v2/a b\d", 3)
    assert (first["status"], first["retry_after"], first["reset"]) == (504, "9", False)
    assert (second["do"], second["after"], second["count"]) == ("cut", 3, 1)


@pytest.mark.parametrize(
    "fault",
    [
        {"do": "explode"},
        {},
        [],
        {"do": "cut", "after": -1},
        {"do": "cut", "after": "x"},
        {"do": "cut", "colour": "red"},
        {"do": "status", "status": 99},
        {"do": "slow", "rate": 0},
        {"do": "drop", "path": "("},
        {"do": "drop", "path": None},
        {"do": "drop", "reset": 1},
        {"do": "drop", "count": -1},
        "drop",
    ],
)
def test_bad_faults(shared: Mock, fault: object) -> None:
    answer: Answer = shared.call("POST", "/_faults", json.dumps([fault]).encode())
    assert (answer.status, answer.codes) == (400, ["UNKNOWN"])


def test_control_is_not_logged_and_not_struck(mock: Mock) -> None:
    mock.fault(do="drop", count=None)
    assert mock.requests() == []
    assert mock.call("POST", "/_requests").status == 405
    assert mock.call("POST", "/_faults", b"{").status == 400


def test_log(start: Callable[..., Mock]) -> None:
    mock = start("--auth", "basic", "--user", "ann:secret")
    who = basic("ann", "secret")
    with contextlib.closing(mock.connect()) as connection:
        path = f"/v2/a/blobs/uploads/?digest={digest_of(b'abc')}"
        assert send(connection, "POST", path, iter([b"ab", b"c"]), Authorization=who).status == 201
        assert send(connection, "GET", f"/v2/a/blobs/{digest_of(b'abc')}", Authorization=who, Range="bytes=1-1").status == 206
        assert send(connection, "GET", "/v2/a/manifests/x", Authorization=who).status == 404
    pushed, pulled, missing = mock.requests()
    assert (pushed["method"], pushed["path"], pushed["query"]) == ("POST", "/v2/a/blobs/uploads/", path.partition("?")[2])
    assert (pushed["status"], pushed["bytes_in"], pushed["bytes_out"], pushed["user"]) == (201, 3, 0, "ann")
    assert pushed["headers"]["transfer-encoding"] == "chunked"
    assert pushed["headers"]["authorization"] == "Basic"
    assert (pulled["status"], pulled["bytes_in"], pulled["bytes_out"], pulled["range"]) == (206, 0, 1, "bytes=1-1")
    assert missing["problems"] == ["MANIFEST_UNKNOWN"]
    assert [record["concurrent"] for record in (pushed, pulled, missing)] == [1, 1, 1]
    assert pushed["id"] < pulled["id"] < missing["id"]
    assert "secret" not in json.dumps(mock.requests())
    assert mock.call("DELETE", "/_requests").status == 204
    assert mock.requests() == []
