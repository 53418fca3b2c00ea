"""Mounts as values: what is to be mounted, where, and how. Plans are lists of these; `attach` performs one.

By the new mount API (detached mounts, Linux 5.2, attributes 5.12) where features say so, else by mount(2). Sources are paths of the
host, or ``/proc/self/fd/N``; targets are resolved inside the new root.
"""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.hints import Callable, Iterator, Sequence, TracebackType
from imgbuild.light.contextlib import contextmanager, nullcontext, suppress
from imgbuild.linux import syscalls
from imgbuild.linux.features import Features
from imgbuild.linux.paths import Root, working_directory
from imgbuild.values import dataclass


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A file system to be made: its type and its options in order (None for a flag; another file system where the option takes a
    mount, which is then made for it, or given). `directory`, where given, is where relative paths in the options
    start, for kernels whose mount(2) takes one page of options."""

    fstype: str
    options: tuple[tuple[str, str | Filesystem | None], ...] = ()
    source: str = "none"
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Bind:
    """A directory or file of the host to be attached, with what is mounted below it where `recursive`."""

    source: str
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A file with this content, in memory: it exists only in the mount namespace, never on a disk."""

    data: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class Mount:
    """`what` at `target`, an absolute path inside the new root, resolved there with symlinks kept inside the root.

    `subpath` attaches only that directory or file of `what`, resolved inside it. The target must exist, but for one below another
    mount, which is made there if it can be.
    """

    what: Filesystem | Bind | File
    target: str
    subpath: str = ""
    read_only: bool = False
    nosuid: bool = False
    nodev: bool = False
    noexec: bool = False


_ASIDE = "/proc/fs"

_LONGEST_OPTION = 255
"""The bytes of an option's value that fsconfig(2) takes."""

# What statvfs(2) says of a mount, as mount(2) wants it: flags that a user namespace may not take off.
_KEPT_FLAGS = (
    (os.ST_RDONLY, syscalls.MS_RDONLY),
    (os.ST_NOSUID, syscalls.MS_NOSUID),
    (os.ST_NODEV, syscalls.MS_NODEV),
    (os.ST_NOEXEC, syscalls.MS_NOEXEC),
    (os.ST_NOATIME, syscalls.MS_NOATIME),
    (os.ST_NODIRATIME, syscalls.MS_NODIRATIME),
    (os.ST_RELATIME, syscalls.MS_RELATIME),
)


def attach(mount: Mount, root: Root, features: Features, stage: FileStage | None = None) -> None:
    """Perform one mount inside `root`; the mount namespace is ours alone. Several files in memory may share a `stage`."""
    try:
        if isinstance(mount.what, File):
            with FileStage(features) if stage is None else nullcontext(stage) as files:
                files.attach(mount.what, mount, root)
        elif _is_for_new(mount.what, features):
            _attach_new(mount.what, mount, root, features)
        else:
            _attach_old(mount.what, mount, root)
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        raise OSError(error.errno, f"{error.strerror} (for {mount.target})", name) from None


def attach_at(mount: Mount, place: int, root: Root, features: Features) -> None:
    """As `attach`, where the mount's target has been opened (O_PATH) as `place`."""
    if isinstance(mount.what, File) or mount.subpath or not _is_for_new(mount.what, features):
        attach(mount, root, features)
        return
    fd = open_mount(mount.what, _attributes(mount))
    try:
        syscalls.move_mount(fd, place)
    finally:
        os.close(fd)


def attach_itself(directory: int, name: str, features: Features) -> None:
    """Make an entry of a directory, which is no symlink, a mount of its own."""
    if not features.mount_setattr:
        path = f"/proc/self/fd/{directory}/{name}"
        _mount_old(Bind(path), path, 0)
        return
    fd = syscalls.open_tree(directory, name)
    try:
        syscalls.move_mount(fd, directory, name)
    finally:
        os.close(fd)


def attach_copy(directory: int, name: str, target: str, root: Root) -> None:
    """Attach a copy of the mount at an entry of a directory, and of all that is mounted below it. Only with the new API."""
    tree = syscalls.open_tree(directory, name, syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE)
    try:
        with _opened_target(target, root, lambda: True) as place:
            syscalls.move_mount(tree, place)
    finally:
        os.close(tree)


def attach_root(what: Filesystem | Bind, features: Features, *, nodev: bool = False, given: Sequence[int] = ()) -> int:
    """Mount a new root over "/"; returns its O_PATH descriptor, the caller's. "/" is a good stage: paths of the host still
    start below the mount, and no directory is needed. `given`: as for `open_mount`."""
    if _is_for_new(what, features):
        fd = open_mount(what, nodev * syscalls.MOUNT_ATTR_NODEV, let_go=_lay_aside, given=given)
        try:
            _move_over(fd, "/")
        except OSError:
            os.close(fd)
            raise
        return fd
    _mount_old(what, "/", 0)
    fd = _open_over_root()
    if nodev:
        _remount(fd, syscalls.MS_NODEV)
    return fd


