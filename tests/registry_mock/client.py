"""A registry-mock process, and a plain HTTP client for it that hides nothing."""

import base64
import contextlib
import hashlib
import http.client
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PROGRAM = Path(__file__).resolve().parents[2] / "registry-mock"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
# How a connection that the server closed looks to `http.client`.
GONE = (ConnectionError, http.client.HTTPException)
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Answer:
    """A response that was read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        return [problem["code"] for problem in self.json["errors"]]

    @property
    def location(self) -> str:
        return str(self.headers["Location"])


class Mock:
    """A running server."""

    def __init__(self, root: Path, *options: str) -> None:
        command = [sys.executable, str(PROGRAM), "--port", "0", "--root", str(root), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.url = line.split()[-1]
        self.authority = urlsplit(self.url).netloc

    def __enter__(self) -> "Mock":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        assert self.process.stdout
        self.process.stdout.close()
        return code

    def connect(self) -> http.client.HTTPConnection:
        if self.url.startswith("https:"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return http.client.HTTPSConnection(self.authority, timeout=30, context=context)
        return http.client.HTTPConnection(self.authority, timeout=30)

    def call(self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str) -> Answer:
        """One request on a connection of its own; a header's name has _ for -."""
        with contextlib.closing(self.connect()) as connection:
            return send(connection, method, path, body, **headers)

    # What most tests begin with

    def push(self, name: str, content: bytes, algorithm: str = "sha256") -> str:
        digest = digest_of(content, algorithm)
        answer = self.call("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", content)
        assert answer.status == 201, answer
        return digest

    def begin(self, name: str) -> str:
        answer = self.call("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status == 202
        return answer.location

    def put(self, name: str, reference: str, document: Mapping[str, Any] | bytes, media_type: str = "") -> Answer:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        kind = media_type or (document["mediaType"] if not isinstance(document, bytes) else IMAGE)
        return self.call("PUT", f"/v2/{name}/manifests/{reference}", content, Content_Type=kind)

    def image(self, name: str, **more: Any) -> dict[str, Any]:
        """A manifest whose blobs are pushed."""
        config, layer = b"{}", b"layer of " + name.encode()
        self.push(name, config)
        self.push(name, layer)
        found = {"schemaVersion": 2, "mediaType": IMAGE, "config": descriptor(config, CONFIG), "layers": [descriptor(layer, LAYER)]}
        return found | more

    def requests(self) -> list[dict[str, Any]]:
        return list(self.call("GET", "/_requests").json)

    def fault(self, **fault: Any) -> None:
        answer = self.call("POST", "/_faults", json.dumps([fault]).encode())
        assert answer.status == 200, answer


def send(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str
) -> Answer:
    """One request on a connection that stays open; a body that is an iterable goes chunked."""
    connection.request(method, path, body=body, headers={key.replace("_", "-"): value for key, value in headers.items()})
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def descriptor(content: bytes, media_type: str, algorithm: str = "sha256") -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content, algorithm), "size": len(content)}


def encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
