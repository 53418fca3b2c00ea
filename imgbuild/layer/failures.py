"""What the operating system refuses while a layer is read from or written into a directory, in words for a person."""

from __future__ import annotations

import errno
import os

from imgbuild.errors import ImgbuildError, LayerError, StoreError
from imgbuild.hints import Iterator
from imgbuild.light.contextlib import contextmanager
from imgbuild.light.pathlib import Path

_FULL = "`imgbuild du` shows what uses the space, `imgbuild prune` frees what nothing needs"
_REASONS: dict[int, tuple[str, str | None]] = {
    errno.ENOSPC: ("no space left", _FULL),
    errno.EDQUOT: ("the disk quota is used up", _FULL),
    errno.EROFS: ("the file system is read-only", "set IMGBUILD_ROOT to a directory that can be written"),
    errno.EACCES: ("no permission", None),
    errno.EPERM: ("not permitted", "the file system or the user may not allow devices, owners or attributes"),
    errno.EMFILE: ("too many open files", "raise the limit with `ulimit -n`"),
    errno.ENOTSUP: ("the file system can't keep these attributes", "set IMGBUILD_ROOT to ext4, XFS, btrfs or a recent tmpfs"),
    errno.EIO: ("the disk reports an error", "look at `dmesg`; the device may be failing"),
}
_MALFORMED = {
    errno.ENAMETOOLONG: "a name is too long",
    errno.EFBIG: "a file is larger than the file system allows",
    errno.ELOOP: "symlinks lead in a circle",
    errno.EMLINK: "a file has more hard links than the file system allows",
    errno.ENOTDIR: "something that is no directory stands where one is needed",
}


def explain(error: OSError, place: str) -> ImgbuildError:
    """The error for users that `error`, met at `place`, amounts to."""
    name = f" ({os.fsdecode(error.filename)!r:.300})" if isinstance(error.filename, str | bytes) else ""
    code = error.errno or 0
    if code in _MALFORMED:
        return LayerError(f"{_MALFORMED[code]}: {place}{name}")
    words, hint = _REASONS.get(code, (error.strerror or str(error), None))
    return StoreError(f"{words}: {place}{name}", hint=hint)


@contextmanager
def explained(place: Path | str) -> Iterator[None]:
    """Turns an OSError inside into the error for users, about `place`."""
    try:
        yield
    except OSError as error:
        raise explain(error, str(place)) from error
