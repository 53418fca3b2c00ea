"""Digests and the identities that are made of them (image-spec: descriptor.md "Digests", config.md "Layer ChainID")."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import NewType

from imgbuild.errors import ImageError

Digest = NewType("Digest", str)
"""``algorithm:hex`` of a blob's bytes as stored, compressed or not."""

DiffID = NewType("DiffID", str)
"""``algorithm:hex`` of a layer's uncompressed tar."""

ChainID = NewType("ChainID", str)
"""The identity of a stack of layers, lowest first."""

_HEX = {"sha256": 64, "sha384": 96, "sha512": 128}
_DIGEST = re.compile(r"(sha256|sha384|sha512):([0-9a-f]+)", re.ASCII)


def parse_digest(text: object) -> Digest:
    """Check `text` and give it its type; ImageError where it is no digest of an algorithm we can verify."""
    match = _DIGEST.fullmatch(text) if isinstance(text, str) else None
    if match is None or len(match[2]) != _HEX[match[1]]:
        raise ImageError(f"not a digest: {text!r}", hint="a digest is sha256: and 64 lower-case hex digits")
    return Digest(match[0])


def parse_diff_id(text: object) -> DiffID:
    """As `parse_digest`, for the digest of an uncompressed layer."""
    return DiffID(parse_digest(text))


def digest_of(data: bytes) -> Digest:
    """The sha256 digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def chain_id(diff_ids: Iterable[DiffID]) -> ChainID:
    """The ChainID of layers given lowest first; "" for none."""
    chain = ""
    for diff_id in diff_ids:
        chain = digest_of(f"{chain} {diff_id}".encode()) if chain else diff_id
    return ChainID(chain)
