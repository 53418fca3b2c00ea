"""A blob on its way out while it is still made: neither its digest nor its size is known before its last byte (distribution-spec,
"Pushing a blob in chunks": one chunk of a length that is not said, as docker sends all its blobs).

Tried once, as whoever asked for it sends the finished blob where this fails.
"""

from __future__ import annotations

import hashlib

from imgbuild.errors import RegistryError
from imgbuild.hints import Callable, Iterable, Iterator, Mapping
from imgbuild.light.contextlib import suppress
from imgbuild.oci.digest import Digest
from imgbuild.registry.auth import Scopes
from imgbuild.registry.exchange import Body, Exchange
from imgbuild.registry.problems import broken_protocol
from imgbuild.registry.transport import Reply
from imgbuild.registry.upload import with_digest


class GrowingUpload:
    """One upload of such a blob. `blocks` gives its bytes from the beginning each time it is called; what it raises comes through."""

    def __init__(self, exchange: Exchange, repository: str, scopes: Scopes, blocks: Callable[[], Iterable[bytes]]) -> None:
        self._exchange = exchange
        self._path = f"/v2/{repository}/blobs"
        self._scopes = scopes
        self._blocks = blocks
        self._what = "sending a blob while it is made"

    def run(self, digest: Callable[[], Digest]) -> bool:
        """Send it; False where the registry turned out to have it. `digest` says, at the end, what it must be."""
        reply = self._request("POST", f"{self._path}/uploads/", ok=(202,), body=b"")
        location = self._location(reply, "")
        try:
            body = _Body(self._blocks)
            headers = {"Content-Type": "application/octet-stream"}
            location = self._location(self._request("PATCH", location, ok=(202, 204), headers=headers, body=lambda: body), location)
            wanted = digest()
            if body.digest != wanted:
                raise broken_protocol(self._exchange.asked(self._what), f"{body.digest} was sent for {wanted}")
            if self._request("HEAD", f"{self._path}/{wanted}", ok=(200, 404)).status == 200:
                self._cancel(location)
                return False
            said = self._request("PUT", with_digest(location, wanted), ok=(201, 204), body=b"").header("Docker-Content-Digest")
            if said and said != wanted:
                raise broken_protocol(self._exchange.asked(self._what), f"it kept the blob as {said[:100]!r}")
        except BaseException:
            self._cancel(location)
            raise
        return True

    def _request(
        self, method: str, target: str, *, ok: tuple[int, ...], headers: Mapping[str, str] | None = None, body: Body = None
    ) -> Reply:
        reply = self._exchange.request(self._what, method, target, ok=ok, scopes=self._scopes, headers=headers, body=body, attempts=1)
        reply.finish()
        return reply

    def _location(self, reply: Reply, old: str) -> str:
        location = reply.header("Location")
        if not location and not old:
            raise broken_protocol(self._exchange.asked(self._what), "it started an upload without saying where")
        return self._exchange.resolve(location, reply.url) if location else old

    def _cancel(self, location: str) -> None:
        with suppress(RegistryError):
            self._request("DELETE", location, ok=(204, 200, 202, 404, 405))


class _Body:
    """Blocks of a length that nobody knows yet, hashed as they are sent."""

    def __init__(self, blocks: Callable[[], Iterable[bytes]]) -> None:
        self._blocks = blocks
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        self._hash = hashlib.sha256()
        for block in self._blocks():
            self._hash.update(block)
            yield block

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")
