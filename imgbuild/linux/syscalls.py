"""System calls that Python's os module lacks, one wrapper each: declared argument types, OSError that names call and path.

Descriptors that come back are close-on-exec. What the kernel writes into a file system context's log (fsopen(2)) is part of
the error's text. Not here: decisions about which call to use (features, mounts, paths).
"""

from __future__ import annotations

import ctypes
import errno
import os

from imgbuild.hints import Iterable, Sequence

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x2_0000_0000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME, MS_NODIRATIME = 1024, 2048
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_RELATIME = 1 << 21
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_NOEXEC = 8

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

RESOLVE_NO_XDEV = 1
RESOLVE_NO_MAGICLINKS = 2
RESOLVE_NO_SYMLINKS = 4
RESOLVE_BENEATH = 8
RESOLVE_IN_ROOT = 16

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLOSE_RANGE_CLOEXEC = 4

SIGCHLD = 17

_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_SET_FD, _FSCONFIG_CMD_CREATE = 0, 1, 5, 6
_SECCOMP_SET_MODE_FILTER = 1
_CAPABILITY_VERSION_3 = 0x20080522

# Calls since 424 have one number on all architectures (except alpha); older ones are looked up by machine.
_OLD_NUMBERS = {
    "x86_64": {
        "rt_sigaction": 13, "clone": 56, "setgroups": 116, "setresuid": 117, "setresgid": 119, "capget": 125, "capset": 126,
        "pivot_root": 155, "gettid": 186, "seccomp": 317,
    },
    "aarch64": {
        "pivot_root": 41, "capget": 90, "capset": 91, "rt_sigaction": 134, "setresuid": 147, "setresgid": 149, "setgroups": 159,
        "gettid": 178, "clone": 220, "seccomp": 277,
    },
}
_NUMBERS = {
    **_OLD_NUMBERS.get(os.uname().machine, {}),
    "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "pidfd_open": 434,
    "clone3": 435, "close_range": 436, "openat2": 437, "mount_setattr": 442,
}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)
# For what forks: the interpreter's lock is kept, as in the child no other thread could give it back.
_forking = ctypes.PyDLL(None, use_errno=True)
_forking.syscall.restype = ctypes.c_long
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.sethostname.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)

Name = str | bytes | os.PathLike[str]


class _CloneArgs(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in (
        "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid", "set_tid_size", "cgroup",
    ))  # fmt: skip


class _MountAttr(ctypes.Structure):
    _fields_ = (("set", ctypes.c_uint64), ("clear", ctypes.c_uint64), ("propagation", ctypes.c_uint64), ("userns_fd", ctypes.c_uint64))


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _failure(call: str, path: Name | None = None, detail: str = "") -> OSError:
    code = ctypes.get_errno()
    text = f"{call}: {os.strerror(code)}" + (f" ({detail})" if detail else "")
    return OSError(code, text, os.fsdecode(path)) if path not in (None, "", b"") else OSError(code, text)


def _syscall(call: str, *arguments: ctypes.c_void_p | ctypes.c_long | ctypes.c_char_p) -> int:
    number = _NUMBERS.get(call)
    if number is None:
        ctypes.set_errno(errno.ENOSYS)
        return -1
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    return result


def _call(call: str, *arguments: ctypes.c_void_p | ctypes.c_long | ctypes.c_char_p, path: Name | None = None) -> int:
    result = _syscall(call, *arguments)
    if result < 0:
        raise _failure(call, path)
    return result


def _fork(call: str, *arguments: ctypes.c_void_p | ctypes.c_long) -> int:
    result: int = _forking.syscall(ctypes.c_long(_NUMBERS[call]), *arguments)
    return result


def _string(value: Name | None) -> ctypes.c_char_p:
    return ctypes.c_char_p(None if value is None else os.fsencode(value))


def _address(structure: ctypes.Structure | ctypes.Array[ctypes.c_uint32]) -> ctypes.c_void_p:
    return ctypes.c_void_p(ctypes.addressof(structure))


# --- processes and namespaces


def clone3(flags: int, *, pidfd: bool = True, cgroup: int | None = None, exit_signal: int = SIGCHLD) -> tuple[int, int]:
    """fork(2) with namespaces: (0, -1) in the child, (pid, pidfd) in the parent. Only for a process with one thread: none of
    Python's own fork hooks run. `cgroup` is a directory descriptor of a cgroup v2 group to be born in. With CLONE_PARENT
    the new process is a sibling, and `exit_signal` has to be 0."""
    opened = ctypes.c_int(-1)
    arguments = _CloneArgs(flags=flags, exit_signal=exit_signal)
    if pidfd:
        arguments.flags |= CLONE_PIDFD
        arguments.pidfd = ctypes.addressof(opened)
    if cgroup is not None:
        arguments.flags |= CLONE_INTO_CGROUP
        arguments.cgroup = cgroup
    pid = _fork("clone3", _address(arguments), ctypes.c_long(ctypes.sizeof(arguments)))
    if pid < 0:
        raise _failure("clone3")
    return pid, opened.value if pid else -1


