"""Joins registries to settings, credentials and the store; and the commands that speak to them."""

from __future__ import annotations

from imgbuild.engine.invocation import Invocation
from imgbuild.engine.workplace import Workplace, workplace
from imgbuild.errors import ImageError, NotFoundError, UsageError
from imgbuild.hints import TYPE_CHECKING, Callable, Iterator, Mapping
from imgbuild.light.contextlib import contextmanager
from imgbuild.light.functools import partial
from imgbuild.light.pathlib import Path
from imgbuild.oci.platform import Platform, parse_platform
from imgbuild.oci.reference import DEFAULT_REGISTRY, Reference, parse_reference
from imgbuild.values import replace

if TYPE_CHECKING:
    from imgbuild.oci.image import Layer
    from imgbuild.registry.client import RegistryClient
    from imgbuild.registry.credentials import Credentials
    from imgbuild.registry.endpoints import RegistrySettings
    from imgbuild.registry.repository import Repository
    from imgbuild.settings import Settings
    from imgbuild.transfer.convert import Conversion
    from imgbuild.transfer.images import Image
    from imgbuild.transfer.pull import Blob, Puller
    from imgbuild.transfer.push import Pushed

OnEvent = Callable[[object], None]


def make_puller(place: Workplace, on_event: OnEvent, *, offline: bool = False, lowers: bool = False) -> Puller:
    """A puller for the bases of a build or for a command; `offline` never touches the network. With `lowers` layers become lowers while
    they arrive: for images that are started or built on at once."""
    from imgbuild.transfer.pull import Puller

    client = None if offline else _LateClient(place.invocation, place.settings)
    return Puller(place.store, client, on_event, use=partial(_make_lower, place) if lowers else None)


def _make_lower(place: Workplace, layer: Layer, blob: Blob, cancelled: Callable[[], bool]) -> None:
    from imgbuild.rootfs.unpacking import Unpacker

    Unpacker(place.store, place.features, cancelled).arriving(layer, blob)


class _LateClient:
    """A client that is made when a registry is really spoken to: most builds find their bases in the store."""

    def __init__(self, invocation: Invocation, settings: Settings) -> None:
        self._invocation = invocation
        self._settings = settings
        self._client: RegistryClient | None = None

    @property
    def settings(self) -> RegistrySettings:
        return self._made().settings

    def repository(self, registry: str, repository: str) -> Repository:
        return self._made().repository(registry, repository)

    def _made(self) -> RegistryClient:
        if self._client is None:
            self._client = make_client(self._invocation, self._settings)
        return self._client


def make_client(invocation: Invocation, settings: Settings) -> RegistryClient:
    """A client with the user's settings and credentials."""
    from imgbuild import __version__
    from imgbuild.registry.client import RegistryClient

    registries = registry_settings(invocation.environ, settings)
    return RegistryClient(registries, credentials(invocation), user_agent=f"imgbuild/{__version__}")


def credentials(invocation: Invocation) -> Credentials:
    """Credentials out of docker's file, which logins write, and podman's."""
    from imgbuild.registry.credentials import Credentials

    environ = invocation.environ
    docker = Path(environ.get("DOCKER_CONFIG") or Path(invocation.home()) / ".docker") / "config.json"
    files = [docker]
    if environ.get("REGISTRY_AUTH_FILE"):
        files.insert(0, Path(environ["REGISTRY_AUTH_FILE"]))
    if environ.get("XDG_RUNTIME_DIR"):
        files.append(Path(environ["XDG_RUNTIME_DIR"]) / "containers" / "auth.json")
    return Credentials(files, environment=environ)


def pull(invocation: Invocation, names: tuple[str, ...], platform: str | None, policy: str, on_event: OnEvent) -> tuple[Image, ...]:
    """Pull images into the store."""
    from imgbuild.transfer.pull import PullPolicy

    references = [reference(name) for name in names]
    wanted = platform_of(platform)
    with workplace(invocation, snapshots=False) as place:
        puller = make_puller(place, on_event)
        return tuple(puller.pull(each, wanted, PullPolicy(policy)) for each in references)


def push(
    invocation: Invocation, name: str, destination: str | None, platform: str | None, conversion: Conversion, on_event: OnEvent
) -> Pushed:
    """Push an image of the store."""
    from imgbuild.transfer.push import Pusher

    source, target = reference(name), reference(destination) if destination else None
    with workplace(invocation, snapshots=False) as place:
        pusher = Pusher(place.store, make_client(invocation, place.settings), on_event)
        return pusher.push(source, target, conversion=conversion, platform=platform_of(platform) if platform else None)


def login(invocation: Invocation, registry: str, username: str, password: str) -> str:
    """Check a login at a registry and keep it; where it is kept, in words."""
    from imgbuild.registry.credentials import Credential

    name = registry_name(registry)
    credential = Credential(username, password)
    with _settings(invocation) as settings, make_client(invocation, settings) as client:
        client.login(name, credential)
    return credentials(invocation).store(name, credential)


def logout(invocation: Invocation, registry: str) -> None:
    """Forget a login."""
    name = registry_name(registry)
    if not credentials(invocation).erase(name):
        raise NotFoundError(f"there is no login for {name}")


def registry_name(text: str) -> str:
    """A registry as a user names it: with or without a scheme, "" for the default one."""
    host = text.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if not host or host in ("index.docker.io", "registry-1.docker.io"):
        return DEFAULT_REGISTRY
    return reference(f"{host}/x").registry


def reference(text: str) -> Reference:
    """A name from the command line."""
    try:
        return parse_reference(text)
    except ImageError as error:
        raise UsageError(error.message, hint=error.hint) from None


def platform_of(text: str | None) -> Platform:
    """A platform from the command line; this machine's where there is none."""
    from imgbuild.engine.machine import this_platform

    if not text:
        return this_platform()
    try:
        return parse_platform(text, this_platform())
    except ImageError as error:
        raise UsageError(error.message, hint=error.hint) from None


@contextmanager
def _settings(invocation: Invocation) -> Iterator[Settings]:
    """Settings for a command that needs no store."""
    import os

    from imgbuild.settings import Settings

    path = invocation.config_path(os.geteuid())
    if path is None:
        yield Settings()
    else:
        from imgbuild.settings.load import load_settings

        yield load_settings(path)


def registry_settings(environ: Mapping[str, str], settings: Settings) -> RegistrySettings:
    """What the file says, and what the environment says where the file does not: certificates and proxies."""
    from imgbuild.registry.endpoints import Proxies, RegistrySettings

    registries = settings.registries or RegistrySettings()
    if registries.ca_file is None:
        bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("SSL_CERT_FILE") or environ.get("CURL_CA_BUNDLE")
        if bundle:
            registries = replace(registries, ca_file=Path(bundle))
    if registries.proxies == Proxies():
        bypass = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
        proxies = Proxies(
            http=environ.get("HTTP_PROXY") or environ.get("http_proxy") or "",
            https=environ.get("HTTPS_PROXY") or environ.get("https_proxy") or "",
            bypass=tuple(filter(None, (word.strip() for word in bypass.split(",")))),
        )
        registries = replace(registries, proxies=proxies)
    return registries
