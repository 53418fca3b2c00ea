"""Digests of what comes at once and piece by piece."""

from __future__ import annotations

import hashlib
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from imgbuild.oci.digest import Sha256, digest_of, sha256

PIECES = st.lists(st.one_of(st.binary(max_size=50), st.integers(0, 20_000).map(bytes)), max_size=6)


@given(PIECES)
def test_pieces_are_hashed_as_one(pieces: list[bytes]) -> None:
    data, hasher = b"", Sha256()
    for piece in pieces:
        data += piece
        hasher.update(memoryview(piece))
        assert hasher.hexdigest() == hashlib.sha256(data).hexdigest()
    assert hasher.digest() == hashlib.sha256(data).digest() == sha256(data).digest()
    assert digest_of(data) == f"sha256:{hasher.hexdigest()}"


def test_openssl_is_loaded_for_much_alone() -> None:
    program = (
        "import sys; from imgbuild.oci.digest import Sha256; hasher = Sha256(); hasher.update(bytes(9000)); hasher.hexdigest();"
        "few = 'hashlib' in sys.modules; hasher.update(bytes(9000)); print(few, 'hashlib' in sys.modules)"
    )
    environ = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout == "False True\n"
