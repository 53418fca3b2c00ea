"""Names of images: ``registry/repository:tag@digest``, with the abbreviations that users of docker know.

Source: distribution's reference grammar (distribution/reference) and its rules for familiar names: no registry means
docker.io, one path component there means ``library/``, no tag and no digest means ``latest``.
"""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.oci.digest import Digest, parse_digest
from imgbuild.patterns import ASCII, pattern
from imgbuild.values import dataclass

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = pattern(rf"{_COMPONENT}(?:/{_COMPONENT})*", ASCII)
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = pattern(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?", ASCII)
_TAG = pattern(r"[\w][\w.-]{0,127}", ASCII)
_MAX_NAME = 255


@dataclass(frozen=True, slots=True)
class Reference:
    """A full reference: nothing left out but `tag` (where a digest names the image) or `digest`."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __str__(self) -> str:
        return self.name + self._suffix()

    @property
    def name(self) -> str:
        """``registry/repository``."""
        return f"{self.registry}/{self.repository}"

    def familiar(self) -> str:
        """As docker shows it: without docker.io and library/ where they are understood."""
        first, slash, _ = self.repository.partition("/")
        if self.registry != DEFAULT_REGISTRY or (slash and _is_registry(first)):
            return str(self)
        short = self.repository.removeprefix("library/")
        return (self.repository if "/" in short else short) + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def _is_registry(first: str) -> bool:
    """Whether the first part of a name can only be a registry's host, not the beginning of a repository."""
    return "." in first or ":" in first or first == "localhost" or first != first.lower()


def parse_reference(text: str) -> Reference:
    """Read a reference as users write it; ImageError with the reason where it is none."""
    if not text:
        raise ImageError("an image name is empty")
    rest, at, digest_text = text.partition("@")
    digest = parse_digest(digest_text) if at else None
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, ""
    elif not _TAG.fullmatch(tag):
        raise ImageError(f"invalid tag {tag!r} in {text!r}", hint="a tag has letters, digits, '_', '.', '-', at most 128")
    first, slash, remainder = path.partition("/")
    if slash and _is_registry(first):
        registry, repository = first, remainder
    else:
        registry, repository = DEFAULT_REGISTRY, path
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DEFAULT_REGISTRY
    if not _REGISTRY.fullmatch(registry):
        raise ImageError(f"invalid registry {registry!r} in {text!r}")
    if not _REPOSITORY.fullmatch(repository):
        hint = "a repository name must be lower-case" if repository != repository.lower() else None
        raise ImageError(f"invalid image name {text!r}", hint=hint)
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    if len(repository) > _MAX_NAME:
        raise ImageError(f"the image name {text[:40]!r}... is longer than {_MAX_NAME} characters")
    return Reference(registry, repository, tag or (None if digest else DEFAULT_TAG), digest)
