"""Authentication to one repository at one place: Basic (RFC 7617) and Bearer with docker's token protocols.

The only module that writes an Authorization header. A challenge is learned from a 401 and then answered in advance. Tokens
are cached by their scopes until shortly before they expire. Sources: distribution's docs, spec/auth/{token,oauth,scope}.md.
"""

from __future__ import annotations

import base64
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from imgbuild.errors import AuthError, RegistryError
from imgbuild.hints import Callable, Iterable, Mapping
from imgbuild.light import json, threading
from imgbuild.registry.challenge import Challenge, parse_challenges
from imgbuild.registry.credentials import Credential
from imgbuild.registry.endpoints import is_loopback
from imgbuild.registry.problems import registry_words
from imgbuild.registry.redaction import redacted, shown_url
from imgbuild.values import dataclass, field

_CLIENT_ID = "imgbuild"
_DEFAULT_LIFE = 60.0
_MARGIN = 10.0
_MAX_TOKEN = 1 << 20

Scopes = tuple[str, ...]


def repository_scope(repository: str, *actions: str) -> str:
    """The scope of actions (pull, push, delete) on a repository."""
    return f"repository:{repository}:{','.join(actions)}"


class Ask(Protocol):
    """Sends one request to a token server, with retries, without authentication by itself: status and body."""

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> tuple[int, bytes]: ...


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    expires: float


