"""What a new sandbox does to its mount namespace: root, /proc, /sys, /dev, mounts, masks, pivot_root. From a `Plan`, in order."""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.hints import Callable, Sequence
from imgbuild.light.contextlib import suppress
from imgbuild.linux import syscalls
from imgbuild.linux.features import Features
from imgbuild.linux.mounts import (
    Bind,
    FileStage,
    Filesystem,
    Mount,
    attach,
    attach_aside,
    attach_at,
    attach_copy,
    attach_itself,
    attach_root,
    restrict,
)
from imgbuild.linux.paths import Root
from imgbuild.sandbox.plan import DEVICE_DIRECTORIES, DEVICE_LINKS, DEVICES, Plan, check_target

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


def build(plan: Plan, features: Features, stage: Callable[[str], None], lowers: Sequence[int] = ()) -> Root:
    """Mount everything; returns the new root. `stage` is told what is being done, for the error's words; `lowers` are the first of those
    that the root is made of, mounted, and closed here."""
    _leave_the_host(stage)
    root = _mount_root(plan, features, stage, lowers)
    _furnish(plan, root, features, stage)
    _complete(plan, root, features, stage)
    return root


def prepare(plan: Plan, features: Features, stage: Callable[[str], None]) -> Root:
    """Mount what does not depend on the root, on a stage aside, whose root this returns. Needs the new mount API."""
    _leave_the_host(stage)
    stage("mounting a stage")
    root = Root(attach_aside(Filesystem("tmpfs", (("mode", "755"),), source="tmpfs")), openat2=features.openat2)
    for mount in plan.system_mounts:
        os.mkdir(mount.target[1:], 0o755, dir_fd=root.fd)
    _furnish(plan, root, features, stage)
    return root


def finish(prepared: Root, plan: Plan, features: Features, stage: Callable[[str], None], lowers: Sequence[int] = ()) -> Root:
    """Mount the root, what was prepared, and the rest; as after `build` then. Copies, as mounts are listed by their age, the root first."""
    root = _mount_root(plan, features, stage, lowers)
    for mount in plan.system_mounts:
        stage(f"mounting {mount.target}")
        attach_copy(prepared.fd, mount.target[1:], mount.target, root)
    prepared.close()
    _complete(plan, root, features, stage)
    return root


def _leave_the_host(stage: Callable[[str], None]) -> None:
    stage("making mounts private")
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)


def _mount_root(plan: Plan, features: Features, stage: Callable[[str], None], lowers: Sequence[int]) -> Root:
    stage("mounting the root")
    root = attach_root(plan.root, features, nodev=not plan.all_devices, given=lowers)
    for fd in lowers:
        os.close(fd)
    return Root(root, openat2=features.openat2)


def _furnish(plan: Plan, root: Root, features: Features, stage: Callable[[str], None]) -> None:
    """The plan's foundation: /proc, /sys and /dev, as the sandbox is to see them."""
    for mount in plan.system_mounts:
        stage(f"mounting {mount.target}")
        attach(mount, root, features)
    stage("filling /dev")
    _fill_dev(plan, root, features)
    for mount in plan.device_mounts:
        stage(f"mounting {mount.target}")
        attach(mount, root, features)
    for name, value in plan.sysctl:
        stage(f"setting sysctl {name}")
        with root.opened("/proc/sys/" + name.replace(".", "/"), os.O_WRONLY) as fd:
            os.write(fd, value.encode())
    with root.opened("/dev/null", os.O_PATH) as null:
        for path in plan.masked:
            stage(f"masking {path}")
            _mask(path, root, features, null)
    for path in plan.read_only:
        stage(f"making {path} read-only")
        _bind_read_only(path, root, features)


def _complete(plan: Plan, root: Root, features: Features, stage: Callable[[str], None]) -> None:
    """What this one sandbox has more: none of it lies in /proc or /sys."""
    with FileStage(features) as files:
        for mount in plan.mounts:
            stage(f"mounting {mount.target}")
            _check_place(mount, root)
            attach(mount, root, features, files)
    if plan.read_only_root:
        stage("making the root read-only")
        restrict(root.fd, features, read_only=True)


def enter(root: Root) -> None:
    """Make the new root "/" and let go of the old one; nothing of the host can be reached by a path afterwards."""
    os.fchdir(root.fd)
    root.close()
    # The old root comes to lie over the new one, and is taken off: no directory for it is needed.
    syscalls.pivot_root(".", ".")
    syscalls.umount2(".", syscalls.MNT_DETACH)
    os.chdir("/")


def _fill_dev(plan: Plan, root: Root, features: Features) -> None:
    """Nodes that are the sandbox's own, so that who changes their mode changes nothing of the host. Each is a mount of its own, from the
    time before its directory lost all devices: it can be opened, and a node that is made beside it can't."""
    with root.opened("/dev", os.O_RDONLY | os.O_DIRECTORY) as dev:
        for name in DEVICE_DIRECTORIES:
            os.mkdir(name, 0o755, dir_fd=dev)
        for name, target in DEVICE_LINKS:
            os.symlink(target, name, dir_fd=dev)
        for name, major, minor in DEVICES:
            if plan.bind_devices or not _make_node(dev, name, major, minor):
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666, dir_fd=dev))
                # Writing to a device is no change of the file system that its node is in; a chmod is.
                attach(Mount(Bind(f"/dev/{name}"), f"/dev/{name}", read_only=True), root, features)
            elif not plan.all_devices:
                attach_itself(dev, name, features)
        if not plan.all_devices:
            restrict(dev, features, nodev=True)


def _make_node(dev: int, name: str, major: int, minor: int) -> bool:
    """Make a device node; False where even root may not, as in a container that has no such capability."""
    try:
        os.mknod(name, 0o666 | 0o020000, os.makedev(major, minor), dir_fd=dev)
    except PermissionError:
        return False
    return True


def _check_place(mount: Mount, root: Root) -> None:
    """What the plan checked, once more where symlinks of the root lead. A target that is missing is made, which it can't be in /proc."""
    with suppress(FileNotFoundError), root.opened(mount.target, os.O_PATH) as fd:
        # The root lies over "/": a path of the kernel's is one from there.
        check_target(mount.target, os.readlink(f"/proc/self/fd/{fd}"))


def _mask(path: str, root: Root, features: Features, null: int) -> None:
    """Hide a path, if there is one: a file below the sandbox's /dev/null, a directory below an empty read-only tmpfs."""
    try:
        place = root.open(path, os.O_PATH)
    except OSError as error:
        if error.errno in _ABSENT:
            return
        raise
    try:
        directory = stat.S_ISDIR(os.fstat(place).st_mode)
        what = Filesystem("tmpfs", source="tmpfs") if directory else Bind(f"/proc/self/fd/{null}")
        attach_at(Mount(what, path, read_only=True, nodev=directory), place, root, features)
    finally:
        os.close(place)


def _bind_read_only(path: str, root: Root, features: Features) -> None:
    try:
        with root.opened(path, os.O_PATH) as fd:
            attach_at(Mount(Bind(f"/proc/self/fd/{fd}", recursive=True), path, read_only=True), fd, root, features)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
