"""Symlinks inside an untrusted root, followed in userspace: nothing outside of the root is ever named.

The tree is whatever `readlink` can see: a stack of lowers, a filtered build context, a layer that is being planned.
"""

from __future__ import annotations

import errno
import os

from imgbuild.hints import Callable

MAX_LINKS = 40
"""As the kernel: path_resolution(7)."""


def resolve_inside(path: str, readlink: Callable[[str], str | None], follow_last: bool = True) -> str:
    """The real absolute path of `path` in a root: no component of it is a symlink, but the last where not `follow_last`.

    `readlink(real)` is the target of the symlink at a real path, and None where no symlink stands there. What is missing is
    kept as written, so that it can be made; ``..`` stops at the root, and goes up from where a symlink led. Raises OSError
    ELOOP after `MAX_LINKS` links.
    """
    real: list[str] = []
    pending = path.split("/")[::-1]
    links = 0
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if name == "..":
            if real:
                real.pop()
            continue
        real.append(name)
        if not follow_last and not any(rest not in ("", ".") for rest in pending):
            continue
        target = readlink("/" + "/".join(real))
        if target is None:
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        real.pop()
        if target.startswith("/"):
            real.clear()
        pending.extend(target.split("/")[::-1])
    return "/" + "/".join(real)
