"""Files over HTTP, kept as blobs. What a server said of a file (its ETag, its time) is remembered by the URL.

What is kept is read and compared before it is used: what its digest is need not be asked again. The file's time is what Last-Modified
says, else the epoch. Source: BuildKit's source/http.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

from imgbuild.errors import CorruptError, NotFoundError
from imgbuild.fetch import FetchError
from imgbuild.graph.ops import RemoteSource
from imgbuild.hints import Callable
from imgbuild.light import json
from imgbuild.light.contextlib import suppress
from imgbuild.oci.digest import Digest
from imgbuild.registry.auth import authorization
from imgbuild.registry.endpoints import Endpoint, RegistrySettings
from imgbuild.registry.problems import UnreachableError
from imgbuild.registry.redaction import shown_url
from imgbuild.registry.retry import RETRIED_STATUSES, Backoff, Clock
from imgbuild.registry.transport import Reply, Transport
from imgbuild.store.store import Store
from imgbuild.values import dataclass

_CHUNK = 1 << 20
_MOST_BYTES = 64 << 30
_MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

Connect = Callable[[], tuple[Transport, RegistrySettings]]
"""Opens the network, when it is really needed."""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that is in the store: its name, its blob, and its time in seconds since 1970."""

    name: str
    digest: Digest
    size: int
    mtime: int


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is remembered of a URL."""

    digest: Digest
    size: int
    mtime: int
    etag: str


@dataclass(frozen=True, slots=True)
class HttpFetcher:
    """`connect` None is offline: the network is never touched. `login` gives what authorizes at a host, or ""."""

    store: Store
    connect: Connect | None
    login: Callable[[str], str]
    on_fetch: Callable[[str], None]
    clock: Clock = Clock()

    def fetch(self, source: RemoteSource) -> FetchedFile:
        """The file of a source of the kind "http"; FetchError, or NotFoundError where it is not here and this is offline."""
        kept = self._kept(source.url)
        if kept is not None and source.checksum and kept.digest != source.checksum:
            kept = None
        if kept is not None and (source.checksum or self.connect is None):
            return self._used(source, kept)
        if self.connect is None:
            hint = "build once without --offline and --pull=never"
            raise NotFoundError(f"{shown_url(source.url)} is not in the store, and this is offline", hint=hint)
        self.on_fetch(shown_url(source.url))
        with self.store.lock(f"http {source.url}"):
            return self._used(source, self._asked(source, self.connect, kept))

    def _used(self, source: RemoteSource, kept: _Kept) -> FetchedFile:
        # Written each time: what is used stays.
        facts = {"digest": kept.digest, "size": kept.size, "mtime": kept.mtime, "etag": kept.etag}
        self.store.index.record_download(source.url, json.dumps(facts))
        return FetchedFile(source.name, kept.digest, kept.size, kept.mtime)

    def _kept(self, url: str) -> _Kept | None:
        text = self.store.index.download(url)
        if text is None:
            return None
        kept = _Kept(**json.loads(text))
        if not self.store.blobs.has(kept.digest, kept.size):
            return None
        try:
            self.store.blobs.verify(kept.digest)
        except CorruptError:
            self.store.blobs.remove(kept.digest)  # one of that size would stay where it is
            return None
        return kept

    def _asked(self, source: RemoteSource, connect: Connect, kept: _Kept | None) -> _Kept:
        """Ask the server, again where it is worth trying."""
        transport, settings = connect()
        backoff = Backoff()
        failures = 0
        while True:
            try:
                with self._reply(transport, settings, source.url, kept.etag if kept is not None else "") as reply:
                    if reply.status == 304 and kept is not None:
                        return kept
                    if reply.status == 200:
                        return self._downloaded(source, reply)
                    words = f"the server answered {reply.status}"
                    problem = FetchError(f"can't fetch {shown_url(source.url)}: {words}", hint=_hint(reply.status))
                    again = reply.status in RETRIED_STATUSES
            except UnreachableError as error:
                problem = FetchError(f"can't fetch {shown_url(source.url)}: {_words(error)}", hint=_UNREACHABLE, detail=error.detail)
                again = error.retryable
            failures += 1
            if not again or failures >= settings.attempts:
                raise problem
            self.clock.sleep(backoff.delay(failures, self.clock.jitter()))

    def _reply(self, transport: Transport, settings: RegistrySettings, url: str, etag: str) -> Reply:
        """The answer at the end of all redirects. What was asked for over TLS shows no login where a redirect leaves that."""
        secure = urlsplit(url).scheme == "https"
        for _ in range(_MOST_REDIRECTS + 1):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise FetchError(f"can't fetch {shown_url(url)}: a redirect leads to what is no HTTP URL")
            rule = settings.rule(parts.netloc.rpartition("@")[2])
            endpoint = Endpoint(parts.netloc, (parts.scheme,), verify=rule.verify_tls, ca_file=rule.ca_file or settings.ca_file)
            login = self.login(parts.hostname) if parts.scheme == "https" or not secure else ""
            headers = ({"If-None-Match": etag} if etag else {}) | (authorization(login) if login else {})
            reply = transport.send(endpoint, "GET", url, headers)
            target = reply.header("Location")
            if reply.status not in _REDIRECTS or not target:
                return reply
            reply.finish()
            url = urljoin(url, target)
        raise FetchError(f"can't fetch {shown_url(url)}: more than {_MOST_REDIRECTS} redirects")

    def _downloaded(self, source: RemoteSource, reply: Reply) -> _Kept:
        shown = shown_url(source.url)
        if (reply.length or 0) > _MOST_BYTES:
            raise FetchError(f"{shown} has {reply.length} bytes, more than the {_MOST_BYTES >> 30} GiB that are fetched of any file")
        with self.store.blobs.writer() as writer:
            while data := reply.read(_CHUNK):
                writer.write(data)
                if writer.size > _MOST_BYTES:
                    raise FetchError(f"{shown} has more than the {_MOST_BYTES >> 30} GiB that are fetched of any file")
            if reply.length is not None and writer.size != reply.length:
                raise UnreachableError(f"the answer ended after {writer.size} of {reply.length} bytes")
            if source.checksum and writer.digest != source.checksum:
                raise FetchError(
                    f"{shown} is not what its checksum says",
                    hint="if the file was meant to change, change the checksum",
                    detail=f"fetched:  {writer.digest}\nexpected: {source.checksum}",
                )
            digest, size = writer.commit(), writer.size
        return _Kept(digest, size, _time(reply.header("Last-Modified")), reply.header("ETag"))


_UNREACHABLE = "check the URL and the network; proxies come from the settings or from HTTP_PROXY and HTTPS_PROXY"


def _words(error: UnreachableError) -> str:
    return error.message.replace("no registry answers", "no server answers")


def _hint(status: int) -> str | None:
    if status in (401, 403):
        return "a token is given with --secret id=HTTP_AUTH_TOKEN_<host>,src=FILE"
    return "check the URL" if status in (404, 410) else None


def _time(header: str) -> int:
    """Last-Modified in seconds since 1970; 0 where it says nothing readable."""
    with suppress(TypeError, ValueError, OverflowError):
        return max(0, int(parsedate_to_datetime(header).timestamp()))
    return 0
