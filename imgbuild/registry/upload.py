"""A blob on its way out (distribution-spec, "Pushing blobs"): mounted, sent whole, or streamed and resumed after a cut."""

from __future__ import annotations

import hashlib
from typing import BinaryIO
from urllib.parse import quote, urlencode, urlsplit

from imgbuild.errors import CorruptError, RegistryError
from imgbuild.hints import Callable, Iterator, Sequence
from imgbuild.light import re
from imgbuild.light.contextlib import suppress
from imgbuild.oci.digest import Digest
from imgbuild.oci.image import Descriptor
from imgbuild.registry.auth import Scopes, repository_scope
from imgbuild.registry.exchange import Exchange
from imgbuild.registry.problems import StatusError, UnreachableError, broken_protocol
from imgbuild.registry.transport import Reply
from imgbuild.values import dataclass

_CHUNK = 1 << 20
_SMALL = 1 << 20
_PROGRESS = 64 << 10
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})", re.ASCII)

OnBytes = Callable[[int], None]
"""Told how many bytes of the blob the registry has now."""


@dataclass(frozen=True, slots=True)
class _Started:
    """An upload session: where it goes on, and the least length of a chunk but the last."""

    location: str
    least: int


@dataclass(frozen=True, slots=True)
class Upload:
    """One blob to be sent to one repository. `open` gives its bytes anew each time it is called."""

    exchange: Exchange
    repository: str
    blob: Descriptor
    open: Callable[[], BinaryIO]
    scopes: Scopes
    attempts: int
    chunk_bytes: int
    on_bytes: OnBytes

    @property
    def what(self) -> str:
        return f"sending the blob {self.blob.digest}"

    @property
    def path(self) -> str:
        return f"/v2/{self.repository}/blobs/uploads/"

    def run(self, mount_from: Sequence[str]) -> str:
        """Send it, or have it mounted: "sent" or "mounted". It is in the registry when this returns."""
        started = self._mounted_or_started(mount_from)
        if started is None:
            return "mounted"
        if self.blob.size <= _SMALL:
            self._send_whole(started.location)
        else:
            self._send_streamed(started)
        return "sent"

    def _mounted_or_started(self, mount_from: Sequence[str]) -> _Started | None:
        """A started upload; None where a mount made it needless."""
        started: _Started | None = None
        for source in mount_from:
            query = urlencode({"mount": self.blob.digest, "from": source})
            scopes = (*self.scopes, repository_scope(source, "pull"))
            try:
                reply = self.exchange.request(self.what, "POST", f"{self.path}?{query}", ok=(201, 202), scopes=scopes, body=b"")
            except RegistryError as error:
                if isinstance(error, UnreachableError):
                    raise
                continue  # a source that we may not read, or a registry that does not mount: then it is sent
            reply.finish()
            if reply.status == 201:
                return None
            if started is not None:
                self._cancel(started.location)
            started = self._started(reply)
        return started or self._start()

    def _start(self) -> _Started:
        reply = self.exchange.request(self.what, "POST", self.path, ok=(202,), scopes=self.scopes, body=b"")
        reply.finish()
        return self._started(reply)

    def _started(self, reply: Reply) -> _Started:
        least = reply.header("OCI-Chunk-Min-Length")
        return _Started(self._location(reply), int(least) if least.isascii() and least.isdigit() and len(least) < 16 else 0)

    def _send_whole(self, location: str) -> None:
        with self.open() as stream:
            data = stream.read(self.blob.size + 1)
        if len(data) != self.blob.size or _sha(self.blob.digest, data) != self.blob.digest:
            raise _damaged(self.blob)
        headers = {"Content-Type": "application/octet-stream"}
        target = with_digest(location, self.blob.digest)
        try:
            self._put(target, headers, data)
        except StatusError as error:
            # The registry may have taken it and its answer been lost, so that the upload is unknown to the retry.
            if error.status != 404 or not self._is_there():
                raise
        self.on_bytes(self.blob.size)

    def _send_streamed(self, started: _Started) -> None:
        check, location = _Check(self.blob), started.location
        step = max(self.chunk_bytes, started.least) if self.chunk_bytes else self.blob.size
        offset, failures = 0, 0
        while offset < self.blob.size:
            before = offset
            end = min(self.blob.size, offset + step)
            try:
                reply = self._patch(location, offset, end, check)
            except (UnreachableError, StatusError) as error:
                if isinstance(error, StatusError) and error.status not in (404, 416) and error.status < 500:
                    raise
                failures += 1
                if failures >= self.attempts:
                    raise
                self.exchange.pause(failures, error.message)
                location, offset = self._status(location)
            else:
                location, offset = self._location(reply, location), end
            if offset - before >= _PROGRESS:
                failures = min(failures, 1)
        check.finish()
        self._commit(location)

    def _patch(self, location: str, offset: int, end: int, check: _Check) -> Reply:
        headers = {"Content-Type": "application/octet-stream"}
        # Docker's registry takes a first chunk without it; some others know no Content-Range at all.
        if offset or end < self.blob.size:
            headers["Content-Range"] = f"{offset}-{end - 1}"
        part = _Part(self, offset, end, check)
        # Once: a stream that was cut is gone on with from where the registry says, not from where we were.
        reply = self.exchange.request(
            self.what, "PATCH", location, ok=(202, 204), scopes=self.scopes, headers=headers, body=lambda: part, attempts=1
        )
        reply.finish()
        return reply

    def _status(self, location: str) -> tuple[str, int]:
        """Where to go on: from what the registry has, or anew where it has forgotten the upload."""
        try:
            reply = self.exchange.request(self.what, "GET", location, ok=(204, 200, 202), scopes=self.scopes)
        except StatusError:
            return self._start().location, 0
        reply.finish()
        said = reply.header("Range").strip()
        match = _RANGE.fullmatch(said)
        # "0-0" is written for nothing by some and for one byte by others; it is safer to start such an upload anew.
        has = int(match[1]) + 1 if match is not None else 0
        if has <= 1:
            with suppress(RegistryError):
                self._cancel(location)
            return self._start().location, 0
        if has > self.blob.size:
            raise broken_protocol(self.exchange.asked(self.what), f"it has {has} bytes of {self.blob.size}")
        return self._location(reply, location), has

    def _commit(self, location: str) -> None:
        try:
            self._put(with_digest(location, self.blob.digest), {}, b"")
        except StatusError as error:
            if error.status != 404 or not self._is_there():
                raise

    def _put(self, target: str, headers: dict[str, str], data: bytes) -> None:
        reply = self.exchange.request(self.what, "PUT", target, ok=(201, 204), scopes=self.scopes, headers=headers, body=data)
        reply.finish()
        said = reply.header("Docker-Content-Digest")
        if said and said != self.blob.digest:
            raise broken_protocol(self.exchange.asked(self.what), f"it kept the blob as {said[:100]!r}")

    def _is_there(self) -> bool:
        path = f"/v2/{self.repository}/blobs/{self.blob.digest}"
        reply = self.exchange.request(self.what, "HEAD", path, ok=(200, 404), scopes=self.scopes)
        reply.finish()
        return reply.status == 200

    def _cancel(self, location: str) -> None:
        self.exchange.request(self.what, "DELETE", location, ok=(204, 200, 202, 404, 405), scopes=self.scopes, attempts=1).finish()

    def _location(self, reply: Reply, old: str = "") -> str:
        location = reply.header("Location")
        if not location and not old:
            raise broken_protocol(self.exchange.asked(self.what), "it started an upload without saying where")
        return self.exchange.resolve(location, reply.url) if location else old