class Authorizer:
    """Answers a place's challenges with one credential, looked up when first needed. Thread-safe."""

    def __init__(
        self, host: str, login: str, *, secure: bool, credential: Callable[[], Credential | None], ask: Ask, monotonic: Callable[[], float]
    ) -> None:
        self._host = host
        self._login = login
        self._secure = secure
        self._find = credential
        self._ask = ask
        self._monotonic = monotonic
        self._lock = threading.RLock()
        self._challenge: Challenge | None = None
        self._found: tuple[Credential | None, AuthError | None] | None = None
        self._tokens: dict[Scopes, _Token] = {}
        self._secrets: set[str] = set()

    def secrets(self) -> tuple[str, ...]:
        """All that must not be shown of what was used so far."""
        with self._lock:
            return tuple(self._secrets)

    def headers(self, scopes: Scopes) -> dict[str, str]:
        """The headers for a request that needs these scopes; none as long as nothing was asked for."""
        with self._lock:
            if self._challenge is None:
                return {}
            if self._challenge.scheme == "basic":
                credential = self._credential()
                return {"Authorization": _basic(credential)} if credential is not None else {}
            return {"Authorization": f"Bearer {self._token(scopes)}"}

    def learn(self, header: str, scopes: Scopes, sent: Mapping[str, str]) -> None:
        """Take a 401's challenge, so that `headers` answers it; AuthError where another try can't help.

        `sent` is what `headers` gave for the refused request.
        """
        with self._lock:
            challenge = _usable(parse_challenges(header))
            if challenge is None:
                raise AuthError(f"{self._host} asks for a kind of login that is not known here", detail=redacted(header[:200]))
            first = self._challenge is None or self._challenge.scheme != challenge.scheme
            self._challenge = challenge
            if challenge.scheme == "basic":
                if self._credential() is None:
                    raise self._refused(f"{self._host} wants a login")
                if not first and sent:
                    raise self._refused(f"{self._host} refused the login that is kept for it")
                return
            value = sent.get("Authorization", "").removeprefix("Bearer ")
            for key in [key for key, token in self._tokens.items() if token.value == value]:
                del self._tokens[key]

    def refused(self) -> AuthError:
        """The error for a 401 that remains."""
        with self._lock:
            credential = self._credential()
            if credential is None:
                return self._refused(f"{self._host} says: no such image, or it needs a login")
            return self._refused(f"{self._host} refused the login that is kept for it, or it may not do this")

    def _refused(self, message: str) -> AuthError:
        problem = self._found[1] if self._found is not None else None
        detail = None if problem is None else "\n".join(filter(None, (problem.message, problem.detail)))
        return AuthError(message, hint=f"`imgbuild login {self._login}`", detail=detail)

    def _credential(self) -> Credential | None:
        if self._found is None:
            try:
                self._found = (self._find(), None)
            except AuthError as error:
                # A broken helper does not matter to who reads what is public; it is told where a login is missing.
                self._found = (None, error)
            if self._found[0] is not None:
                self._secrets.update(self._found[0].secrets())
        return self._found[0]

    def _token(self, scopes: Scopes) -> str:
        assert self._challenge is not None
        # A proxy may know the repository by another name and say so in its challenge.
        things = {scope.rpartition(":")[0] for scope in scopes}
        asked = (scope for scope in self._challenge.get("scope").split() if scope.rpartition(":")[0] not in things)
        wanted = tuple(sorted({*scopes, *asked}))
        known = self._tokens.get(wanted)
        if known is not None and known.expires > self._monotonic():
            return known.value
        started = self._monotonic()
        answer = self._fetch(wanted)
        value = answer.get("token") or answer.get("access_token")
        if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
            raise AuthError(f"the token server of {self._host} gave no token")
        life = answer.get("expires_in")
        seconds = float(life) if isinstance(life, int | float) and not isinstance(life, bool) and life > 0 else _DEFAULT_LIFE
        self._secrets.add(value)
        self._tokens[wanted] = _Token(value, started + max(seconds - _MARGIN, seconds / 2))
        return value

    def _fetch(self, scopes: Scopes) -> dict[str, Any]:
        assert self._challenge is not None
        realm = self._realm(self._challenge.get("realm"))
        service = self._challenge.get("service")
        credential = self._credential()
        if credential is not None and credential.identity_token:
            return self._fetch_oauth(realm, service, scopes, credential)
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        if credential is not None:
            query.append(("account", credential.username))
        url = realm + ("&" if urlsplit(realm).query else "?") + urlencode(query)
        headers = {"Authorization": _basic(credential)} if credential is not None else {}
        status, body = self._ask("GET", url, headers, None)
        return self._answer(status, body, realm)

    def _fetch_oauth(self, realm: str, service: str, scopes: Scopes, credential: Credential) -> dict[str, Any]:
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": _CLIENT_ID,
            "scope": " ".join(scopes),
            "refresh_token": credential.identity_token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, body = self._ask("POST", realm, headers, urlencode({key: value for key, value in form.items() if value}).encode())
        return self._answer(status, body, realm)

    def _answer(self, status: int, body: bytes, realm: str) -> dict[str, Any]:
        said = ": ".join(filter(None, registry_words(body)))
        said = redacted(f" ({said})", self._secrets) if said else ""
        if status in (400, 401, 403):
            if self._credential() is None:
                raise self._refused(f"{self._host} wants a login: its token server answered {status}{said}")
            raise self._refused(f"{self._host} refused the login that is kept for it: its token server answered {status}{said}")
        if status != 200:
            raise RegistryError(f"the token server of {self._host} answered {status}{said}", detail=f"at {shown_url(realm)}")
        try:
            answer = json.loads(body) if len(body) <= _MAX_TOKEN else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise RegistryError(f"the token server of {self._host} gave an answer that can't be read", detail=f"at {shown_url(realm)}")
        return answer

    def _realm(self, realm: str) -> str:
        """Where tokens come from. A registry reached over TLS can't send our password over plain HTTP to elsewhere."""
        parts = urlsplit(realm)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise AuthError(f"{self._host} names no usable token server", detail=shown_url(realm)[:200])
        if self._secure and parts.scheme == "http" and not is_loopback(parts.netloc):
            hint = "this is refused; ask who runs the registry"
            raise AuthError(f"{self._host} wants the login to be sent unencrypted to {parts.netloc}", hint=hint)
        return realm


def _usable(challenges: Iterable[Challenge]) -> Challenge | None:
    """The challenge that we answer: Bearer before Basic."""
    known = {challenge.scheme: challenge for challenge in reversed(tuple(challenges))}
    return known.get("bearer") or known.get("basic")


def authorization(value: str) -> dict[str, str]:
    """The header for a value that was given as it is."""
    return {"Authorization": value}


def authorization_line(value: str) -> str:
    """The same as a line of text."""
    return f"Authorization: {value}"


def basic(username: str, password: str) -> str:
    """The value for a user's name and password."""
    return _basic(Credential(username, password))


def _basic(credential: Credential) -> str:
    return "Basic " + base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
