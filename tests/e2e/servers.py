"""Servers that tests fetch from: files over HTTP that can misbehave, and Git repositories behind ``git daemon`` and over HTTP."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .harness import PATIENCE


@dataclass
class Page:
    """What is answered for a path. `short` bytes of the body are not sent."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    short: int = 0


@dataclass
class Files:
    """A server's pages by path, and what it was asked: method, path, and headers in lower case."""

    url: str
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def put(self, path: str, body: bytes, **headers: str) -> str:
        """Serve a file; its URL."""
        self.pages[path] = Page(body, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return self.url + path

    def paths(self) -> list[str]:
        """The paths that were asked for since the last call."""
        asked = [path for _, path, _ in self.requests]
        self.requests.clear()
        return asked


@contextmanager
def serving_files(certificate: tuple[Path, Path] | None = None) -> Iterator[Files]:
    """A server on this machine, until the end of the context; over TLS with a certificate and its key. It is a proxy, too, whose pages
    are at whole URLs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            files.requests.append((self.command, self.path, headers))
            page = files.pages.get(self.path, Page(b"nothing here", 404))
            etag = page.headers.get("ETag")
            if etag and etag in headers.get("if-none-match", ""):
                page = Page(status=304, headers=page.headers)
            self.send_response(page.status)
            for name, value in page.headers.items():
                self.send_header(name, value)
            if page.status != 304:
                self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body[: len(page.body) - page.short])
            self.close_connection = bool(page.short)

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    files = Files("")
    with running(Handler, certificate) as port:
        files.url = f"https://localhost:{port}" if certificate else f"http://127.0.0.1:{port}"
        yield files


@dataclass
class Repositories:
    """Bare repositories below `place`, served at `url`; `commit` writes into one."""

    place: Path
    url: str

    def git(self, *arguments: str | Path, directory: Path | None = None, time: int = 1_600_000_000) -> str:
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.place),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_DATE": f"{time} +0000",
            "GIT_COMMITTER_DATE": f"{time} +0000",
            **{f"GIT_{who}_{what}": "t@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        command = ["git", "-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always", *map(str, arguments)]
        place = directory or self.place
        done = subprocess.run(command, cwd=place, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        return done.stdout.strip()

    def make(self, name: str, kind: str = "sha1") -> str:
        """A new repository; its URL."""
        self.git("init", "-q", "--bare", f"--object-format={kind}", f"{name}.git")
        (self.place / f"{name}.git" / "git-daemon-export-ok").touch()
        self.git("config", "http.receivepack", "true", directory=self.place / f"{name}.git")
        self.git("init", "-q", f"--object-format={kind}", f"work/{name}")
        self.git("remote", "add", "origin", self.place / f"{name}.git", directory=self.work(name))
        return f"{self.url}/{name}.git"

    def work(self, name: str) -> Path:
        return self.place / "work" / name

    def commit(
        self, name: str, files: dict[str, str], *, branch: str = "main", start: str = "", tag: str = "", annotated: bool = False
    ) -> str:
        """Commit files to a branch, which is moved to `start` or to where we are, and push it; the commit's hash. Text that begins
        with "-> " is a symlink."""
        work = self.work(name)
        self.git("checkout", "-q", "-B", branch, *([start] if start else []), directory=work)
        for path, content in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            if content.startswith("-> "):
                (work / path).symlink_to(content[3:])
            else:
                (work / path).write_text(content)
        self.git("add", "-A", directory=work)
        self.git("commit", "-q", "-m", "change", directory=work)
        if tag:
            self.git("tag", *(("-a", "-m", "tag") if annotated else ()), tag, directory=work)
        self.git("push", "-q", "--tags", "origin", branch, directory=work)
        return self.git("rev-parse", "HEAD", directory=work)


@contextmanager
def serving_git(place: Path) -> Iterator[Repositories]:
    """``git daemon`` behind a socket of this machine, one process for each connection, until the end of the context."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["git", "daemon", "--inetd", "--informative-errors", f"--base-path={place}", str(place)]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                subprocess.run(command, stdin=connection, stdout=connection, stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Repositories(place, f"git://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def serving_git_over_http(place: Path, authorization: str = "") -> Iterator[Repositories]:
    """``git http-backend`` behind a server of this machine, which wants that Authorization, if any."""
    place.mkdir(parents=True, exist_ok=True)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if authorization and self.headers.get("Authorization") != authorization:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            length = int(self.headers.get("Content-Length") or 0)
            environ = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(place),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            }
            body = self.rfile.read(length)
            done = subprocess.run(["git", "http-backend"], input=body, env=environ, capture_output=True, check=False, timeout=PATIENCE)
            head, _, answer = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
            self.send_response(int(headers.pop("Status", "200").split()[0]))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_POST = do_GET

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    with running(Handler) as port:
        yield Repositories(place, f"http://127.0.0.1:{port}")


@contextmanager
def running(handler: type[BaseHTTPRequestHandler], certificate: tuple[Path, Path] | None = None) -> Iterator[int]:
    """A server of HTTP on a port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