def with_digest(location: str, digest: Digest) -> str:
    """Where an upload is ended. The Location may have a query of its own, which must stay as it is."""
    parts = urlsplit(location)
    query = "&".join(filter(None, (parts.query, f"digest={quote(digest, safe='')}")))
    return parts._replace(query=query).geturl()


class _Part:
    """Bytes `offset` to `end` of a blob as a request's body."""

    def __init__(self, upload: Upload, offset: int, end: int, check: _Check) -> None:
        self._upload = upload
        self._offset = offset
        self._end = end
        self._check = check

    def __len__(self) -> int:
        return self._end - self._offset

    def __iter__(self) -> Iterator[bytes]:
        at = self._offset
        with self._upload.open() as stream:
            stream.seek(at)
            while at < self._end:
                data = stream.read(min(_CHUNK, self._end - at))
                if not data:
                    raise _damaged(self._upload.blob)
                self._check.update(at, data)
                yield data
                at += len(data)
                self._upload.on_bytes(at)


class _Check:
    """Hashes what is sent, once and in order, though parts of it may be sent again."""

    def __init__(self, blob: Descriptor) -> None:
        self._blob = blob
        self._hash = hashlib.new(blob.digest.partition(":")[0], usedforsecurity=False)
        self._done = 0

    def update(self, at: int, data: bytes) -> None:
        if at <= self._done < at + len(data):
            self._hash.update(data[self._done - at :])
            self._done = at + len(data)

    def finish(self) -> None:
        """CorruptError unless all that was sent is the blob."""
        if self._done != self._blob.size or self._hash.hexdigest() != self._blob.digest.partition(":")[2]:
            raise _damaged(self._blob)


def _sha(digest: str, data: bytes) -> str:
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}"


def _damaged(blob: Descriptor) -> CorruptError:
    return CorruptError(
        f"the blob {blob.digest} is damaged in the store and was not sent", hint="`imgbuild fsck` says what; build or pull it again"
    )
