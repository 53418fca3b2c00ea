"""The process: start, stop, restart, TLS, read-only; raw HTTP; and what the sources may import."""

import ast
import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .client import GONE, PROGRAM, Mock, digest_of, encode, send


def raw(mock: Mock, request: bytes) -> bytes:
    """What comes back for these bytes, until the server closes."""
    host, _, port = mock.authority.rpartition(":")
    with contextlib.closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_on_a_signal_with_a_connection_open(start: Callable[..., Mock], number: signal.Signals) -> None:
    mock = start()
    with contextlib.closing(mock.connect()) as connection:
        assert send(connection, "GET", "/v2/").status == 200
        mock.process.send_signal(number)
        assert mock.process.wait(timeout=30) == 0


def test_port_file(start: Callable[..., Mock], tmp_path: Path) -> None:
    mock = start("--port-file", str(tmp_path / "port"))
    assert mock.url == f"http://127.0.0.1:{(tmp_path / 'port').read_text().strip()}"


def test_everything_survives_a_restart(start: Callable[..., Mock]) -> None:
    mock = start()
    document = mock.image("a")
    mock.put("a", "t", document)
    location = mock.begin("a")
    assert mock.call("PATCH", location, b"ab", Content_Range="0-1").status == 202
    mock.stop()
    mock = start()
    assert mock.call("GET", "/v2/a/manifests/t").body == encode(document)
    assert mock.call("GET", f"/v2/a/blobs/{document['layers'][0]['digest']}").status == 200
    assert mock.call("GET", location).headers["Range"] == "0-1"
    assert mock.call("PUT", f"{location}?digest={digest_of(b'abcd')}", b"cd", Content_Range="2-3").status == 201


def test_read_only(start: Callable[..., Mock]) -> None:
    mock = start()
    document = mock.image("a")
    mock.put("a", "t", document)
    mock.stop()
    mock = start("--read-only")
    assert mock.call("GET", "/v2/a/manifests/t").status == 200
    for method, path in [("POST", "/v2/a/blobs/uploads/"), ("PUT", "/v2/a/manifests/t"), ("DELETE", "/v2/a/manifests/t")]:
        answer = mock.call(method, path, encode(document))
        assert (answer.status, answer.codes, answer.headers["Allow"]) == (405, ["UNSUPPORTED"], "GET, HEAD")


def test_tls(start: Callable[..., Mock], tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*make, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    tls = ("--tls-cert", str(certificate), "--tls-key", str(key))
    mock = start(*tls, "--opaque-locations", "--fault", "do=cut after=1 method=GET reset=true")
    assert mock.url.startswith("https://")
    digest = mock.push("a", b"abc" * 100_000)
    with pytest.raises(GONE):
        mock.call("GET", f"/v2/a/blobs/{digest}")
    assert mock.call("GET", f"/v2/a/blobs/{digest}").body == b"abc" * 100_000
    assert mock.begin("a").startswith(mock.url)
    raw(mock, b"GET /v2/ HTTP/1.1\r\n\r\n")
    assert mock.call("GET", "/v2/").status == 200


def test_many_at_once(shared: Mock, name: str) -> None:
    content = name.encode() * 1000

    def work(number: int) -> int:
        return shared.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest_of(content)}", content).status

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(work, range(64))) == {201}
    assert shared.call("GET", f"/v2/{name}/blobs/{digest_of(content)}").body == content


def test_expect_continue(shared: Mock, name: str) -> None:
    wanted = f"POST /v2/{name}/blobs/uploads/?digest={digest_of(b'abc')} HTTP/1.1\r\n"
    answer = raw(shared, f"{wanted}Host: x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc".encode())
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 ")
    refused = raw(shared, f"PUT /v2/{name}/manifests/-x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n".encode())
    assert refused.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: x\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
        b"no colon\r\n\r\n" + b"Content-Length: x\r\n\r\n",
    ],
)
def test_bad_framing_ends_the_connection(shared: Mock, name: str, rest: bytes) -> None:
    answer = raw(shared, f"POST /v2/{name}/blobs/uploads/?digest={digest_of(b'a')} HTTP/1.1\r\nHost: x\r\n".encode() + rest)
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "target", ["http://[", "/[", "//v2/", "*", "/v2/%ff/tags/list", "/v2/\xe9/tags/list?%", "/v2/a/tags/list?n=" + "9" * 5000]
)
def test_strange_targets(shared: Mock, target: str) -> None:
    answer = raw(shared, f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin-1"))
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 200 ")), answer


def test_bad_requests_are_refused_in_json(shared: Mock) -> None:
    for request in (b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / x y\r\n\r\n"):
        answer = raw(shared, request)
        assert b'"errors"' in answer, answer


@pytest.mark.parametrize(
    "options",
    [["--fault", "do=explode"], ["--fault", "drop"], ["--fault", "{"], ["--user", "ann"], ["--tls-cert", "x"], ["--auth", "magic"]],
)
def test_bad_options(tmp_path: Path, options: list[str]) -> None:
    command = [sys.executable, str(PROGRAM), "--root", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_stands_alone() -> None:
    own = {path.stem for path in PROGRAM.glob("*.py")}
    for path in PROGRAM.glob("*.py"):
        text = path.read_text()
        assert text.count("\n") < 400, path
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.partition(".")[0] in own | sys.stdlib_module_names, (path, name)
    assert not own & sys.stdlib_module_names
