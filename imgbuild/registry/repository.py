"""One repository of a registry: its manifests, blobs, tags and referrers. Thread-safe.

Reading asks the mirrors in their order and then the registry; what one of them lacks or has wrong, the next is asked for.
Writing goes to the registry alone.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO, TypeVar
from urllib.parse import quote, urlencode, urljoin, urlsplit

from imgbuild.errors import CorruptError, ImageError, ImgbuildError, RegistryError
from imgbuild.hints import Callable, Iterable, Iterator, Sequence
from imgbuild.light import re
from imgbuild.oci.digest import Digest, digest_of, parse_digest
from imgbuild.oci.image import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    Descriptor,
    index_bytes,
    parse_json_object,
    parse_manifest,
)
from imgbuild.registry.auth import Scopes, repository_scope
from imgbuild.registry.download import blob_chunks
from imgbuild.registry.endpoints import RegistrySettings
from imgbuild.registry.exchange import Exchange
from imgbuild.registry.growing import GrowingUpload
from imgbuild.registry.problems import StatusError, UnreachableError, broken_protocol
from imgbuild.registry.referrers import fallback_tag, parse_referrers, referrer, with_referrer
from imgbuild.registry.transport import Reply
from imgbuild.registry.upload import Upload
from imgbuild.values import dataclass

# Schema 1 last, so that an old registry answers with something that we can name when we refuse it.
_ACCEPTED = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES, "application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1"))
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,]*\brel="?next"?', re.IGNORECASE)
_MAX_PAGES = 10_000
_MAX_LIST = 8 << 20
_MIRROR_ATTEMPTS = 2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest or an index as the registry has it; its digest is verified."""

    descriptor: Descriptor
    data: bytes


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository at one place."""

    exchange: Exchange
    name: str

    def scopes(self, *actions: str) -> Scopes:
        return (repository_scope(self.name, *actions),)

    def path(self, *parts: str) -> str:
        return "/".join(("/v2", self.name, *(quote(part, safe=":") for part in parts)))


class Repository:
    """One repository. `tag_or_digest` names a manifest in it; a digest given is always verified."""

    def __init__(self, registry: str, name: str, remotes: Sequence[Remote], settings: RegistrySettings) -> None:
        self.registry = registry
        self.name = name
        self._remotes = tuple(remotes)
        self._settings = settings

    @property
    def _own(self) -> Remote:
        return self._remotes[-1]

    # Reading

    def manifest(self, tag_or_digest: str) -> Fetched:
        """A manifest or an index, by GET."""
        return self._first(lambda remote, attempts: self._get_manifest(remote, tag_or_digest, attempts))

    def fetch_blob(self, blob: Descriptor, keep: Callable[[Iterator[bytes]], T]) -> T:
        """Give the blob's bytes to `keep`, which must verify their digest (CorruptError) and returns the result.

        `keep` is called anew for each place that is asked, until one has given the right bytes.
        """

        def fetch(remote: Remote, attempts: int | None) -> T:
            tries = attempts or self._settings.attempts
            return keep(blob_chunks(remote.exchange, remote.path("blobs", blob.digest), blob, remote.scopes("pull"), tries))

        return self._first(fetch)

    def tags(self) -> Iterator[str]:
        """All tags of the registry's repository, page by page, in its order."""
        remote = self._own
        for page in self._pages(remote, f"listing the tags of {self.name}", remote.path("tags", "list")):
            tags = parse_json_object(page, "list of tags").get("tags") or []
            if not isinstance(tags, list):
                raise broken_protocol(remote.exchange.asked("listing tags"), "the tags are not a list")
            yield from (tag for tag in tags if isinstance(tag, str))

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """What refers to a manifest as its subject, perhaps of one artifact type only."""
        remote = self._own
        query = "?" + urlencode({"artifactType": artifact_type}) if artifact_type else ""
        what = f"listing the referrers of {digest}"
        try:
            pages = list(self._pages(remote, what, remote.path("referrers", digest) + query))
        except StatusError as error:
            if error.status not in (404, 405):
                raise
            old = self._fallback(digest)
            return parse_referrers(old, artifact_type) if old is not None else ()
        return tuple(item for data in pages for item in parse_referrers(data, artifact_type))

    # Writing

    def blob_size(self, digest: Digest) -> int | None:
        """The size of a blob that the registry's repository has; None where it lacks it."""
        remote = self._own
        reply = remote.exchange.request(
            f"asking for the blob {digest}", "HEAD", remote.path("blobs", digest), ok=(200, 404), scopes=remote.scopes("pull", "push")
        )
        reply.finish()
        return None if reply.status == 404 else (reply.length or 0)

    def push_blob(
        self,
        blob: Descriptor,
        open: Callable[[], BinaryIO],
        *,
        mount_from: Sequence[str] = (),
        on_bytes: Callable[[int], None] | None = None,
    ) -> str:
        """Bring a blob there: "sent", or "mounted" from one of the registry's own repositories `mount_from`."""
        remote = self._own
        tell: Callable[[int], None] = on_bytes or (lambda done: None)
        upload = Upload(
            exchange=remote.exchange,
            repository=remote.name,
            blob=blob,
            open=open,
            scopes=remote.scopes("pull", "push"),
            attempts=self._settings.attempts,
            chunk_bytes=self._settings.chunk_bytes,
            on_bytes=tell,
        )
        return upload.run(mount_from)

    def push_growing(self, blocks: Callable[[], Iterable[bytes]], digest: Callable[[], Digest]) -> bool:
        """Bring a blob there that is not complete yet, of which `blocks` gives the bytes; `digest` is asked at their end. One attempt.
        False where it turned out to be there."""
        remote = self._own
        return GrowingUpload(remote.exchange, remote.name, remote.scopes("pull", "push"), blocks).run(digest)

    def push_manifest(self, tag_or_digest: str, data: bytes, media_type: str) -> Digest:
        """Put a manifest or an index, and enter it with its subject where the registry does not do so itself."""
        remote, digest = self._own, digest_of(data)
        if len(data) > MAX_MANIFEST_BYTES:
            hint = "it has too many layers or annotations"
            raise ImageError(f"the manifest has {len(data)} bytes; registries take {MAX_MANIFEST_BYTES}", hint=hint)
        what = f"sending the manifest of {self._shown(tag_or_digest)}"
        reply = remote.exchange.request(
            what,
            "PUT",
            remote.path("manifests", tag_or_digest),
            ok=(201, 202, 200, 204),
            scopes=remote.scopes("pull", "push"),
            headers={"Content-Type": media_type},
            body=data,
        )
        reply.finish()
        said = reply.header("Docker-Content-Digest")
        if said and said.startswith("sha256:") and said != digest:
            raise broken_protocol(remote.exchange.asked(what), f"it kept the manifest as {said[:100]!r} and not as {digest}")
        if media_type in MANIFEST_TYPES and not reply.header("OCI-Subject"):
            self._enter_referrer(data, Descriptor(media_type, digest, len(data)))
        return digest

    # How

    def _first(self, ask: Callable[[Remote, int | None], T]) -> T:
        """The first remote's answer; errors of mirrors are passed over, and told where the registry fails as well."""
        passed: list[str] = []
        for remote in self._remotes[:-1]:
            try:
                return ask(remote, _MIRROR_ATTEMPTS)
            except (RegistryError, CorruptError, ImageError) as error:
                passed.append(f"mirror {remote.exchange.host}: {error.message}")
        try:
            return ask(self._own, None)
        except ImgbuildError as error:
            if passed:
                error.detail = "\n".join(filter(None, (*passed, error.detail)))
            raise

    def _get_manifest(self, remote: Remote, tag_or_digest: str, attempts: int | None) -> Fetched:
        what = f"fetching the manifest of {self._shown(tag_or_digest)}"
        path = remote.path("manifests", tag_or_digest)
        tries = attempts or self._settings.attempts
        for attempt in range(1, tries + 1):
            reply = remote.exchange.request(
                what, "GET", path, ok=(200,), scopes=remote.scopes("pull"), headers={"Accept": _ACCEPTED}, attempts=attempts
            )
            try:
                with reply:
                    return _checked(remote, what, tag_or_digest, reply, reply.body(MAX_MANIFEST_BYTES))
            except UnreachableError as error:
                if attempt == tries:
                    raise
                remote.exchange.pause(attempt, error.message)
        raise AssertionError("unreachable")

    def _pages(self, remote: Remote, what: str, path: str) -> Iterator[bytes]:
        """The bodies of a list's pages, following Link headers on the place's own origin (RFC 8288)."""
        seen: set[str] = set()
        target = path
        while target not in seen and len(seen) < _MAX_PAGES:
            seen.add(target)
            with remote.exchange.request(what, "GET", target, ok=(200,), scopes=remote.scopes("pull")) as reply:
                data = reply.body(_MAX_LIST)
                following = _NEXT.search(reply.header("Link"))
                url = urlsplit(urljoin(reply.url, following[1])) if following is not None else None
            if len(data) > _MAX_LIST:
                raise broken_protocol(remote.exchange.asked(what), "a page of the list is too long")
            yield data
            if url is None:
                return
            # Only path and query: a Link may not send us elsewhere, and behind a proxy its host is often wrong.
            target = f"{url.path}?{url.query}" if url.query else url.path

    def _enter_referrer(self, data: bytes, descriptor: Descriptor) -> None:
        """distribution-spec, "Pushing Manifests with Subject": without OCI-Subject in the answer the client keeps the list."""
        manifest = parse_manifest(data, descriptor.media_type)
        if manifest.subject is None:
            return
        subject = manifest.subject.digest
        index = index_bytes(with_referrer(self._fallback(subject), referrer(manifest, descriptor)))
        self.push_manifest(fallback_tag(subject), index, OCI_INDEX)

    def _fallback(self, subject: Digest) -> bytes | None:
        try:
            return self._get_manifest(self._own, fallback_tag(subject), None).data
        except StatusError as error:
            if error.status == 404:
                return None
            raise

    def _shown(self, tag_or_digest: str) -> str:
        return f"{self.registry}/{self.name}{'@' if ':' in tag_or_digest else ':'}{tag_or_digest}"


def _checked(remote: Remote, what: str, tag_or_digest: str, reply: Reply, data: bytes) -> Fetched:
    """A manifest that is what was asked for. What the registry says of its digest is checked, never taken for it."""
    asked = remote.exchange.asked(what)
    if len(data) > MAX_MANIFEST_BYTES:
        raise broken_protocol(asked, f"the manifest is longer than {MAX_MANIFEST_BYTES} bytes")
    if reply.length is not None and len(data) != reply.length:
        raise UnreachableError(f"{what} failed: the answer of {asked.host} ended after {len(data)} of {reply.length} bytes")
    wanted = tag_or_digest if ":" in tag_or_digest else reply.header("Docker-Content-Digest")
    algorithm = wanted.partition(":")[0] if wanted else "sha256"
    if algorithm not in hashlib.algorithms_available:
        raise broken_protocol(asked, f"a digest of an unknown kind, {wanted[:80]!r}")
    digest = parse_digest(f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}")
    if wanted and digest != wanted:
        raise CorruptError(f"{what} failed: {asked.host} sent one with the digest {digest} where {wanted} was expected")
    media_type = reply.header("Content-Type").partition(";")[0].strip()
    return Fetched(Descriptor(media_type, digest, len(data)), data)
