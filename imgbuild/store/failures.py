"""What the operating system refuses, said in terms of the store: which file, and what a person can do about it."""

from __future__ import annotations

import errno

from imgbuild.errors import CorruptError, StoreError
from imgbuild.hints import Iterator
from imgbuild.light.contextlib import contextmanager
from imgbuild.light.pathlib import Path
from imgbuild.oci.digest import Digest


class NoSpaceError(StoreError):
    """The disk is full, or the quota used up."""

    reference = "no-space"


class IndexDamagedError(StoreError):
    """index.db is damaged, another program's, or of another version: only a new one helps."""

    reference = "index-damaged"


REPAIR = "run `imgbuild fsck --repair`, then build or pull again"

PRUNE = "`imgbuild du` shows what uses it, `imgbuild prune` frees what nothing needs"

_REASONS = {
    errno.ENOSPC: ("no space left for", PRUNE),
    errno.EDQUOT: ("the disk quota is used up for", PRUNE),
    errno.EROFS: ("the file system is read-only at", "set IMGBUILD_ROOT to a directory that can be written"),
    errno.EACCES: ("no permission for", "the store belongs to another user: set IMGBUILD_ROOT to a directory of your own"),
    errno.EPERM: ("not permitted at", "it may be immutable (see lsattr) or belong to another user"),
    errno.EMFILE: ("too many open files at", "raise the limit with `ulimit -n`"),
    errno.EIO: ("the disk reports an error at", "look at `dmesg`; the device may be failing"),
    errno.ENOTDIR: ("a file stands where the store needs a directory:", "set IMGBUILD_ROOT to a directory"),
}


def explain(error: OSError, path: Path) -> StoreError:
    """The error for users that `error`, met at `path`, amounts to."""
    at = path if error.filename is None or not isinstance(error.filename, str) else error.filename
    words, hint = _REASONS.get(error.errno or 0, ("can't use", None))
    kind = NoSpaceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreError
    return kind(f"{words} {at}", hint=hint, detail=error.strerror or str(error))


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns an OSError inside into a StoreError about `path` (or the file that the error itself names)."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def missing_blob(digest: Digest) -> CorruptError:
    """The error for a blob that something in the store refers to and that is not there."""
    return CorruptError(f"the blob {digest} is missing from the store", hint=REPAIR)
