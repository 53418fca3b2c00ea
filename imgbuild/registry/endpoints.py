"""Where a registry is spoken to: which base URLs stand for a registry's name, and what is allowed on the way there.

Values only; the settings room fills them. A pull asks the mirrors in order and then the registry itself; a push and a
login only the registry. Plain HTTP is spoken to loopback addresses, as docker does, and where a rule allows it.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from imgbuild.errors import SettingsError
from imgbuild.light.pathlib import Path
from imgbuild.oci.reference import DEFAULT_REGISTRY
from imgbuild.values import dataclass

DOCKER_HUB_HOST = "registry-1.docker.io"
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
"""The name under which docker keeps the credentials of docker.io, which is not where its registry answers."""


@dataclass(frozen=True, slots=True)
class RegistryRule:
    """What is set for one registry, named as in references (``docker.io``, ``localhost:5000``).

    `mirrors` are ``[http[s]://]host[:port][/prefix]``, asked in this order before the registry; the prefix goes before the
    repository. `plain_http` None means: HTTP where the host is this machine, HTTPS else. A rule also holds for a mirror
    of that name.
    """

    registry: str
    mirrors: tuple[str, ...] = ()
    plain_http: bool | None = None
    verify_tls: bool = True
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Proxies:
    """HTTP proxies by the scheme of the target; `bypass` holds hosts and ``.domain`` ends that are reached directly."""

    http: str = ""
    https: str = ""
    bypass: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """All that a client may be told. Times in seconds; `attempts` counts the first one.

    `chunk_bytes` 0 sends what an upload still lacks in one request, which every registry takes; some refuse several.
    """

    rules: tuple[RegistryRule, ...] = ()
    ca_file: Path | None = None
    proxies: Proxies = Proxies()
    attempts: int = 5
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    longest_wait: float = 120.0
    chunk_bytes: int = 0
    parallel: int = 4

    def rule(self, registry: str) -> RegistryRule:
        """The rule for a registry, or one that says nothing."""
        return next((rule for rule in self.rules if rule.registry == registry), RegistryRule(registry))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place to ask. `schemes` are tried in order until one answers; `key` is the name that credentials are kept under."""

    host: str
    schemes: tuple[str, ...]
    prefix: str = ""
    key: str = ""
    verify: bool = True
    ca_file: Path | None = None

    def repository(self, name: str) -> str:
        """The repository's name at this place."""
        return f"{self.prefix}/{name}" if self.prefix else name


def registry_endpoint(settings: RegistrySettings, registry: str) -> Endpoint:
    """The registry itself."""
    rule = settings.rule(registry)
    host = DOCKER_HUB_HOST if registry == DEFAULT_REGISTRY else registry
    return Endpoint(
        host=host,
        schemes=_schemes(rule, host),
        key=credential_key(registry),
        verify=rule.verify_tls,
        ca_file=rule.ca_file or settings.ca_file,
    )


def pull_endpoints(settings: RegistrySettings, registry: str) -> tuple[Endpoint, ...]:
    """The registry's mirrors in their order, then the registry."""
    mirrors = tuple(_mirror(settings, text) for text in settings.rule(registry).mirrors)
    return (*mirrors, registry_endpoint(settings, registry))


def credential_key(registry: str) -> str:
    """The name under which docker's configuration keeps credentials for a registry."""
    return DOCKER_HUB_KEY if registry in (DEFAULT_REGISTRY, DOCKER_HUB_HOST, "index.docker.io") else registry


def is_loopback(host: str) -> bool:
    """Whether ``host[:port]`` is this machine by its name alone."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _mirror(settings: RegistrySettings, text: str) -> Endpoint:
    parts = urlsplit(text if "://" in text else f"//{text}")
    if not parts.hostname or parts.scheme not in ("", "http", "https") or parts.query or parts.fragment or "@" in parts.netloc:
        raise SettingsError("a registry mirror is not [http[s]://]host[:port][/prefix]", hint="credentials belong into a login")
    host = parts.netloc
    rule = settings.rule(host)
    return Endpoint(
        host=host,
        schemes=(parts.scheme,) if parts.scheme else _schemes(rule, host),
        prefix=parts.path.strip("/"),
        key=credential_key(host),
        verify=rule.verify_tls,
        ca_file=rule.ca_file or settings.ca_file,
    )


def _schemes(rule: RegistryRule, host: str) -> tuple[str, ...]:
    if rule.plain_http is not None:
        return ("http",) if rule.plain_http else ("https",)
    # HTTP first on loopback: nothing is sent there but a question without credentials, and a registry that
    # speaks TLS says so at once, whereas the other order writes a garbled handshake into the server's log.
    return ("http", "https") if is_loopback(host) else ("https",)