def clone(flags: int, *, pidfd: bool = True, exit_signal: int = SIGCHLD) -> tuple[int, int]:
    """As `clone3`, by the older call (before Linux 5.3, or where a filter refuses clone3)."""
    opened = ctypes.c_int(-1)
    flags |= exit_signal | (CLONE_PIDFD if pidfd else 0)
    nothing = ctypes.c_long(0)
    pid = _fork("clone", ctypes.c_long(flags), nothing, ctypes.c_void_p(ctypes.addressof(opened)), nothing, nothing)
    if pid < 0:
        raise _failure("clone")
    return pid, opened.value if pid else -1


def unshare(flags: int) -> None:
    """Move this process into new namespaces."""
    if _libc.unshare(flags) < 0:
        raise _failure("unshare")


def setns(fd: int, flags: int) -> None:
    """Move this process into namespaces: of a pidfd by flags (Linux 5.8), or the one of a descriptor of /proc/PID/ns/*."""
    if _libc.setns(fd, flags) < 0:
        raise _failure("setns")


def default_signal(signum: int) -> None:
    """Give a signal its default action; also those that libc keeps for itself (32 and 33) and will not let anybody touch."""
    # struct sigaction of the kernel: handler, flags, restorer, mask; all of them zero.
    action = ctypes.create_string_buffer(32)
    pointer = ctypes.cast(action, ctypes.c_void_p)
    _call("rt_sigaction", ctypes.c_long(signum), pointer, ctypes.c_void_p(None), ctypes.c_long(8), path=str(signum))


def pidfd_open(pid: int) -> int:
    """A descriptor of a process."""
    return _call("pidfd_open", ctypes.c_long(pid), ctypes.c_long(0), path=str(pid))


def pidfd_send_signal(pidfd: int, signum: int) -> None:
    """Signal the process of a pidfd; ProcessLookupError when it is gone."""
    _call("pidfd_send_signal", ctypes.c_long(pidfd), ctypes.c_long(signum), ctypes.c_long(0), ctypes.c_long(0))


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace."""
    encoded = os.fsencode(name)
    if _libc.sethostname(encoded, len(encoded)) < 0:
        raise _failure("sethostname", name)


def prctl(option: int, second: int = 0, third: int = 0, fourth: int = 0, fifth: int = 0) -> int:
    """prctl(2) with integer arguments."""
    result: int = _libc.prctl(option, second, third, fourth, fifth)
    if result < 0:
        raise _failure(f"prctl({option}, {second})")
    return result


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this process's capabilities, as bit masks."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (effective, permitted, inheritable)
    data = (ctypes.c_uint32 * 6)(*(value & 0xFFFFFFFF for value in sets), *(value >> 32 for value in sets))
    _call("capset", _address(header), _address(data))


def set_groups(groups: Sequence[int]) -> None:
    """setgroups(2) for this thread. libc's waits for all threads that it knows of, and after a clone it knows those of the parent."""
    array = (ctypes.c_uint32 * len(groups))(*groups)
    _call("setgroups", ctypes.c_long(len(groups)), _address(array))


def set_ids(call: str, number: int) -> None:
    """``setresuid`` or ``setresgid``, all three ids alike, for this thread, as `set_groups`."""
    _call(call, *[ctypes.c_long(number)] * 3, path=str(number))


def capget() -> tuple[int, int, int]:
    """This process's effective, permitted and inheritable capabilities, as bit masks."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()
    _call("capget", _address(header), _address(data))
    return data[0] | data[3] << 32, data[1] | data[4] << 32, data[2] | data[5] << 32


def seccomp_filter(program: bytes) -> None:
    """Install a BPF program (struct sock_filter[]) as this thread's filter; needs no_new_privs or CAP_SYS_ADMIN."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _SockFprog(len(program) // 8, ctypes.addressof(buffer))
    _call("seccomp", ctypes.c_long(_SECCOMP_SET_MODE_FILTER), ctypes.c_long(0), _address(header))


def close_range(first: int, last: int = 0xFFFFFFFF, *, cloexec: bool = False) -> None:
    """Close all descriptors of a range (or mark them close-on-exec); before Linux 5.9 one by one."""
    flags = CLOSE_RANGE_CLOEXEC if cloexec else 0
    if _syscall("close_range", ctypes.c_long(first), ctypes.c_long(last), ctypes.c_long(flags)) == 0:
        return
    for name in os.listdir("/proc/self/fd"):
        if first <= int(name) <= last:
            try:
                os.set_inheritable(int(name), False) if cloexec else os.close(int(name))
            except OSError:  # the descriptor of the listing itself
                continue


def close_others(first: int, keep: Iterable[int]) -> None:
    """Close all descriptors from `first` on but those to be kept."""
    for fd in sorted(fd for fd in set(keep) if fd >= first):
        if fd > first:
            close_range(first, fd - 1)
        first = fd + 1
    close_range(first)