def attach_aside(what: Filesystem) -> int:
    """Mount something where it is in nobody's way until it goes with the old root; returns its O_PATH descriptor, the caller's. Not over
    "/": what is mounted there on top of it would not be the last to be taken off. Only with the new API."""
    fd = open_mount(what)
    try:
        _move_over(fd, _ASIDE)
    except OSError:
        os.close(fd)
        raise
    return fd


def _is_for_new(what: Filesystem | Bind, features: Features) -> bool:
    """Whether the new API takes it: not too long an option, as a stack of lowers is where it is one. mount(2) has a page for them all."""
    if not features.mount_setattr or isinstance(what, Bind):
        return features.mount_setattr
    return all(not isinstance(value, str) or len(os.fsencode(value)) <= _LONGEST_OPTION for _, value in what.options)


def open_mount(what: Filesystem | Bind, attributes: int = 0, *, let_go: Callable[[int], None] = os.close, given: Sequence[int] = ()) -> int:
    """A detached mount of `what`: a descriptor that `move_mount` attaches, or that vanishes when it is closed. `given` are the first of
    the mounts that it is made of, detached, which stay the caller's; the others are made here, and closed by `let_go`."""
    if isinstance(what, Bind):
        flags = syscalls.OPEN_TREE_CLONE | (syscalls.AT_RECURSIVE if what.recursive else 0)
        fd = syscalls.open_tree(syscalls.AT_FDCWD, what.source, flags)
        return _with_attributes(fd, attributes, what.recursive)
    context = syscalls.fsopen(what.fstype)
    # The kernel makes private clones of mounts that it is given, but only when the file system is made.
    made: list[int] = []
    known = iter(given)
    try:
        with working_directory(what.directory):
            if what.source != "none":
                syscalls.fsconfig_set(context, "source", what.source)
            for key, value in what.options:
                if isinstance(value, Filesystem):
                    if (fd := next(known, -1)) < 0:
                        made.append(fd := open_mount(value))
                    syscalls.fsconfig_set(context, key, fd)
                else:
                    syscalls.fsconfig_set(context, key, value)
            syscalls.fsconfig_create(context)
        return syscalls.fsmount(context, attributes)
    finally:
        os.close(context)
        for fd in made:
            let_go(fd)


def _lay_aside(fd: int) -> None:
    """Close a detached mount without the wait for the other processors that its end costs, a millisecond or two while one of them forks:
    let it go with the old root, for which there is such a wait in any case."""
    with suppress(OSError):
        _move_over(fd, _ASIDE)
    os.close(fd)


def restrict(fd: int, features: Features, *, read_only: bool = False, nodev: bool = False) -> None:
    """Take rights from the mount whose root is `fd`, as a mount (its file system stays as it is elsewhere)."""
    flags = read_only * syscalls.MOUNT_ATTR_RDONLY | nodev * syscalls.MOUNT_ATTR_NODEV
    if features.mount_setattr:
        syscalls.mount_setattr(fd, flags)
    else:
        _remount(fd, flags)


