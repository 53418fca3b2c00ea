"""The one door to `requests`: sends single requests over one pooled session, without redirects, retries or authentication.

The library is imported when the first request is sent, so that a build that needs no network never loads it. The process's
environment and ``~/.netrc`` are not looked at: proxies and certificates come from the settings.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

from imgbuild.hints import Iterable, Iterator, Mapping, TracebackType
from imgbuild.light import threading
from imgbuild.light.pathlib import Path
from imgbuild.registry.endpoints import Endpoint, RegistrySettings, is_loopback
from imgbuild.registry.problems import UnreachableError

if TYPE_CHECKING:
    import requests

# Debian's bundle holds what the machine's owner trusts; certifi, the library's default, does not.
_SYSTEM_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_BODY_LIMIT = 64 << 10


class Stream(Protocol):
    """A request's body of a known length, sent block by block."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[bytes]: ...


class Reply:
    """An answer whose body is read by its caller. A context manager: leaving it gives the connection back."""

    def __init__(self, response: requests.Response, url: str) -> None:
        self._response = response
        self.url = url
        self.status = response.status_code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._response.close()

    def header(self, name: str) -> str:
        """A header, or "" where it is missing."""
        return str(self._response.headers.get(name, ""))

    @property
    def length(self) -> int | None:
        """What Content-Length says."""
        text = self.header("Content-Length").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of the body, b"" at its end; UnreachableError where the connection breaks."""
        from urllib3.exceptions import HTTPError

        try:
            return bytes(self._response.raw.read(size, decode_content=False))
        except (HTTPError, OSError, ValueError) as error:
            raise UnreachableError(f"the connection to {urlsplit(self.url).netloc} broke", detail=_reason(error)) from None

    def body(self, limit: int = _BODY_LIMIT) -> bytes:
        """The whole body, but at most `limit` + 1 bytes of it."""
        parts: list[bytes] = []
        left = limit + 1
        while left and (part := self.read(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def finish(self) -> None:
        """Read what little is left, so that the connection can be used again, and give it back."""
        with self:
            self.body()


class Transport:
    """One session for all registries. Thread-safe; a context manager."""

    def __init__(self, settings: RegistrySettings, user_agent: str) -> None:
        self._settings = settings
        self._user_agent = user_agent
        self._lock = threading.Lock()
        self._session: requests.Session | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            if self._session is not None:
                self._session.close()
            self._session = None

    def send(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Stream | Iterable[bytes] | None = None,
    ) -> Reply:
        """One request, one answer, whatever its status; UnreachableError where there is none. A body without a length is sent chunked."""
        from requests.exceptions import RequestException
        from urllib3.exceptions import HTTPError

        # Identity, because digests and ranges are over the bytes as they are stored.
        sent = {"User-Agent": self._user_agent, "Accept": "*/*", "Accept-Encoding": "identity", **headers}
        data: Any = body
        try:
            response = self._opened().request(
                method,
                url,
                headers=sent,
                data=data,
                stream=True,
                allow_redirects=False,
                timeout=(self._settings.connect_timeout, self._settings.read_timeout),
                verify=_certificates(endpoint) if url.startswith("https:") else True,
                proxies=self._proxies(url),
            )
        except (RequestException, HTTPError, OSError, ValueError) as error:
            raise _unreachable(error, url) from None
        return Reply(response, url)

    def _opened(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                self._session = _open_session(self._settings.parallel + 4)
            return self._session

    def _proxies(self, url: str) -> dict[str, str]:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        proxies = self._settings.proxies
        proxy = proxies.https if parts.scheme == "https" else proxies.http
        bypassed = is_loopback(parts.netloc) or any(_bypasses(entry.lower(), host) for entry in proxies.bypass)
        return {parts.scheme: proxy} if proxy and not bypassed else {}


def _open_session(connections: int) -> requests.Session:
    import requests
    import urllib3
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.trust_env = False
    # Once is enough to say that certificates are not checked: where it is set.
    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=16, pool_maxsize=connections, max_retries=0))
    # A registry's cookies are of no use, and one jar would be shared by all hosts and threads.
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return session


def _bypasses(entry: str, host: str) -> bool:
    if entry == "*":
        return True
    name = entry.removeprefix("*").partition(":")[0]
    return host == name.removeprefix(".") or host.endswith(name if name.startswith(".") else f".{name}")


def _certificates(endpoint: Endpoint) -> bool | str:
    if not endpoint.verify:
        return False
    if endpoint.ca_file is not None:
        return str(endpoint.ca_file)
    return next((path for path in _SYSTEM_CERTIFICATES if Path(path).is_file()), True)


def _unreachable(error: Exception, url: str) -> UnreachableError:
    """The error for a request without an answer. The library's own words are not shown: they hold the whole URL."""
    parts = urlsplit(url)
    host, cause = parts.netloc.rpartition("@")[2], _root(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        own = "if it is one of your own, set `ca` for this registry in the settings"
        return UnreachableError(f"the certificate of {host} is not valid: {cause.verify_message}", retryable=False, hint=own)
    if isinstance(cause, ssl.SSLError):
        plain = any(word in str(cause.reason) for word in ("WRONG_VERSION_NUMBER", "RECORD_LAYER", "HTTP_REQUEST"))
        plain_hint = "it seems to speak plain HTTP; if that is meant, set `plain-http` for this registry in the settings"
        hint = plain_hint if plain else None
        return UnreachableError(f"no TLS connection to {host}", retryable=False, hint=hint, detail=str(cause.reason or "") or None)
    if isinstance(cause, socket.gaierror):
        return UnreachableError(f"the host name {host} is not known", hint="check the name, the network and its DNS", detail=cause.strerror)
    if isinstance(cause, FileNotFoundError) or "CA certificate" in str(cause):
        return UnreachableError(f"the certificates set for {host} can't be read", retryable=False, hint="check `ca` in the settings")
    if isinstance(cause, ConnectionRefusedError):
        return UnreachableError(f"no registry answers at {host}", hint="is it running, and is the port right?", detail="connection refused")
    return UnreachableError(f"no answer from {host}", hint="is the registry up, and is a proxy needed?", detail=_reason(error))


def _reason(error: BaseException) -> str:
    cause = _root(error)
    if isinstance(cause, OSError) and cause.errno:
        return errno.errorcode.get(cause.errno, "") + ": " + os.strerror(cause.errno)
    name = type(cause).__name__
    words = {"IncompleteRead": "the answer ended too early", "RemoteDisconnected": "the connection was closed without an answer"}
    return "timed out" if "Timeout" in name or isinstance(cause, TimeoutError) else words.get(name, name)


def _root(error: BaseException) -> BaseException:
    """What the libraries wrapped: they hide it in `reason`, in `args`, or in the context."""
    seen: set[int] = set()
    current = error
    while id(current) not in seen:
        seen.add(id(current))
        inner = [getattr(current, "reason", None), *current.args, current.__cause__, current.__context__]
        below = next((item for item in inner if isinstance(item, BaseException) and id(item) not in seen), None)
        if below is None:
            return current
        current = below
    return current