# --- files


def openat2(directory: int, path: Name, flags: int, resolve: int, mode: int = 0) -> int:
    """open(2) below a directory with rules of resolution (Linux 5.6). EAGAIN, a rename raced with the walk, is tried again."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    size = ctypes.c_long(ctypes.sizeof(how))
    for _ in range(128):
        fd = _syscall("openat2", ctypes.c_long(directory), _string(path), _address(how), size)
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    raise _failure("openat2", path)


# --- mounts


def mount(source: Name | None, target: Name, fstype: str | None = None, flags: int = 0, data: str | bytes | None = None) -> None:
    """mount(2)."""
    if _libc.mount(*(None if value is None else os.fsencode(value) for value in (source, target, fstype)), flags,
                   None if data is None else os.fsencode(data)) < 0:  # fmt: skip
        raise _failure(f"mount {os.fsdecode(fstype or source or '')}".rstrip(), target)


def umount2(target: Name, flags: int = 0) -> None:
    """umount2(2)."""
    if _libc.umount2(os.fsencode(target), flags) < 0:
        raise _failure("umount2", target)


def pivot_root(new_root: Name, put_old: Name) -> None:
    """pivot_root(2)."""
    _call("pivot_root", _string(new_root), _string(put_old), path=new_root)


def fsopen(fstype: str) -> int:
    """A context for a new file system of a type."""
    return _call("fsopen", _string(fstype), ctypes.c_long(_FSOPEN_CLOEXEC), path=fstype)


def fsconfig_set(context: int, key: str, value: Name | int | None = None) -> None:
    """Give a context one option; None for a flag, a number for a descriptor."""
    command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_FD if isinstance(value, int) else _FSCONFIG_SET_STRING
    text, fd = (None, value) if isinstance(value, int) else (value, 0)
    if _syscall("fsconfig", ctypes.c_long(context), ctypes.c_long(command), _string(key), _string(text), ctypes.c_long(fd)) < 0:
        raise _context_failure(context, f"fsconfig {key}", text)


def fsconfig_create(context: int) -> None:
    """Make the file system of a context."""
    command = ctypes.c_long(_FSCONFIG_CMD_CREATE)
    if _syscall("fsconfig", ctypes.c_long(context), command, _string(None), _string(None), ctypes.c_long(0)) < 0:
        raise _context_failure(context, "fsconfig create")


def fsmount(context: int, attributes: int = 0) -> int:
    """A detached mount of a context's file system, with MOUNT_ATTR_* bits."""
    fd = _syscall("fsmount", ctypes.c_long(context), ctypes.c_long(_FSMOUNT_CLOEXEC), ctypes.c_long(attributes))
    if fd < 0:
        raise _context_failure(context, "fsmount")
    return fd


def open_tree(directory: int, path: Name, flags: int = OPEN_TREE_CLONE) -> int:
    """A detached copy of the mount at a path (all below it with AT_RECURSIVE)."""
    return _call("open_tree", ctypes.c_long(directory), _string(path), ctypes.c_long(flags | os.O_CLOEXEC), path=path)


def move_mount(mount_fd: int, target: int, name: Name = b"") -> None:
    """Attach a detached mount to the file or directory of a descriptor, or to `name` in it."""
    flags = ctypes.c_long(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    _call("move_mount", ctypes.c_long(mount_fd), _string(b""), ctypes.c_long(target), _string(name), flags)


def mount_setattr(mount_fd: int, set_: int = 0, clear: int = 0, *, recursive: bool = False, propagation: int = 0, userns: int = 0) -> None:
    """Change a mount's MOUNT_ATTR_* bits (Linux 5.12)."""
    attributes = _MountAttr(set_, clear, propagation, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    size = ctypes.c_long(ctypes.sizeof(attributes))
    _call("mount_setattr", ctypes.c_long(mount_fd), _string(b""), ctypes.c_long(flags), _address(attributes), size)


def available(call: str) -> bool:
    """Whether the kernel (and any seccomp filter) knows a call: asked by arguments that can't succeed."""
    first = -1 if call in ("openat2", "mount_setattr", "open_tree", "move_mount", "fsmount") else 1 if call == "close_range" else 0
    arguments = (ctypes.c_long(first), *(ctypes.c_long(min(first, 0)),) * 4)
    return _syscall(call, *arguments) >= 0 or ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM)


def _context_failure(context: int, call: str, value: Name | None = None) -> OSError:
    """The error with the kernel's own words, which wait in the context: lines of "e text", "w text", "i text"."""
    code = ctypes.get_errno()
    lines = []
    while True:
        try:
            line = os.read(context, 4096)
        except OSError:
            break
        lines.append(line.decode(errors="replace").strip().removeprefix("e ").removeprefix("w ").removeprefix("i "))
    ctypes.set_errno(code)
    return _failure(call, value, "; ".join(lines))
