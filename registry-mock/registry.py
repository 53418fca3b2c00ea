"""The registry without its transport: settings in, and for each request a reply or a RegistryError.

It puts the endpoints together and asks `access` before each. It does not know that there are faults.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

import routes
from access import Access, Grant, Policy
from blobs import Blobs
from catalogue import Catalogue
from errors import unknown, unsupported
from messages import Reply, Request
from routes import Route
from storage import Store
from uploads import Uploads

_FORM_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What the registry is like, from the command line."""

    root: Path
    policy: Policy
    read_only: bool = False
    chunk_min_length: int = 0
    page_size: int = 0
    opaque_locations: bool = False


class Registry:
    """All endpoints below /v2/, and /token."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._access = Access(settings.policy)
        store = Store(settings.root)
        self._blobs = Blobs(store, Uploads(store), settings.chunk_min_length, settings.opaque_locations)
        self._catalogue = Catalogue(store, settings.page_size)

    def answer(self, path: str, request: Request, base: str, seen: Callable[[str | None], None]) -> Reply:
        """The reply to a request; `seen` is told who it is."""
        if path == "/token" and self._settings.policy.scheme == "bearer":
            return self._token(request)
        route = routes.find(request.method, path)
        grant = self._access.admit(route, request.headers.get("Authorization"), base)
        seen(grant.user)
        if self._settings.read_only and route.right in (routes.PUSH, routes.DELETE):
            raise unsupported("this registry is read-only", 405, (("Allow", "GET, HEAD"),))
        return self._endpoint(route, request, grant, base)

    def _endpoint(self, route: Route, request: Request, grant: Grant, base: str) -> Reply:
        blobs, catalogue = self._blobs, self._catalogue

        def may_pull(name: str) -> bool:
            return grant.may(routes.PULL, "repository", name)

        table: Mapping[tuple[str, str], Callable[[], Reply]] = {
            ("base", "GET"): lambda: Reply(200, (("Content-Type", "application/json"),), b"{}"),
            ("catalog", "GET"): lambda: catalogue.repositories(request),
            ("tags", "GET"): lambda: catalogue.tags(route, request),
            ("referrers", "GET"): lambda: catalogue.referrers(route, request),
            ("manifest", "GET"): lambda: catalogue.get_manifest(route, request),
            ("manifest", "PUT"): lambda: catalogue.put_manifest(route, request),
            ("manifest", "DELETE"): lambda: catalogue.delete_manifest(route, request),
            ("blob", "GET"): lambda: blobs.get(route, request),
            ("blob", "DELETE"): lambda: blobs.delete(route, request),
            ("uploads", "POST"): lambda: blobs.start(route, request, may_pull, base),
            ("upload", "GET"): lambda: blobs.status(route, request, base),
            ("upload", "PATCH"): lambda: blobs.patch(route, request, base),
            ("upload", "PUT"): lambda: blobs.put(route, request, base),
            ("upload", "DELETE"): lambda: blobs.cancel(route, request),
        }
        return table[route.kind, "GET" if request.method == "HEAD" else request.method]()

    def _token(self, request: Request) -> Reply:
        if request.method == "GET":
            document = self._access.token(request.query, request.headers.get("Authorization"))
        elif request.method == "POST":
            form = request.body.read(_FORM_LIMIT)
            if form is None:
                raise unknown(413, "the form is too long")
            document = self._access.oauth(parse_qs(form.decode("utf-8", "replace")))
        else:
            raise unsupported(f"{request.method} is not supported here", 405, (("Allow", "GET, POST"),))
        return Reply(200, (("Content-Type", "application/json"), ("Cache-Control", "no-store")), json.dumps(document).encode())
