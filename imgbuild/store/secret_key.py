"""The key of a store: 32 random bytes that digests of secrets are made with, so that these tell nobody outside of it anything.

The file has the key and its SHA-256, so that damage is told from another key; only its owner may read it. The first that needs a key makes
it, and no prune takes it out: with another key, each step that is given a secret is performed once more, and nothing else.
"""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.errors import CorruptError, StoreError
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import digest_of
from imgbuild.store.failures import REPAIR, explained
from imgbuild.store.locks import NamedLocks
from imgbuild.store.temporary import write_durably

NAME = "secret-key"
_SIZE = 32
_BLOCK = 64
_MODE = 0o600


def secret_key(root: Path, locks: NamedLocks, temporary: Path) -> bytes:
    """The key of the store at `root`, made where there is none: all processes get the same. Of a store that can't be written to, one of
    this process's own: nothing there was made with another. CorruptError where the file is damaged."""
    path = root / NAME
    if (key := _read(path)) is not None:
        return key
    made = os.urandom(_SIZE)
    try:
        with locks.hold("secret key"):
            if (key := _read(path)) is not None:
                return key
            write_durably(path, made + _sum(made), temporary, mode=_MODE)
    except StoreError:
        return made
    return made


def keyed_digest(key: bytes, message: bytes) -> str:
    """The HMAC of a message (RFC 2104), as ``hmac-sha256:`` and hex."""
    inner, outer = (bytes(byte ^ pad for byte in key.ljust(_BLOCK, b"\0")) for pad in (0x36, 0x5C))
    return f"hmac-{digest_of(outer + _raw(digest_of(inner + message)))}"


def problem(root: Path) -> str:
    """What is wrong with the key's file; "" where nothing is, or there is none."""
    try:
        _read(root / NAME)
        mode = stat.S_IMODE(os.lstat(root / NAME).st_mode)
    except FileNotFoundError:
        return ""
    except CorruptError as error:
        return error.message
    return f"its mode is {mode:04o}: others than its owner may use it" if mode & 0o077 else ""


def mend(root: Path) -> bool:
    """Keep the key for its owner alone; False where it is damaged, and has to go."""
    try:
        _read(root / NAME)
    except CorruptError:
        return False
    with explained(root / NAME):
        os.chmod(root / NAME, _MODE)
    return True


def _read(path: Path) -> bytes | None:
    """The key; None where there is no file."""
    with explained(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _damaged(path) from None
            raise
        try:
            data = os.read(descriptor, 2 * _BLOCK) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
        finally:
            os.close(descriptor)
    if len(data) != 2 * _SIZE or _sum(data[:_SIZE]) != data[_SIZE:]:
        raise _damaged(path)
    return data[:_SIZE]


def _damaged(path: Path) -> CorruptError:
    return CorruptError(f"{path}, which digests of secrets are made with, is damaged", hint=REPAIR)


def _sum(key: bytes) -> bytes:
    return _raw(digest_of(key))


def _raw(digest: str) -> bytes:
    return bytes.fromhex(digest.partition(":")[2])
