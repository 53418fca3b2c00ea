"""Remote sources joined to settings, secrets and the store; and all of a graph brought in before it is solved.

Secrets that authorize are BuildKit's: HTTP_AUTH_TOKEN_<host> and HTTP_AUTH_HEADER_<host> for files; GIT_AUTH_TOKEN and
GIT_AUTH_HEADER, each perhaps with .<host> at its end, for repositories.
"""

from __future__ import annotations

from imgbuild.engine.workplace import Workplace
from imgbuild.errors import ImgbuildError
from imgbuild.graph.ops import BuildGraph, CopyOp, RemoteSource
from imgbuild.hints import TYPE_CHECKING, Callable, Mapping
from imgbuild.light.contextlib import ExitStack
from imgbuild.values import replace

if TYPE_CHECKING:
    from imgbuild.context.tree import Tree
    from imgbuild.fetch.git import FetchedTree, GitFetcher
    from imgbuild.fetch.git_command import Git
    from imgbuild.fetch.http import FetchedFile, HttpFetcher
    from imgbuild.registry.endpoints import RegistrySettings
    from imgbuild.registry.transport import Transport
    from imgbuild.solve.agents import Agents
    from imgbuild.solve.secrets import Secret

OnEvent = Callable[[object], None]
_FILE_MODE = 0o600

REMOTE_FILE = "context"
"""The name of what is behind a URL, in a context that is nothing else: BuildKit's."""


class Fetchers:
    """What fetches for one build. A context manager, for the connections. Of `agents`, the default one is ssh's, where there is one."""

    def __init__(
        self, place: Workplace, secrets: Mapping[str, Secret], on_event: OnEvent, *, offline: bool, agents: Agents | None = None
    ) -> None:
        self._place = place
        self._secrets = secrets
        self._on_event = on_event
        self._offline = offline
        self._agents = agents
        self._stack = ExitStack()
        self._connected: tuple[Transport, RegistrySettings] | None = None

    def __enter__(self) -> Fetchers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def file(self, source: RemoteSource) -> FetchedFile:
        """The file behind a URL."""
        return self._http().fetch(source)

    def repository(self, source: RemoteSource) -> FetchedTree:
        """The tree of a repository."""
        return self._git().fetch(source)

    def tree(self, source: RemoteSource, name: str = "the repository") -> Tree:
        """What is to be copied of a source, as long as this is open. `name` is how errors call it."""
        if source.kind == "http":
            from imgbuild.context.single import SingleFile

            file = self.file(source)
            return SingleFile(file.name, self._place.store.blobs.path(file.digest), file.size, _FILE_MODE, file.mtime, file.digest)
        from imgbuild.context.local import LocalContext

        directory = self.repository(source).path
        store = self._place.store
        return self._stack.enter_context(LocalContext(directory, name=name, stats=store.index, scratch=store.scratch.temporary))

    def _http(self) -> HttpFetcher:
        from imgbuild.fetch.http import HttpFetcher

        return HttpFetcher(self._place.store, None if self._offline else self._connect, self._login, self._say)

    def _git(self) -> GitFetcher:
        from imgbuild.fetch.git import GitFetcher

        return GitFetcher(self._place.store, self._runner, self._offline, self._say)

    def _connect(self) -> tuple[Transport, RegistrySettings]:
        if self._connected is None:
            from imgbuild import __version__
            from imgbuild.engine.registries import registry_settings
            from imgbuild.registry.transport import Transport

            settings = registry_settings(self._place.environ, self._place.settings)
            transport = self._stack.enter_context(Transport(settings, f"imgbuild/{__version__}"))
            self._connected = (transport, settings)
        return self._connected

    def _runner(self, url: str) -> Git:
        from urllib.parse import urlsplit

        from imgbuild.fetch.git_command import Git, user_credential_settings
        from imgbuild.registry.auth import authorization_line, basic

        settings = user_credential_settings(self._place.environ)
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            header = self._secret(f"GIT_AUTH_HEADER.{parts.hostname}", "GIT_AUTH_HEADER")
            token = self._secret(f"GIT_AUTH_TOKEN.{parts.hostname}", "GIT_AUTH_TOKEN")
            value = header or (basic("x-access-token", token) if token else "")
            if value:
                host = parts.netloc.rpartition("@")[2]
                settings = (*settings, (f"http.{parts.scheme}://{host}/.extraHeader", authorization_line(value)))
        environ = dict(self._place.environ)
        if self._agents is not None and "default" in self._agents and parts.scheme not in ("http", "https", "git"):
            environ["SSH_AUTH_SOCK"] = self._agents.socket("default")
        return Git(environ, settings)

    def _login(self, host: str) -> str:
        token = self._secret(f"HTTP_AUTH_TOKEN_{host}")
        return self._secret(f"HTTP_AUTH_HEADER_{host}") or (f"Bearer {token}" if token else "")

    def _secret(self, *names: str) -> str:
        return next((self._secrets[name].data.decode("utf-8", "surrogateescape").strip() for name in names if name in self._secrets), "")

    def _say(self, name: str) -> None:
        from imgbuild.transfer.events import TransferStarted

        self._on_event(TransferStarted("fetch", name))


def fetch_sources(fetchers: Fetchers, graph: BuildGraph) -> dict[RemoteSource, Tree]:
    """All remote sources of a graph, each once."""
    found: dict[RemoteSource, Tree] = {}
    for _, stage in sorted(graph.stages.items()):
        for step in stage.steps:
            for remote in step.op.remotes if isinstance(step.op, CopyOp) else ():
                plain = replace(remote, position=0, unpack=False)
                if plain not in found:
                    try:
                        found[plain] = fetchers.tree(plain)
                    except ImgbuildError as error:
                        raise error.located(step.span) from None
    return found
