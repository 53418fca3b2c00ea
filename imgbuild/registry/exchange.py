"""One repository at one place: sends requests with authentication, redirects and retries, and says clearly what failed.

A request is retried where the answer may be another next time: no connection, 408, 429, 5xx; as long as Retry-After asks for,
within limits. A redirect to another origin never carries credentials, and its 401 is never answered.
"""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from imgbuild.errors import RegistryError
from imgbuild.hints import Callable, Collection, Iterable, Mapping
from imgbuild.light import threading
from imgbuild.registry.auth import Authorizer, Scopes
from imgbuild.registry.credentials import Credential
from imgbuild.registry.endpoints import Endpoint
from imgbuild.registry.problems import Asked, UnreachableError, broken_protocol, status_error
from imgbuild.registry.redaction import shown_url
from imgbuild.registry.retry import RETRIED_STATUSES, Backoff, Clock, retry_after
from imgbuild.registry.transport import Reply, Stream, Transport
from imgbuild.values import dataclass

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5
_AUTH_ROUNDS = 2

Body = bytes | Callable[[], Stream | Iterable[bytes]] | None


@dataclass(frozen=True, slots=True)
class Retry:
    """A request that will be sent again after `delay` seconds."""

    host: str
    problem: str
    delay: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds for every exchange of a client: patience, the clock, and who is told of retries."""

    attempts: int
    longest_wait: float
    backoff: Backoff
    clock: Clock
    on_retry: Callable[[Retry], None]


class Place:
    """An endpoint and the scheme that it turned out to speak. Shared by all its repositories; thread-safe."""

    def __init__(self, endpoint: Endpoint, transport: Transport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self._lock = threading.Lock()
        self._base: str | None = endpoint.schemes[0] if len(endpoint.schemes) == 1 else None

    def base(self) -> str:
        """``scheme://host``; asks once where more than one scheme is possible."""
        with self._lock:
            if self._base is None:
                self._base = self._probe()
            return f"{self._base}://{self.endpoint.host}"

    def _probe(self) -> str:
        problem: UnreachableError | None = None
        for scheme in self.endpoint.schemes:
            try:
                reply = self.transport.send(self.endpoint, "GET", f"{scheme}://{self.endpoint.host}/v2/", {})
            except UnreachableError as error:
                # What the first scheme says is what matters where none answers.
                problem = problem or error
                continue
            reply.finish()
            # A TLS port answers plain HTTP with 400, or by sending elsewhere.
            if scheme == "https" or not (reply.status == 400 or 300 <= reply.status < 400):
                return scheme
            problem = problem or UnreachableError(f"{self.endpoint.host} answered {reply.status} to plain HTTP", retryable=False)
        assert problem is not None
        raise problem