class FileStage:
    """Where files in memory are made: a tmpfs aside, which goes with the old root; without the new API, one that is mounted over "/" for as
    long as it takes to bind them to their places."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self._whole = -1
        self._count = 0

    def __enter__(self) -> FileStage:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._whole < 0:
            return
        if not self._features.mount_setattr:
            syscalls.umount2(f"/proc/self/fd/{self._whole}", syscalls.MNT_DETACH)
        os.close(self._whole)

    def attach(self, what: File, mount: Mount, root: Root) -> None:
        """Make the file, and mount it as `mount` says."""
        if self._whole < 0:
            place = Filesystem("tmpfs", (("mode", "0700"),))
            self._whole = attach_aside(place) if self._features.mount_setattr else attach_root(place, self._features)
        name = f"file{self._count}"
        self._count += 1
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._whole)
        try:
            left = memoryview(what.data)
            while left:
                left = left[os.write(fd, left) :]
            os.fchown(fd, what.uid, what.gid)
            os.fchmod(fd, what.mode)
        finally:
            os.close(fd)
        bind = Bind(f"/proc/self/fd/{self._whole}/{name}")
        if self._features.mount_setattr:
            _attach_new(bind, mount, root, self._features)
        else:
            _attach_old(bind, mount, root)


def _attach_new(what: Filesystem | Bind, mount: Mount, root: Root, features: Features) -> None:
    attributes = _attributes(mount)
    fd = _open_part(what, mount.subpath, attributes, features) if mount.subpath else open_mount(what, attributes)
    try:
        with _opened_target(mount.target, root, lambda: stat.S_ISDIR(os.fstat(fd).st_mode)) as target:
            syscalls.move_mount(fd, target)
    finally:
        os.close(fd)


@contextmanager
def _opened_target(path: str, root: Root, is_directory: Callable[[], bool]) -> Iterator[int]:
    """The mount point, for the time of a with; made where it is missing, as it may be in a file system that was just mounted."""
    try:
        fd = root.open(path, os.O_PATH)
    except FileNotFoundError:
        if is_directory():
            fd = root.makedirs(path)
        else:
            root.forget()
            parent, name = root.open_parent(path, create=True)
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent))
            fd = root.open(path, os.O_PATH)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_part(what: Filesystem | Bind, subpath: str, attributes: int, features: Features) -> int:
    """A detached mount of `subpath` of what is mounted."""
    if isinstance(what, Bind):
        flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH | (syscalls.AT_RECURSIVE if what.recursive else 0)
        with Root.open_path(what.source, openat2=features.openat2) as whole, whole.opened(subpath, os.O_PATH) as part:
            return _with_attributes(syscalls.open_tree(part, b"", flags), attributes, what.recursive)
    # Parts of a detached file system can be cloned only since Linux 6.15: it is attached for the moment.
    with Root(open_mount(what), openat2=features.openat2) as whole:
        _move_over(whole.fd, "/")
        try:
            with whole.opened(subpath, os.O_PATH) as part:
                fd = syscalls.open_tree(part, b"", syscalls.OPEN_TREE_CLONE | syscalls.AT_EMPTY_PATH)
        finally:
            syscalls.umount2(f"/proc/self/fd/{whole.fd}", syscalls.MNT_DETACH)
    return _with_attributes(fd, attributes, recursive=False)


def _with_attributes(fd: int, attributes: int, recursive: bool) -> int:
    if attributes:
        try:
            syscalls.mount_setattr(fd, attributes, recursive=recursive)
        except OSError:
            os.close(fd)
            raise
    return fd


def _move_over(fd: int, path: str) -> None:
    stage = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.move_mount(fd, stage)
    finally:
        os.close(stage)


def _open_over_root() -> int:
    """What is mounted over "/": ".." stays at the root of the process, and then steps up into what is mounted there."""
    return os.open("/..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _attributes(mount: Mount) -> int:
    return (
        mount.read_only * syscalls.MOUNT_ATTR_RDONLY
        | mount.nosuid * syscalls.MOUNT_ATTR_NOSUID
        | mount.nodev * syscalls.MOUNT_ATTR_NODEV
        | mount.noexec * syscalls.MOUNT_ATTR_NOEXEC
    )


def _attach_old(what: Filesystem | Bind, mount: Mount, root: Root) -> None:
    # MOUNT_ATTR_* and MS_* agree in these four bits.
    flags = _attributes(mount)
    if mount.subpath:
        _attach_part_old(what, mount, root)
    else:
        with _opened_target(mount.target, root, lambda: _is_directory(what)) as target:
            _mount_old(what, f"/proc/self/fd/{target}", flags)
    if flags and (mount.subpath or isinstance(what, Bind)):
        # Opened again, the target is what was just mounted there.
        with root.opened(mount.target, os.O_PATH) as target:
            _remount(target, flags)
            if not isinstance(what, Bind) or not what.recursive:
                return
            from imgbuild.linux.mountinfo import points_below

            below = points_below(target)
        for point in below:
            with root.opened(point, os.O_PATH) as part:
                _remount(part, flags)


def _is_directory(what: Filesystem | Bind) -> bool:
    return isinstance(what, Filesystem) or stat.S_ISDIR(os.stat(what.source).st_mode)


def _attach_part_old(what: Filesystem | Bind, mount: Mount, root: Root) -> None:
    recursive = False
    if isinstance(what, Bind):
        recursive = what.recursive
        whole = Root.open_path(what.source, openat2=False)
    else:
        _mount_old(what, "/", 0)
        whole = Root(_open_over_root(), openat2=False)
    with whole:
        try:
            with whole.opened(mount.subpath, os.O_PATH) as part:
                with _opened_target(mount.target, root, lambda: stat.S_ISDIR(os.fstat(part).st_mode)) as target:
                    _mount_old(Bind(f"/proc/self/fd/{part}", recursive), f"/proc/self/fd/{target}", 0)
        finally:
            if isinstance(what, Filesystem):
                syscalls.umount2(f"/proc/self/fd/{whole.fd}", syscalls.MNT_DETACH)


def _mount_old(what: Filesystem | Bind, target: str, flags: int) -> None:
    """mount(2); of a bind mount the flags are the caller's to add by a remount."""
    if isinstance(what, Bind):
        syscalls.mount(what.source, target, None, syscalls.MS_BIND | (syscalls.MS_REC if what.recursive else 0))
        return
    if any(isinstance(value, Filesystem) for _, value in what.options):
        raise OSError(errno.EOPNOTSUPP, "mount(2) can't be given another mount")
    data = ",".join(key if value is None else f"{key}={value}" for key, value in what.options)
    with working_directory(what.directory):
        syscalls.mount(what.source, target, what.fstype, flags, data)


def _remount(fd: int, flags: int) -> None:
    """Add flags to a mount, keeping those that it has: taking off a locked one is EPERM in a user namespace."""
    has = os.fstatvfs(fd).f_flag
    kept = sum(wanted for seen, wanted in _KEPT_FLAGS if has & seen)
    syscalls.mount(None, f"/proc/self/fd/{fd}", None, syscalls.MS_REMOUNT | syscalls.MS_BIND | kept | flags)
