"""The blob endpoints: pull in whole or in part, push in one, in two or in many requests, mount, delete.

distribution-spec 1.1, "Pulling blobs", "Pushing blobs", "Mounting a blob from another repository", "Deleting Blobs".
"""

import hashlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager

from errors import Headers, RegistryError, blob_unknown, digest_invalid, range_unsatisfiable, size_invalid, upload_invalid
from messages import FilePart, Reply, Request
from names import Digest, parse_digest, parse_name, try_digest
from routes import Route
from storage import Store
from uploads import Upload, Uploads

# distribution-spec 1.1, "Pushing a blob in chunks": Content-Range MUST match this; no unit and no total.
_CONTENT_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")
# RFC 9110, section 14.1.2; one range only, more are answered with the whole.
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)

MayPull = Callable[[str], bool]


class Blobs:
    """The endpoints below `/v2/<name>/blobs/`.

    With `opaque`, upload locations are absolute and carry a query that a client has to keep: the spec lets a registry
    do so, and large ones do.
    """

    def __init__(self, store: Store, uploads: Uploads, chunk_min_length: int = 0, opaque: bool = False) -> None:
        self._store = store
        self._uploads = uploads
        self._chunk_min_length = chunk_min_length
        self._opaque = opaque

    def get(self, route: Route, request: Request) -> Reply:
        """GET and HEAD /v2/<name>/blobs/<digest>."""
        digest = parse_digest(route.argument)
        path = self._store.blob(route.name, digest)
        if path is None:
            raise blob_unknown(digest)
        size = path.stat().st_size
        headers = content_headers(digest, "application/octet-stream", (("Accept-Ranges", "bytes"),))
        if not_modified(request, digest):
            return Reply(304, headers)
        # RFC 9110, section 13.1.5: with an If-Range that is not ours, the Range does not count.
        usable = request.method == "GET" and request.headers.get("If-Range", etag(digest)) == etag(digest)
        part = _part(request.headers.get("Range", ""), size) if usable else None
        if part is None:
            return Reply(200, headers, FilePart(path, 0, size))
        start, end = part
        headers += (("Content-Range", f"bytes {start}-{end - 1}/{size}"),)
        return Reply(206, headers, FilePart(path, start, end - start))

    def delete(self, route: Route, request: Request) -> Reply:
        """DELETE /v2/<name>/blobs/<digest>."""
        digest = parse_digest(route.argument)
        if not self._store.delete_blob(route.name, digest):
            raise blob_unknown(digest)
        return Reply(202)

    def start(self, route: Route, request: Request, may_pull: MayPull, base: str) -> Reply:
        """POST /v2/<name>/blobs/uploads/: mount, push in one, or begin."""
        mount = request.parameter("mount")
        if mount is not None and (digest := try_digest(mount)) and self._mount(route.name, digest, request.parameter("from"), may_pull):
            return _created(route.name, digest)
        if (text := request.parameter("digest")) is not None:
            return self._push_in_one(route, request, parse_digest(text))
        identity = self._uploads.start(route.name)
        with self._uploads.hold(route.name, identity) as upload:
            headers = self._progress(route.name, upload, base)
        if self._chunk_min_length:
            headers += (("OCI-Chunk-Min-Length", str(self._chunk_min_length)),)
        return Reply(202, headers)

    def status(self, route: Route, request: Request, base: str) -> Reply:
        """GET on an upload: how far it has come."""
        with self._hold(route, request) as upload:
            return Reply(204, self._progress(route.name, upload, base))

    def patch(self, route: Route, request: Request, base: str) -> Reply:
        """PATCH on an upload: a chunk with its Content-Range, or without one whatever follows."""
        with self._hold(route, request) as upload:
            self._append(route.name, upload, request, base)
            return Reply(202, self._progress(route.name, upload, base))

    def put(self, route: Route, request: Request, base: str) -> Reply:
        """PUT on an upload: the last bytes, if any are left, and the digest of the whole."""
        text = request.parameter("digest")
        with self._hold(route, request) as upload:
            if text is None:
                raise digest_invalid("", "the digest parameter is missing")
            digest = parse_digest(text)
            self._append(route.name, upload, request, base)
            upload.finish(self._store, route.name, digest)
        return _created(route.name, digest)

    def cancel(self, route: Route, request: Request) -> Reply:
        """DELETE on an upload."""
        with self._hold(route, request) as upload:
            upload.cancel()
        return Reply(204)

    def _mount(self, name: str, digest: Digest, source: str | None, may_pull: MayPull) -> bool:
        # distribution-spec 1.1: `from` may be left out; whatever can't be mounted becomes an ordinary upload (202).
        if source is None:
            sources = self._store.holders(digest)
        else:
            try:
                sources = [parse_name(source)]
            except RegistryError:
                return False
        return any(may_pull(found) and self._store.mount_blob(name, found, digest) for found in sources)

    def _push_in_one(self, route: Route, request: Request, digest: Digest) -> Reply:
        identity = self._uploads.start(route.name)
        with self._uploads.hold(route.name, identity) as upload:
            try:
                upload.append(request.body.blocks())
            except BaseException:
                upload.cancel()  # the client was never told where it could go on
                raise
            upload.finish(self._store, route.name, digest)
        return _created(route.name, digest)

    def _append(self, name: str, upload: Upload, request: Request, base: str) -> None:
        text = request.headers.get("Content-Range")
        if text is None:
            upload.append(request.body.blocks())
            return
        match = _CONTENT_RANGE.fullmatch(text.strip())
        before = upload.offset
        if match is None or int(match[1]) != before or int(match[2]) < before:
            why = f"Content-Range {text!r} does not go on from byte {before}"
            raise range_unsatisfiable(why, self._progress(name, upload, base))
        expected = int(match[2]) - before + 1
        if request.body.length not in (None, expected):
            raise size_invalid(f"Content-Range {text!r} and Content-Length {request.body.length} differ")
        if upload.append(request.body.blocks()) != expected:
            upload.truncate(before)
            raise size_invalid(f"the body is not as long as Content-Range {text!r}")

    def _hold(self, route: Route, request: Request) -> AbstractContextManager[Upload]:
        if self._opaque and request.parameter("_state") != _state(route.argument):
            raise upload_invalid("the query of the upload's Location was not kept")
        return self._uploads.hold(route.name, route.argument)

    def _progress(self, name: str, upload: Upload, base: str) -> Headers:
        location = f"/v2/{name}/blobs/uploads/{upload.identity}"
        if self._opaque:
            location = f"{base}{location}?_state={_state(upload.identity)}"
        # The end of the range is inclusive, so that nothing and one byte look the same; clients know it that way.
        return (("Location", location), ("Range", f"0-{max(0, upload.offset - 1)}"), ("Docker-Upload-UUID", upload.identity))


