"""One connection: reads requests, has them answered, sends the replies, and does the faults while at it.

The only module that touches the socket. What a fault does is done for real: a cut is a closed connection, slow is a
paced write, a wrong length is a wrong header.
"""

import io
import json
import os
import socket
import ssl
import struct
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import parse_qs

from errors import RegistryError, too_many_requests, unknown, unsupported
from faults import Fault, FaultError, from_json
from journal import KEPT, Record
from messages import BLOCK, BadFraming, Body, Cut, Reply, Request

if TYPE_CHECKING:
    from server import Server

# How much of a body that nobody wants is read, so that its sender comes to read our refusal.
_DRAIN_LIMIT = 256 * 1024 * 1024
# For tests, not for clients: neither logged nor struck by faults.
_CONTROL = ("/_faults", "/_requests")
_CONTROL_LIMIT = 1024 * 1024
# A paced body is sent in about this many parts a second.
_BEATS = 10


class Exchange(BaseHTTPRequestHandler):
    """The handler of `http.server`; one object for each connection, several requests one after the other."""

    protocol_version = "HTTP/1.1"
    server_version = "registry-mock"
    sys_version = ""
    timeout = 60
    disable_nagle_algorithm = True

    _continue = False

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def handle_expect_100(self) -> bool:
        # RFC 9110, section 10.1.1: say it when the body is wanted, so that a refusal costs the client nothing.
        self._continue = True
        return True

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError, ssl.SSLError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to stderr: the log of requests is at /_requests."""

    # One request

    @property
    def _here(self) -> "Server":
        return cast("Server", self.server)

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        if path in _CONTROL:
            self._converse(path, query, None, _unlogged())
            return
        with self._here.journal.record(self.command, path, query, self._kept_headers()) as record:
            fault = self._here.faults.strike(self.command, self.path)
            record.fault = fault.do if fault else None
            self._converse(path, query, fault, record)

    def _converse(self, path: str, query: str, fault: Fault | None, record: Record) -> None:
        try:
            if fault and fault.do == "drop":
                raise Cut("fault", fault.reset)
            body = self._body(fault, record)
            request = Request(self.command, parse_qs(query, keep_blank_values=True), self.headers, body)
            reply = self._reply(path, request, fault, record)
            self._drain(body)
            if fault and fault.do == "lose":
                raise Cut("fault", fault.reset)
            self._send(reply, fault, record)
        except BadFraming as error:
            self.close_connection = True
            self._send(_refusal(unknown(400, str(error))), None, record)
        except Cut as cut:
            self._close(cut.reset)
        except OSError:
            self._close(reset=True)

    def _reply(self, path: str, request: Request, fault: Fault | None, record: Record) -> Reply:
        def seen(user: str | None) -> None:
            record.user = user

        try:
            if fault and fault.do == "status":
                return _faulty(fault)
            if path in _CONTROL:
                return self._control(path, request)
            return self._here.registry.answer(path, request, self._base(), seen)
        except RegistryError as error:
            record.problems = [problem.code for problem in error.problems]
            return _refusal(error)
        except (Cut, BadFraming, OSError) as error:
            if isinstance(error, ConnectionError | TimeoutError | ssl.SSLError) or not isinstance(error, OSError):
                raise
            return _refusal(unknown(500, f"storage: {error.strerror}"))

    def _control(self, path: str, request: Request) -> Reply:
        faults, journal = self._here.faults, self._here.journal
        if request.method == "POST" and path == "/_faults":
            try:
                faults.add(from_json(json.loads(request.body.read(_CONTROL_LIMIT) or b"")))
            except (FaultError, ValueError, TypeError) as error:
                raise unknown(400, str(error)) from None
        elif request.method == "DELETE":
            (faults if path == "/_faults" else journal).clear()
            return Reply(204)
        elif request.method != "GET":
            raise unsupported(f"{request.method} is not supported here", 405)
        found = faults.as_json() if path == "/_faults" else journal.as_json()
        return Reply(200, (("Content-Type", "application/json"),), json.dumps(found).encode())

    # Reading

    def _body(self, fault: Fault | None, record: Record) -> Body:
        coding = self.headers.get("Transfer-Encoding", "").strip().lower()
        lengths = set(self.headers.get_all("Content-Length", []))
        if coding not in ("", "chunked") or (coding and lengths) or len(lengths) > 1:
            raise BadFraming("a body with no length, or with two")
        text = lengths.pop().strip() if lengths else "0"
        if not (text.isascii() and text.isdigit()) or len(text) > 18:
            raise BadFraming("Content-Length is not a number")

        def on_block(size: int) -> None:
            record.bytes_in += size
            if fault and fault.do == "slow-upload":
                self._here.pause(size / fault.rate)

        stop = (fault.after, Cut("fault", fault.reset)) if fault and fault.do == "cut-upload" else None
        return Body(self.rfile, None if coding else int(text), self._say_continue, on_block, stop)

    def _say_continue(self) -> None:
        if self._continue:
            self._continue = False
            self.send_response_only(100)
            self.end_headers()

    def _drain(self, body: Body) -> None:
        if self._continue:
            # The client still waits for leave to send; it gets the answer instead, and may or may not send after that.
            self._continue = False
            self.close_connection = self.close_connection or not body.ended
        elif not body.drain(_DRAIN_LIMIT):
            self.close_connection = True

    def _kept_headers(self) -> dict[str, str]:
        kept = {key.lower(): self.headers[key] for key in KEPT if key in self.headers}
        if "Authorization" in self.headers:
            kept["authorization"] = self.headers["Authorization"].partition(" ")[0]
        return kept

    def _base(self) -> str:
        host = self.headers.get("Host") or self._here.authority
        return f"{self._here.scheme}://{host}"

    # Sending

    def _send(self, reply: Reply, fault: Fault | None, record: Record) -> None:
        bodiless = self.command == "HEAD" or reply.status in (204, 304)
        with _open(reply) as source:
            length = reply.length
            if fault and fault.do == "length":
                length = max(0, length + fault.delta)
                self.close_connection = True
            record.status = reply.status
            self.send_response(reply.status)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            for key, value in reply.headers:
                self.send_header(key, value)
            # RFC 9110, section 8.6: none with 204; 304 has no content either.
            if reply.status not in (204, 304):
                self.send_header("Content-Length", str(length))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if not bodiless:
                self._send_body(source, reply.length, fault, record)

    def _send_body(self, source: IO[bytes], length: int, fault: Fault | None, record: Record) -> None:
        do = fault.do if fault else ""
        size = max(1, min(BLOCK, int(fault.rate / _BEATS))) if fault and do == "slow" else BLOCK
        left = min(length, fault.after) if fault and do == "cut" else length
        flip = (length // 2 if fault.at is None else fault.at) if fault and do == "corrupt" else -1
        at = 0
        while left and (block := source.read(min(size, left))):
            if at <= flip < at + len(block):
                block = block[: flip - at] + bytes([block[flip - at] ^ 0xFF]) + block[flip - at + 1 :]
            if fault and do == "slow":
                self._here.pause(len(block) / fault.rate)
            record.bytes_out += len(block)
            try:
                self.wfile.write(block)
            except OSError:
                record.bytes_out -= len(block)
                raise
            at += len(block)
            left -= len(block)
        if fault and do == "cut":
            raise Cut("fault", fault.reset)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` refuses by itself, in the form of the spec."""
        self.close_connection = True
        self.command, self.request_version = self.command or "GET", "HTTP/1.1"
        self._send(_refusal(unknown(code, message or "bad request")), None, _unlogged())

    def _close(self, reset: bool) -> None:
        """Close the connection at once, by RST if asked for, else by FIN after what was written."""
        self.close_connection = True
        with suppress(OSError):
            if reset:
                # socket(7), SO_LINGER with a time of zero: close sends RST and drops what is not yet delivered.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())
            else:
                self.connection.shutdown(socket.SHUT_RDWR)


def _open(reply: Reply) -> IO[bytes]:
    """The body of a reply as a file, which stays readable even where the blob is deleted meanwhile."""
    if isinstance(reply.body, bytes):
        return io.BytesIO(reply.body)
    file = reply.body.path.open("rb")
    file.seek(reply.body.offset)
    return file


def _refusal(error: RegistryError) -> Reply:
    return Reply(error.status, (("Content-Type", "application/json"), *error.headers), error.body())


def _faulty(fault: Fault) -> Reply:
    headers = tuple((str(key), str(value)) for key, value in fault.headers.items())
    if fault.retry_after is not None:
        headers += (("Retry-After", fault.retry_after),)
    if fault.status < 400:
        return Reply(fault.status, headers)
    return _refusal(too_many_requests(headers) if fault.status == 429 else unknown(fault.status, "a fault that was asked for", headers))


def _unlogged() -> Record:
    return Record(0, "", "", "", None, {}, 0)
