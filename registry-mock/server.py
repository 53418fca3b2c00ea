"""The listening socket: a thread for each connection, no more than so many at once, and an end when told.

Threads are daemons, and whoever waits in one waits on the stop event, so that stopping never takes longer than a
request's next step.
"""

import socket
import ssl
import threading
from http.server import ThreadingHTTPServer

from exchange import Exchange
from faults import Faults
from journal import Journal
from messages import Cut
from registry import Registry

_CONNECTIONS = 512


class Server(ThreadingHTTPServer):
    """One registry on one address."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], registry: Registry, faults: Faults, tls: ssl.SSLContext | None) -> None:
        self.registry = registry
        self.faults = faults
        self.journal = Journal()
        self.scheme = "https" if tls else "http"
        self._tls = tls
        self._slots = threading.BoundedSemaphore(_CONNECTIONS)
        self._stopping = threading.Event()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Exchange)

    @property
    def authority(self) -> str:
        """`host:port` as in a URL."""
        host, port = str(self.server_address[0]), int(self.server_address[1])
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def pause(self, seconds: float) -> None:
        """Wait so long, but not beyond the end of the server."""
        if self._stopping.wait(seconds):
            raise Cut("the server stops")

    def stop(self) -> None:
        """End `serve_forever` and all pauses. Not to be called from the thread that serves."""
        self._stopping.set()
        self.shutdown()

    def server_bind(self) -> None:
        """Bind without the look-up of a host name, which `http.server` does and which may hang without a network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept; the TLS handshake is left to the connection's own thread, so that a slow client holds up nobody."""
        connection, address = super().get_request()
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        while not self._slots.acquire(timeout=0.2):
            if self._stopping.is_set():
                self.shutdown_request(request)
                return
        super().process_request(request, client_address)

    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()