class Exchange:
    """All requests of one repository (or, with "", of the registry as a whole) at one place. Thread-safe."""

    def __init__(self, place: Place, login: str, find: Callable[[], Credential | None], conditions: Conditions) -> None:
        self.host = place.endpoint.host
        self.login = login
        self._place = place
        self._find = find
        self._conditions = conditions
        self._lock = threading.Lock()
        self._authorizer: Authorizer | None = None

    def asked(self, what: str) -> Asked:
        """`what` of this place, for an error."""
        return Asked(what, self.host, self.login)

    def request(
        self,
        what: str,
        method: str,
        target: str,
        *,
        ok: Collection[int],
        scopes: Scopes = (),
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        attempts: int | None = None,
    ) -> Reply:
        """The answer, its status one of `ok`. `target` is a path or a URL that this registry gave; `what` is for errors."""
        allowed = max(1, attempts or self._conditions.attempts)
        for attempt in range(1, allowed + 1):
            wait: float | None = None
            try:
                reply = self._authorized(what, method, target, scopes, headers or {}, body)
            except UnreachableError as error:
                if attempt == allowed or not error.retryable:
                    raise
                problem = error.message
            else:
                if reply.status in ok:
                    return reply
                asked_wait = retry_after(reply.header("Retry-After"), self._conditions.clock.now())
                failure = self._failure(what, method, reply)
                too_long = asked_wait is not None and asked_wait > self._conditions.longest_wait
                if reply.status not in RETRIED_STATUSES or attempt == allowed or too_long:
                    raise failure
                problem, wait = f"{self.host} answered {reply.status}", asked_wait
            self._pause(attempt, problem, wait)
        raise AssertionError("unreachable")

    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return self._authorizer.secrets() if self._authorizer is not None else ()

    def pause(self, failures: int, problem: str) -> None:
        """Wait before going on with a transfer that was cut."""
        self._pause(failures, problem, None)

    def resolve(self, location: str, against: str) -> str:
        """A Location header as a URL; a place reached over TLS is not left for plain HTTP on the same host."""
        url = urljoin(against, location)
        parts, base = urlsplit(url), urlsplit(self._place.base())
        if parts.scheme == "http" and base.scheme == "https" and parts.hostname == base.hostname:
            url = parts._replace(scheme="https", netloc=base.netloc).geturl()
        return url

    def _authorized(self, what: str, method: str, target: str, scopes: Scopes, headers: Mapping[str, str], body: Body) -> Reply:
        authorizer = self._authorization()
        for _ in range(_AUTH_ROUNDS + 1):
            sent = authorizer.headers(scopes)
            reply, own = self._redirected(what, method, target, headers, sent, body)
            if reply.status != 401 or not own:
                return reply
            reply.finish()
            authorizer.learn(reply.header("WWW-Authenticate"), scopes, sent)
        raise authorizer.refused()

    def _redirected(
        self, what: str, method: str, target: str, headers: Mapping[str, str], authorization: Mapping[str, str], body: Body
    ) -> tuple[Reply, bool]:
        """The answer after redirects, and whether it is the place's own."""
        base = self._place.base()
        url = urljoin(base, target)
        for _ in range(_MAX_REDIRECTS + 1):
            own = _origin(url) == _origin(base)
            data = body() if callable(body) else body
            reply = self._place.transport.send(self._place.endpoint, method, url, {**headers, **(authorization if own else {})}, data)
            location = reply.header("Location")
            if reply.status not in _REDIRECTS or not location or (method not in ("GET", "HEAD") and reply.status not in (307, 308)):
                return reply, own
            reply.finish()
            url = self._next_hop(what, url, location)
        raise broken_protocol(self.asked(what), f"more than {_MAX_REDIRECTS} redirects")

    def _next_hop(self, what: str, url: str, location: str) -> str:
        following = self.resolve(location, url)
        old, new = urlsplit(url), urlsplit(following)
        if new.scheme not in ("http", "https") or not new.hostname:
            raise broken_protocol(self.asked(what), f"a redirect to {shown_url(following)[:200]}")
        if old.scheme == "https" and new.scheme == "http":
            raise broken_protocol(self.asked(what), f"a redirect from HTTPS to plain HTTP at {new.netloc}")
        return following

    def _authorization(self) -> Authorizer:
        # Made late: whether the place is reached over TLS is known only after it was asked.
        secure = self._place.base().startswith("https:")
        with self._lock:
            if self._authorizer is None:
                self._authorizer = Authorizer(
                    self.host,
                    self.login,
                    secure=secure,
                    credential=self._find,
                    ask=self._ask_token,
                    monotonic=self._conditions.clock.monotonic,
                )
            return self._authorizer

    def _ask_token(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]:
        endpoint, allowed = self._place.endpoint, self._conditions.attempts
        for attempt in range(1, allowed + 1):
            wait = None
            try:
                with self._place.transport.send(endpoint, method, url, headers, body) as reply:
                    if reply.status not in RETRIED_STATUSES or attempt == allowed:
                        return reply.status, reply.body(1 << 20)
                    problem = f"the token server of {self.host} answered {reply.status}"
                    wait = retry_after(reply.header("Retry-After"), self._conditions.clock.now())
                    if wait is not None and wait > self._conditions.longest_wait:
                        return reply.status, reply.body()
            except UnreachableError as error:
                if attempt == allowed or not error.retryable:
                    raise
                problem = error.message
            self._pause(attempt, problem, wait)
        raise AssertionError("unreachable")

    def _failure(self, what: str, method: str, reply: Reply) -> RegistryError:
        with reply:
            try:
                body = reply.body()
            except UnreachableError:
                body = b""
            return status_error(self.asked(what), method, reply.url, reply.status, body, self.secrets())

    def _pause(self, failures: int, problem: str, wait: float | None) -> None:
        clock = self._conditions.clock
        delay = wait if wait is not None else self._conditions.backoff.delay(failures, clock.jitter())
        self._conditions.on_retry(Retry(self.host, problem, delay, failures + 1))
        clock.sleep(delay)


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
