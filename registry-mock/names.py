"""The grammar of names: repositories, tags and digests. Pure; everything that reaches the file system passes here.

What this module accepts holds no `..`, no empty path component and no leading dot, so a value made here may be joined
to a directory. It knows nothing of HTTP beyond the error that a bad name becomes.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from errors import RegistryError, digest_invalid, name_invalid

# distribution-spec 1.1, "Pulling manifests": the regular expressions of <name> and of <reference> as a tag.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
# The spec asks clients to keep host and name together under 256; a file name may not be longer either.
_NAME_LIMIT = 255
# image-spec, descriptor.md, "Registered Algorithms": lower-case hex of a fixed length.
_HEX_LENGTHS = {"sha256": 64, "sha512": 128}
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    """An algorithm that we can compute, and its lower-case hex."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


def parse_name(text: str) -> str:
    """The repository name, or NAME_INVALID."""
    if len(text) > _NAME_LIMIT or not _NAME.fullmatch(text):
        raise name_invalid(text)
    return text


def is_tag(text: str) -> bool:
    """Whether the text may name a tag."""
    return _TAG.fullmatch(text) is not None


def parse_digest(text: str) -> Digest:
    """The digest, or DIGEST_INVALID: also for an algorithm that is not registered, which we could not verify."""
    algorithm, _, value = text.partition(":")
    length = _HEX_LENGTHS.get(algorithm)
    if length is None or len(value) != length or not re.fullmatch(r"[0-9a-f]+", value):
        raise digest_invalid(text, "not a sha256 or sha512 digest")
    return Digest(algorithm, value)


def try_digest(text: str) -> Digest | None:
    """The digest, or None where the text is not one."""
    try:
        return parse_digest(text)
    except RegistryError:
        return None


def digest_of(content: bytes, algorithm: str = "sha256") -> Digest:
    """The digest of bytes that are at hand."""
    return Digest(algorithm, hashlib.new(algorithm, content).hexdigest())


def digest_of_file(path: Path, algorithm: str) -> Digest:
    """The digest of a file, read in blocks."""
    state = hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            state.update(block)
    return Digest(algorithm, state.hexdigest())
