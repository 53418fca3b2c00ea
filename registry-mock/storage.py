"""What the registry holds, as files below one root: blobs, and for each repository its links, manifests and tags.

    blobs/<algorithm>/<hex>                             the bytes, once for all repositories
    repositories/<name>/_blobs/<algorithm>/<hex>        empty: this repository has the blob
    repositories/<name>/_manifests/<algorithm>/<hex>    the media type, a newline, the bytes of the manifest
    repositories/<name>/_tags/<tag>                     a digest
    repositories/<name>/_uploads/<id>                   see `uploads`
    tmp/                                                written here, then renamed

A component of a repository name never starts with an underscore, so the two cannot be mixed up. There is no state in
memory: a restart finds everything. Renames make each file appear whole; nothing is fsynced, since a power cut is not
among the things that this server is there to survive.
"""

import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from names import Digest, is_tag, parse_digest, try_digest


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest as it was pushed, to the byte."""

    digest: Digest
    media_type: str
    content: bytes


class Store:
    """All repositories. One lock for whatever looks and then writes; reading needs none."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._repositories = root / "repositories"
        self._tmp = root / "tmp"
        self._lock = threading.RLock()
        for directory in (self._blobs, self._repositories, self._tmp):
            directory.mkdir(parents=True, exist_ok=True)

    def repository(self, name: str) -> Path:
        """The directory of a repository, whether it exists or not."""
        return self._repositories / name

    def exists(self, name: str) -> bool:
        """Whether anything was ever pushed to the repository; an upload that has only begun does not count."""
        directory = self.repository(name)
        return (directory / "_blobs").is_dir() or (directory / "_manifests").is_dir()

    def repositories(self) -> list[str]:
        """The names of all repositories, in the order of their bytes."""
        found = []
        for directory, children, _ in os.walk(self._repositories):
            if "_blobs" in children or "_manifests" in children:
                found.append(Path(directory).relative_to(self._repositories).as_posix())
            children[:] = [child for child in children if not child.startswith("_")]
        return sorted(found)

    # Blobs

    def blob(self, name: str, digest: Digest) -> Path | None:
        """The file of a blob that the repository has."""
        path = self._data(digest)
        return path if self._link(name, digest).exists() and path.exists() else None

    def publish_blob(self, name: str, digest: Digest, file: Path) -> None:
        """Take over a file that was verified against the digest; a second time is the same as once."""
        with self._lock:
            target = self._data(digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
            self._write(self._link(name, digest), b"")

    def mount_blob(self, name: str, source: str, digest: Digest) -> bool:
        """Link a blob that the source has; False where it has not."""
        with self._lock:
            if self.blob(source, digest) is None:
                return False
            self._write(self._link(name, digest), b"")
            return True

    def holders(self, digest: Digest) -> list[str]:
        """The repositories that have a blob."""
        return [name for name in self.repositories() if self._link(name, digest).exists()]

    def delete_blob(self, name: str, digest: Digest) -> bool:
        """Unlink the blob; its bytes go with the last link."""
        with self._lock:
            link = self._link(name, digest)
            if not link.exists():
                return False
            link.unlink()
            if not self.holders(digest):
                self._data(digest).unlink(missing_ok=True)
            return True

    # Manifests and tags

    def put_manifest(self, name: str, manifest: StoredManifest, tags: tuple[str, ...]) -> None:
        """Store a manifest, then point the tags at it, so that no tag is ever seen that leads nowhere."""
        with self._lock:
            content = manifest.media_type.encode() + b"\n" + manifest.content
            self._write(self._manifest(name, manifest.digest), content)
            for tag in tags:
                self._write(self._tag(name, tag), str(manifest.digest).encode())

    def manifest(self, name: str, digest: Digest) -> StoredManifest | None:
        """The manifest with this digest."""
        try:
            raw = self._manifest(name, digest).read_bytes()
        except FileNotFoundError:
            return None
        media_type, _, content = raw.partition(b"\n")
        return StoredManifest(digest, media_type.decode(), content)

    def manifests(self, name: str) -> Iterator[StoredManifest]:
        """All manifests of a repository, ordered by digest."""
        for path in sorted((self.repository(name) / "_manifests").glob("*/*")):
            digest = try_digest(f"{path.parent.name}:{path.name}")
            found = self.manifest(name, digest) if digest else None
            if found:
                yield found

    def delete_manifest(self, name: str, digest: Digest) -> bool:
        """Delete a manifest and the tags that point at it."""
        with self._lock:
            path = self._manifest(name, digest)
            if not path.exists():
                return False
            for tag in self.tags(name):
                if self.resolve(name, tag) == digest:
                    self._tag(name, tag).unlink()
            path.unlink()
            return True

    def tags(self, name: str) -> list[str]:
        """The tags of a repository, in the order of their bytes."""
        directory = self.repository(name) / "_tags"
        return sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []

    def resolve(self, name: str, tag: str) -> Digest | None:
        """What a tag points at; None for a text that could not be a tag."""
        if not is_tag(tag):
            return None
        try:
            return parse_digest(self._tag(name, tag).read_text())
        except FileNotFoundError:
            return None

    def delete_tag(self, name: str, tag: str) -> bool:
        """Delete a tag and leave its manifest."""
        with self._lock:
            if self.resolve(name, tag) is None:
                return False
            self._tag(name, tag).unlink()
            return True

    # Paths

    def _data(self, digest: Digest) -> Path:
        return self._blobs / digest.algorithm / digest.hex

    def _link(self, name: str, digest: Digest) -> Path:
        return self.repository(name) / "_blobs" / digest.algorithm / digest.hex

    def _manifest(self, name: str, digest: Digest) -> Path:
        return self.repository(name) / "_manifests" / digest.algorithm / digest.hex

    def _tag(self, name: str, tag: str) -> Path:
        return self.repository(name) / "_tags" / tag

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._tmp / uuid.uuid4().hex
        temporary.write_bytes(content)
        temporary.replace(path)