def etag(digest: Digest) -> str:
    """RFC 9110, section 8.8.3: content that is named by its digest has the best of all validators."""
    return f'"{digest}"'


def not_modified(request: Request, digest: Digest) -> bool:
    """Whether the client said that it has this content."""
    return etag(digest) in [item.strip() for item in request.headers.get("If-None-Match", "").split(",")]


def content_headers(digest: Digest, media_type: str, more: Headers = ()) -> Headers:
    """The headers of content that is answered."""
    return (("Content-Type", media_type), ("Docker-Content-Digest", str(digest)), ("ETag", etag(digest)), *more)


def _created(name: str, digest: Digest) -> Reply:
    return Reply(201, (("Location", f"/v2/{name}/blobs/{digest}"), ("Docker-Content-Digest", str(digest))))


def _state(identity: str) -> str:
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _part(text: str, size: int) -> tuple[int, int] | None:
    """The half-open range that a Range header asks for; None for the whole, 416 where there is nothing to give."""
    match = _RANGE.fullmatch(text.strip())
    if match is None or not (match[1] or match[2]):
        return None
    start, end = (max(0, size - int(match[2])), size) if not match[1] else (int(match[1]), min(size, int(match[2] or size) + 1))
    if start >= end:
        raise range_unsatisfiable(f"{text} of {size} bytes", (("Content-Range", f"bytes */{size}"),))
    return start, end
