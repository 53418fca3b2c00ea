"""A client of registries (distribution-spec 1.1): the way to their repositories, and logins.

`RegistryClient` lives as long as a command; connections, and which scheme a place speaks, are shared by all its repositories.
"""

from __future__ import annotations

from typing import Protocol, Self

from imgbuild.hints import Callable, TracebackType
from imgbuild.light import threading
from imgbuild.oci.reference import DEFAULT_REGISTRY
from imgbuild.registry.credentials import Credential
from imgbuild.registry.endpoints import DOCKER_HUB_KEY, Endpoint, RegistrySettings, pull_endpoints, registry_endpoint
from imgbuild.registry.exchange import Conditions, Exchange, Place, Retry
from imgbuild.registry.repository import Remote, Repository
from imgbuild.registry.retry import Backoff, Clock
from imgbuild.registry.transport import Transport


class CredentialSource(Protocol):
    """Who knows who we are to a registry."""

    def get(self, registry: str, repository: str = "") -> Credential | None:
        """The credential, or None for nobody."""
        ...


class RegistryClient:
    """All registries that one command speaks to. A context manager; thread-safe."""

    def __init__(
        self,
        settings: RegistrySettings,
        credentials: CredentialSource,
        *,
        user_agent: str = "imgbuild",
        clock: Clock | None = None,
        on_retry: Callable[[Retry], None] | None = None,
    ) -> None:
        self.settings = settings
        self._credentials = credentials
        self._transport = Transport(settings, user_agent)
        self._conditions = Conditions(settings.attempts, settings.longest_wait, Backoff(), clock or Clock(), on_retry or _ignore)
        self._lock = threading.Lock()
        self._places: dict[Endpoint, Place] = {}
        self._exchanges: dict[tuple[Endpoint, str], Exchange] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._transport.__exit__(kind, error, trace)

    def repository(self, registry: str, repository: str) -> Repository:
        """A repository by the parts of its reference."""
        remotes = tuple(self._remote(endpoint, repository) for endpoint in pull_endpoints(self.settings, registry))
        return Repository(registry, repository, remotes, self.settings)

    def login(self, registry: str, credential: Credential) -> None:
        """Try a credential at the registry itself; AuthError where it is refused. Nothing is kept."""
        place = self._place(registry_endpoint(self.settings, registry))
        exchange = Exchange(place, registry, lambda: credential, self._conditions)
        exchange.request(f"the login at {registry}", "GET", "/v2/", ok=(200,)).finish()

    def _remote(self, endpoint: Endpoint, repository: str) -> Remote:
        name = endpoint.repository(repository)
        login = DEFAULT_REGISTRY if endpoint.key == DOCKER_HUB_KEY else endpoint.host
        exchange = Exchange(self._place(endpoint), login, lambda: self._credentials.get(login, name), self._conditions)
        with self._lock:
            # What was learned of a repository, its tokens above all, serves all who ask for it.
            return Remote(self._exchanges.setdefault((endpoint, name), exchange), name)

    def _place(self, endpoint: Endpoint) -> Place:
        with self._lock:
            return self._places.setdefault(endpoint, Place(endpoint, self._transport))


def _ignore(retry: Retry) -> None:
    """Nobody wants to know."""
