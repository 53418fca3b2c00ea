"""Digests and the identities that are made of them (image-spec: descriptor.md "Digests", config.md "Layer ChainID")."""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.hints import TYPE_CHECKING, NewType
from imgbuild.patterns import ASCII, pattern

if TYPE_CHECKING:
    from collections.abc import Iterable
    from hashlib import sha256 as _sha256
else:
    # Python's own function, which is slower for many bytes; to load OpenSSL for a few takes 3 ms.
    try:
        from _sha2 import sha256 as _sha256
    except ImportError:
        try:
            from _sha256 import sha256 as _sha256
        except ImportError:
            from hashlib import sha256 as _sha256

_FEW = 1 << 14

Digest = NewType("Digest", str)
"""``algorithm:hex`` of a blob's bytes as stored, compressed or not."""

DiffID = NewType("DiffID", str)
"""``algorithm:hex`` of a layer's uncompressed tar."""

ChainID = NewType("ChainID", str)
"""The identity of a stack of layers, lowest first."""

_HEX = {"sha256": 64, "sha384": 96, "sha512": 128}
_DIGEST = pattern(r"(sha256|sha384|sha512):([0-9a-f]+)", ASCII)


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
    if len(data) <= _FEW:
        return Digest("sha256:" + _sha256(data).hexdigest())
    import hashlib

    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def chain_id(diff_ids: Iterable[DiffID]) -> ChainID:
    """The ChainID of layers given lowest first; "" for none."""
    chain = ""
    for diff_id in diff_ids:
        chain = digest_of(f"{chain} {diff_id}".encode()) if chain else diff_id
    return ChainID(chain)
