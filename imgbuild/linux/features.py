"""What this kernel, and our rights on it, allow: probed once, by calls that change nothing, and passed on as a value.

Every fast path has a name by which it can be switched off (`SWITCHES`), so that tests run both ways.
"""

from __future__ import annotations

import os

from imgbuild.hints import Literal
from imgbuild.linux import syscalls
from imgbuild.values import dataclass

CgroupKind = Literal["v1", "v2", "hybrid", "none"]

SWITCHES = frozenset({
    "newmount", "lowerdirplus", "clone3", "openat2", "cgroup", "erofs", "mountsetattr", "spare", "replay", "records", "reads",
})  # fmt: skip
"""Names that IMGBUILD_DISABLE understands."""

_EROFS_FROM = (6, 15)
"""Linux takes a file as an EROFS since 6.12, a descriptor as an overlay's lower since 6.13, a mount that is not attached since 6.15."""
_CAP_SYS_ADMIN = 21


@dataclass(frozen=True, slots=True)
class Features:
    """What may be used. `root`: effective user 0; `rootless`: inside a user namespace other than the first one."""

    root: bool
    rootless: bool
    kernel: tuple[int, int]
    machine: str
    new_mount_api: bool
    lowerdir_plus: bool
    mount_setattr: bool
    clone3: bool
    openat2: bool
    cgroup: CgroupKind
    erofs: bool
    """That an EROFS in a file may be mounted, and its detached mount be an overlay's lower: as far as that can be known without doing it,
    which would load a module. Who is about to rely on it tries (rootfs.indexed)."""
    disabled: frozenset[str] = frozenset()
    spare: bool = False
    """That sandboxes may be made before they are asked for."""


def probe(disabled: frozenset[str] = frozenset()) -> Features:
    """Ask the kernel; costs well under a millisecond. Ask again after entering a user namespace."""
    kernel = _kernel_version(os.uname().release)
    root = os.geteuid() == 0
    rootless = not _initial_user_namespace()
    new_mount_api = "newmount" not in disabled and syscalls.available("fsmount") and syscalls.available("open_tree")
    lowerdir_plus = new_mount_api and "lowerdirplus" not in disabled and _has_lowerdir_plus(kernel)
    mount_setattr = new_mount_api and "mountsetattr" not in disabled and syscalls.available("mount_setattr")
    return Features(
        root=root,
        rootless=rootless,
        kernel=kernel,
        machine=os.uname().machine,
        new_mount_api=new_mount_api,
        lowerdir_plus=lowerdir_plus,
        mount_setattr=mount_setattr,
        clone3="clone3" not in disabled and syscalls.available("clone3"),
        openat2="openat2" not in disabled and syscalls.available("openat2"),
        cgroup="none" if "cgroup" in disabled else _cgroup_kind(),
        erofs="erofs" not in disabled and lowerdir_plus and mount_setattr and not rootless and kernel >= _EROFS_FROM and _may_mount(),
        disabled=disabled,
        spare="spare" not in disabled and mount_setattr,
    )


def _kernel_version(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    digits = rest[: next((i for i, c in enumerate(rest) if not c.isdigit()), len(rest))]
    return int(major), int(digits or 0)


def _initial_user_namespace() -> bool:
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return file.read().split() == [b"0", b"0", b"4294967295"]
    except OSError:
        return True


def _has_lowerdir_plus(kernel: tuple[int, int]) -> bool:
    """By an overlay context that is never made; by the version (6.7) where we may not open one."""
    try:
        context = syscalls.fsopen("overlay")
    except OSError:
        return kernel >= (6, 7)
    try:
        syscalls.fsconfig_set(context, "lowerdir+", "/")
    except OSError as error:
        return kernel >= (6, 7) and "nknown parameter" not in str(error)
    finally:
        os.close(context)
    return True


def _may_mount() -> bool:
    return bool(syscalls.capget()[0] >> _CAP_SYS_ADMIN & 1)


def _cgroup_kind() -> CgroupKind:
    kinds = set()
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                before, _, after = line.partition(" - ")
                if after.startswith(("cgroup ", "cgroup2 ")):
                    kinds.add((after.split(" ", 1)[0], before.split()[4]))
    except OSError:
        return "none"
    first = any(fstype == "cgroup" for fstype, _ in kinds)
    second = any(fstype == "cgroup2" for fstype, _ in kinds)
    if first:
        return "hybrid" if second else "v1"
    return "v2" if second else "none"
