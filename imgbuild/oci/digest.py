"""Digests and the identities that are made of them (image-spec: descriptor.md "Digests", config.md "Layer ChainID")."""

from __future__ import annotations

from imgbuild.errors import ImageError
from imgbuild.hints import TYPE_CHECKING, NewType
from imgbuild.patterns import ASCII, pattern

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Iterable
    from hashlib import sha256 as _sha256

    Hash = hashlib._Hash
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
"""Bytes that Python's own function hashes sooner than OpenSSL is loaded."""

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
    return Digest("sha256:" + sha256(data).hexdigest())


def sha256(data: bytes | memoryview) -> Hash:
    """As that of `hashlib`, which is loaded for what is worth it."""
    if len(data) <= _FEW:
        return _sha256(data)
    import hashlib

    return hashlib.sha256(data)


class Sha256:
    """As `sha256`, of what comes piece by piece."""

    __slots__ = ("_few", "_hash")

    def __init__(self) -> None:
        self._few = bytearray()
        self._hash: Hash | None = None

    def update(self, data: bytes | memoryview) -> None:
        """Add to what is hashed."""
        if self._hash is None:
            if len(self._few) + len(data) <= _FEW:
                self._few += data
                return
            import hashlib

            self._hash = hashlib.sha256(self._few)
        self._hash.update(data)

    def digest(self) -> bytes:
        """The 32 bytes of all that there was so far."""
        return _sha256(self._few).digest() if self._hash is None else self._hash.digest()

    def hexdigest(self) -> str:
        """The same in hex."""
        return self.digest().hex()


def chain_id(diff_ids: Iterable[DiffID]) -> ChainID:
    """The ChainID of layers given lowest first; "" for none."""
    chain = ""
    for diff_id in diff_ids:
        chain = digest_of(f"{chain} {diff_id}".encode()) if chain else diff_id
    return ChainID(chain)
