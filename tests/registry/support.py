"""What tests of the client share: a clock that never sleeps, credentials by hand, and a server that says what it is told to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from imgbuild.registry.client import RegistryClient
from imgbuild.registry.credentials import Credential
from imgbuild.registry.endpoints import RegistrySettings
from imgbuild.registry.retry import Clock


class FakeTime:
    """Time that passes only by sleeping, which costs none."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.passed = 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds

    def clock(self) -> Clock:
        return Clock(now=lambda: 1_000_000_000 + self.passed, monotonic=lambda: self.passed, sleep=self.sleep, jitter=lambda: 1.0)


class Known:
    """Credentials out of a dict; counts how often they were asked for."""

    def __init__(self, **known: Credential) -> None:
        self.known = known
        self.everywhere: Credential | None = known.get("everywhere")
        self.asked: list[str] = []

    def get(self, registry: str, repository: str = "") -> Credential | None:
        self.asked.append(registry)
        return self.known.get(registry, self.everywhere)


def client_for(
    settings: RegistrySettings | None = None, credential: Credential | None = None, time: FakeTime | None = None, **more: Any
) -> RegistryClient:
    known = Known(**({"everywhere": credential} if credential else {}))
    return RegistryClient(settings or RegistrySettings(), known, clock=(time or FakeTime()).clock(), **more)


@dataclass(frozen=True)
class Heard:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Say:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


class Scripted:
    """An HTTP server on loopback whose answers a function gives. `heard` are the requests so far."""

    def __init__(self, answer: Callable[[Heard], Say], host: str = "127.0.0.1") -> None:
        self.heard: list[Heard] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                heard = Heard(self.command, self.path, {key.lower(): value for key, value in self.headers.items()}, self.rfile.read(size))
                scripted.heard.append(heard)
                said = answer(heard)
                self.send_response(said.status)
                for key, value in said.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(said.body) if said.length is None else said.length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(said.body)
                if said.length is not None:
                    self.close_connection = True

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.host = f"{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def asked(self) -> list[tuple[str, str]]:
        return [(heard.method, urlsplit(heard.path).path) for heard in self.heard]

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
