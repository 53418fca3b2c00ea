"""Who may do what: Basic credentials, or Bearer tokens from the endpoint `/token`. Decides; sends nothing.

RFC 7617, RFC 6750 section 3, and the token protocol of https://distribution.github.io/distribution/spec/auth/ (token.md,
oauth.md, scope.md). 401 says "come again with this", 403 says "you, no": a token that lacks a right nobody asked for is
answered with 401 and `insufficient_scope`, and one for which a user asked the right and was not given it with 403 DENIED.
"""

import base64
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from errors import RegistryError, denied, unauthorized, unsupported
from routes import CATALOG, DELETE, PULL, PUSH, Route

_ALL = frozenset({PULL, PUSH, DELETE, CATALOG})
_READ = frozenset({PULL})


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is known, and how they say who they are."""

    scheme: str = "none"
    users: tuple[tuple[str, str], ...] = ()
    readers: tuple[tuple[str, str], ...] = ()
    anonymous_pull: bool = False
    service: str = "registry-mock"
    token_seconds: int = 300


@dataclass(frozen=True, slots=True)
class Scope:
    """`repository:<name>:<action>,...`: rights on one thing."""

    kind: str
    name: str
    actions: frozenset[str]

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(sorted(self.actions))}"


@dataclass(frozen=True, slots=True)
class Grant:
    """What one request may do; `scopes` None for everything that `rights` allows anywhere."""

    user: str | None
    rights: frozenset[str]
    scopes: tuple[Scope, ...] | None = None

    def may(self, right: str, kind: str, name: str) -> bool:
        """Whether the right is held on this thing."""
        if self.scopes is None:
            return right in self.rights
        return any(scope.kind == kind and scope.name == name and right in scope.actions for scope in self.scopes)


class Access:
    """The policy, and the key with which this process signs its tokens."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._key = secrets.token_bytes(32)

    def admit(self, route: Route, authorization: str | None, base: str) -> Grant:
        """The grant of a request to the registry, or 401 or 403; `base` is the URL under which we are reached."""
        if self._policy.scheme == "none":
            return Grant(None, _ALL)
        if self._policy.scheme == "basic":
            return self._admit_basic(route, authorization)
        return self._admit_bearer(route, authorization, base)

    def token(self, parameters: Mapping[str, list[str]], authorization: str | None) -> dict[str, object]:
        """GET /token (token.md): Basic credentials or nobody."""
        user = None
        if authorization is not None:
            user = self._basic_user(authorization)
            if user is None:
                raise self._bad_credentials()
        offline = parameters.get("offline_token") == ["true"]
        return self._issue(user, parameters, offline)

    def oauth(self, form: Mapping[str, list[str]]) -> dict[str, object]:
        """POST /token (oauth.md): a password or a refresh token in the form."""
        kind = _one(form, "grant_type")
        if kind == "password":
            user = self._check(_one(form, "username"), _one(form, "password"))
        elif kind == "refresh_token":
            claims = self._open(_one(form, "refresh_token"))
            user = str(claims["sub"]) if claims and claims.get("use") == "refresh" else None
        else:
            raise unsupported(f"unsupported grant_type {kind!r}")
        if user is None:
            raise self._bad_credentials()
        return self._issue(user, form, _one(form, "access_type") == "offline" or kind == "refresh_token")

    # Requests to the registry

    def _admit_basic(self, route: Route, authorization: str | None) -> Grant:
        if authorization is None and self._policy.anonymous_pull and route.right == PULL:
            return Grant(None, _READ)
        user = self._basic_user(authorization) if authorization is not None else None
        if user is None:
            raise self._bad_credentials()
        grant = Grant(user, self._rights(user))
        if route.right and not grant.may(route.right, "", ""):
            raise denied(f"{user} may not {route.right}")
        return grant

    def _admit_bearer(self, route: Route, authorization: str | None, base: str) -> Grant:
        needed = _needed(route)
        scheme, _, value = (authorization or "").partition(" ")
        if scheme.lower() != "bearer":
            raise self._challenge(base, needed, "")
        claims = self._open(value.strip())
        if claims is None or claims.get("use") != "access":
            raise self._challenge(base, needed, "invalid_token")
        user = str(claims["sub"]) if claims["sub"] is not None else None
        grant = Grant(user, frozenset(), _scopes(claims["granted"]))
        if needed is None or grant.may(route.right, needed.kind, needed.name):
            return grant
        asked = Grant(user, frozenset(), _scopes(claims["asked"]))
        if user is not None and asked.may(route.right, needed.kind, needed.name):
            raise denied(f"{user} may not {route.right} {needed.name}")
        raise self._challenge(base, needed, "insufficient_scope")

    def _challenge(self, base: str, needed: Scope | None, error: str) -> RegistryError:
        parts = [f'realm="{base}/token"', f'service="{self._policy.service}"']
        if needed is not None:
            parts.append(f'scope="{needed}"')
        if error:
            parts.append(f'error="{error}"')
        return unauthorized("authentication required", "Bearer " + ",".join(parts))

    # Users

    def _check(self, name: str, password: str) -> str | None:
        for user, expected in (*self._policy.users, *self._policy.readers):
            if hmac.compare_digest(f"{name}:{password}".encode(), f"{user}:{expected}".encode()):
                return user
        return None

    def _basic_user(self, authorization: str) -> str | None:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except ValueError:
            return None
        return self._check(name, password)

    def _rights(self, user: str | None) -> frozenset[str]:
        if user is None:
            return _READ if self._policy.anonymous_pull else frozenset()
        return _ALL if user in dict(self._policy.users) else _READ

    def _bad_credentials(self) -> RegistryError:
        return unauthorized("incorrect username or password", f'Basic realm="{self._policy.service}"')

    # Tokens

    def _issue(self, user: str | None, parameters: Mapping[str, list[str]], refresh: bool) -> dict[str, object]:
        service = _one(parameters, "service")
        if service and service != self._policy.service:
            raise unsupported(f"unknown service {service!r}")
        if user is None and not self._policy.anonymous_pull:
            raise self._bad_credentials()
        # A scope parameter may be given several times, and one of them may hold several scopes with blanks between.
        asked = [scope for text in parameters.get("scope", []) for scope in _scopes(text.split())]
        rights = self._rights(user)
        granted = [Scope(scope.kind, scope.name, scope.actions & rights) for scope in asked]
        now = time.time()
        claims = {"use": "access", "sub": user, "asked": [str(s) for s in asked], "granted": [str(s) for s in granted if s.actions]}
        token = self._sign({**claims, "exp": now + self._policy.token_seconds})
        found: dict[str, object] = {
            "token": token,
            "access_token": token,
            "expires_in": self._policy.token_seconds,
            "issued_at": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "scope": " ".join(str(scope) for scope in granted if scope.actions),
        }
        if refresh and user is not None:
            found["refresh_token"] = self._sign({"use": "refresh", "sub": user, "nonce": secrets.token_hex(8)})
        return found

    def _sign(self, claims: Mapping[str, object]) -> str:
        body = _encode(json.dumps(claims).encode())
        return f"{body}.{_encode(hmac.digest(self._key, body.encode(), 'sha256'))}"

    def _open(self, token: str) -> dict[str, object] | None:
        """The claims of a token that we signed and that has not expired."""
        body, _, signature = token.partition(".")
        expected = _encode(hmac.digest(self._key, body.encode(), "sha256"))
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            return None
        claims: dict[str, object] = json.loads(base64.urlsafe_b64decode(body))
        expires = claims.get("exp")
        return None if isinstance(expires, float) and expires <= time.time() else claims


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode()


def _one(parameters: Mapping[str, list[str]], key: str) -> str:
    return parameters.get(key, [""])[0]


def _scopes(texts: object) -> tuple[Scope, ...]:
    found = []
    for text in texts if isinstance(texts, Iterable) else ():
        kind, _, rest = str(text).partition(":")
        name, _, actions = rest.rpartition(":")
        if kind and name:
            found.append(Scope(kind, name, frozenset(action for action in actions.split(",") if action)))
    return tuple(found)


def _needed(route: Route) -> Scope | None:
    """The scope to ask for; whoever pushes reads as well."""
    if route.kind == "catalog":
        return Scope("registry", "catalog", frozenset({CATALOG}))
    if not route.right:
        return None
    return Scope("repository", route.name, frozenset({PULL, PUSH} if route.right == PUSH else {route.right}))
