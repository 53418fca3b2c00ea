"""Which extended attributes belong to a layer, and in which form.

Kept: `security.capability`, POSIX ACLs (`system.posix_acl_*`) and `user.*`: what a program inside the image can set and see, and
what every unpacker may restore. Not kept: `security.selinux`, `security.ima`, `security.evm`, `security.apparmor` and
their like are the host's policy, not the image's; `trusted.*` can't be restored without privileges, and the image bytes must not
depend on them; overlay's own, `trusted.overlay.*` and `user.overlay.*`, are how lowers are stored.
Only files and directories have them here: `user.*` exists on nothing else.
"""

from __future__ import annotations

import os

from imgbuild.hints import Mapping

Xattrs = tuple[tuple[bytes, bytes], ...]
"""Name and value, sorted by name."""

_CAPABILITY = "security.capability"
_KEPT = (_CAPABILITY, "system.posix_acl_access", "system.posix_acl_default")
_CAPABILITY_V2, _CAPABILITY_V3 = 2, 3
_CAPABILITY_V2_BYTES = 20


def read_xattrs(fd: int) -> dict[str, bytes]:
    """All extended attributes of an open file or directory; none where the file system has none."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return {}
    return {name: os.getxattr(fd, name) for name in names}


def portable(raw: Mapping[str, bytes]) -> Xattrs:
    """Those that belong to a layer, as they are written there."""
    if not raw:
        return ()
    kept = ((os.fsencode(name), _form(name, value)) for name, value in raw.items() if is_kept(name))
    return tuple(sorted(kept))


def is_kept(name: str) -> bool:
    """Whether an attribute of this name belongs to a layer."""
    return name in _KEPT or (name.startswith("user.") and not name.startswith("user.overlay."))


def _form(name: str, value: bytes) -> bytes:
    """File capabilities without the user namespace that they were set in: version 3 becomes 2, the root id is left out
    (linux/capability.h). What they mean is said anew by whoever unpacks the layer."""
    if name == _CAPABILITY and len(value) > _CAPABILITY_V2_BYTES and value[3] == _CAPABILITY_V3:
        return value[:3] + bytes((_CAPABILITY_V2,)) + value[4:_CAPABILITY_V2_BYTES]
    return value
