"""The endpoints of manifests and of lists: manifests, tags, referrers, and the catalog of repositories.

distribution-spec 1.1, "Pulling manifests", "Pushing Manifests", "Deleting tags/manifests", "Content Discovery".
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import manifests
from blobs import content_headers, not_modified
from errors import (
    Headers,
    digest_invalid,
    manifest_blobs_unknown,
    manifest_invalid,
    manifest_too_large,
    manifest_unknown,
    name_unknown,
    size_invalid,
    unsupported,
)
from messages import Reply, Request
from names import Digest, digest_of, is_tag, parse_digest
from routes import Route
from storage import Store, StoredManifest

# distribution-spec 1.1, "Pushing Manifests": a registry SHOULD take at least 4 MiB.
MANIFEST_LIMIT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """What one answer of a list holds, and the query of the next."""

    items: tuple[str, ...]
    following: str


class Catalogue:
    """The endpoints; `page_size` bounds each answer of a list even where the client names no `n`, 0 for no bound."""

    def __init__(self, store: Store, page_size: int = 0) -> None:
        self._store = store
        self._page_size = page_size

    def get_manifest(self, route: Route, request: Request) -> Reply:
        """GET and HEAD /v2/<name>/manifests/<reference>."""
        found = self._find(route)
        headers = content_headers(found.digest, found.media_type)
        if not_modified(request, found.digest):
            return Reply(304, headers)
        return Reply(200, headers, found.content)

    def put_manifest(self, route: Route, request: Request) -> Reply:
        """PUT /v2/<name>/manifests/<reference>, with `tag` parameters where the reference is a digest."""
        by_digest = ":" in route.argument
        tags = tuple(request.query.get("tag", ())) if by_digest else (route.argument,)
        for tag in tags:
            if not is_tag(tag):
                raise manifest_invalid(f"invalid tag {tag!r}")
        expected = parse_digest(route.argument) if by_digest else None
        content = request.body.read(MANIFEST_LIMIT)
        if content is None:
            raise manifest_too_large(MANIFEST_LIMIT)
        digest = digest_of(content, expected.algorithm if expected else "sha256")
        if expected is not None and digest != expected:
            raise digest_invalid(expected, f"the content is {digest}")
        manifest = manifests.parse(content, request.headers.get("Content-Type", ""))
        self._verify(route.name, manifest)
        self._store.put_manifest(route.name, StoredManifest(digest, manifest.media_type, content), tags)
        headers: Headers = (("Location", f"/v2/{route.name}/manifests/{digest}"), ("Docker-Content-Digest", str(digest)))
        if manifest.subject is not None:
            headers += (("OCI-Subject", str(manifest.subject.digest)),)
        if by_digest:
            headers += tuple(("OCI-Tag", tag) for tag in tags)
        return Reply(201, headers)

    def delete_manifest(self, route: Route, request: Request) -> Reply:
        """DELETE a tag alone, or a manifest with the tags that point at it."""
        if ":" in route.argument:
            gone = self._store.delete_manifest(route.name, parse_digest(route.argument))
        else:
            gone = self._store.delete_tag(route.name, route.argument)
        if not gone:
            raise manifest_unknown(route.argument)
        return Reply(202)

    def tags(self, route: Route, request: Request) -> Reply:
        """GET /v2/<name>/tags/list."""
        if not self._store.exists(route.name):
            raise name_unknown(route.name)
        page = self._page(self._store.tags(route.name), request)
        return _json({"name": route.name, "tags": page.items}, _link(f"/v2/{route.name}/tags/list", page))

    def repositories(self, request: Request) -> Reply:
        """GET /v2/_catalog."""
        page = self._page(self._store.repositories(), request)
        return _json({"repositories": page.items}, _link("/v2/_catalog", page))

    def referrers(self, route: Route, request: Request) -> Reply:
        """GET /v2/<name>/referrers/<digest>: always an index, an empty one for a subject that nobody knows."""
        subject = parse_digest(route.argument)
        wanted = request.parameter("artifactType")
        found = {str(entry["digest"]): entry for entry in self._referring(route.name, subject)}
        if wanted is not None:
            found = {key: entry for key, entry in found.items() if entry.get("artifactType", "") == wanted}
        page = self._page(sorted(found), request)
        headers = _link(f"/v2/{route.name}/referrers/{subject}", page, {"artifactType": wanted} if wanted is not None else {})
        if wanted is not None:
            headers += (("OCI-Filters-Applied", "artifactType"),)
        index = {"schemaVersion": 2, "mediaType": manifests.INDEX, "manifests": [found[key] for key in page.items]}
        return _json(index, headers, manifests.INDEX)

    def _find(self, route: Route) -> StoredManifest:
        by_digest = ":" in route.argument
        digest = parse_digest(route.argument) if by_digest else self._store.resolve(route.name, route.argument)
        found = self._store.manifest(route.name, digest) if digest else None
        if found is None:
            raise manifest_unknown(route.argument)
        return found

    def _verify(self, name: str, manifest: manifests.Manifest) -> None:
        """Everything but the subject has to be here, as long as its descriptor says.

        The subject may be missing: distribution-spec 1.1, "Pushing Manifests with Subject".
        """
        missing: list[object] = []
        for descriptor in manifest.blobs + manifest.children:
            size = self._size(name, descriptor.digest, descriptor in manifest.children)
            if size is None and not descriptor.elsewhere:
                missing.append(descriptor.digest)
            if size is not None and size != descriptor.size:
                raise size_invalid(f"{descriptor.digest} has {size} bytes, its descriptor says {descriptor.size}")
        if missing:
            raise manifest_blobs_unknown(missing)

    def _size(self, name: str, digest: Digest, child: bool) -> int | None:
        # A cache that is pushed as an index has blobs for children, so both are looked for.
        if child and (found := self._store.manifest(name, digest)):
            return len(found.content)
        path = self._store.blob(name, digest)
        return path.stat().st_size if path else None

    def _referring(self, name: str, subject: Digest) -> list[dict[str, object]]:
        found = []
        for stored in self._store.manifests(name):
            manifest = manifests.parse(stored.content, stored.media_type)
            if manifest.subject is not None and manifest.subject.digest == subject:
                found.append(manifests.referrer(stored.digest, len(stored.content), manifest))
        return found

    def _page(self, items: Sequence[str], request: Request) -> Page:
        # distribution-spec 1.1, "Listing Tags": after `last`, at most `n`; n=0 is an empty list without a Link.
        text, last = request.parameter("n"), request.parameter("last")
        if text is not None and not (text.isascii() and text.isdigit()):
            raise unsupported(f"n={text} is not a number")
        left = [item for item in items if last is None or item > last]
        limits = [limit for limit in (int(text[:9]) if text else None, self._page_size or None) if limit is not None]
        shown = tuple(left[: min(limits)] if limits else left)
        if not shown or len(shown) == len(left):
            return Page(shown, "")
        return Page(shown, urlencode(({"n": text} if text is not None else {}) | {"last": shown[-1]}))


def _link(path: str, page: Page, more: dict[str, str] | None = None) -> Headers:
    # RFC 8288.
    if not page.following:
        return ()
    query = "&".join(filter(None, (urlencode(more or {}), page.following)))
    return (("Link", f'<{quote(path, safe="/:")}?{query}>; rel="next"'),)


def _json(document: object, headers: Headers = (), media_type: str = "application/json") -> Reply:
    return Reply(200, (("Content-Type", media_type), *headers), json.dumps(document).encode())
