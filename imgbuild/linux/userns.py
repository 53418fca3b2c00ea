"""Rootless: this process becomes root of a user namespace of its own, before it has threads.

The ids inside: 0 is the user; the others come from the user's ranges in /etc/subuid and /etc/subgid, mapped by newuidmap and newgidmap,
which a helper forked before runs from outside. Without ranges there is one id, and setgroups(2) is denied.
"""

from __future__ import annotations

import errno
import os
import pwd

from imgbuild.errors import SandboxError
from imgbuild.hints import Sequence
from imgbuild.linux import syscalls
from imgbuild.values import dataclass

_MS_SLAVE = 1 << 19


@dataclass(frozen=True, slots=True)
class IdRange:
    """`count` ids: `inside` and on in the namespace are `outside` and on in its parent."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class UserNamespace:
    """The ids that we have. `notice` says, where there is but one, why, and what to do."""

    uids: tuple[IdRange, ...]
    gids: tuple[IdRange, ...]
    notice: str = ""


def enter(search_path: str = "/usr/local/bin:/usr/bin:/bin", subuid: str = "/etc/subuid", subgid: str = "/etc/subgid") -> UserNamespace:
    """Enter a new user namespace, and a mount namespace whose mounts do not reach the host. SandboxError names what forbids it."""
    uid, gid = os.geteuid(), os.getegid()
    names = _names(uid)
    own_uid, own_gid = IdRange(0, uid, 1), IdRange(0, gid, 1)
    uids, gids = _stacked(own_uid, ranges(subuid, names)), _stacked(own_gid, ranges(subgid, names))
    tools = [_find(name, search_path) for name in ("newuidmap", "newgidmap")]
    notice = _why_one(names[0], uids, gids, tools)
    if notice or not tools[0] or not tools[1]:
        _unshare()
        _map_one(own_uid, own_gid)
        mapped = UserNamespace((own_uid,), (own_gid,), notice)
    else:
        _map_ranges((tools[0], uids), (tools[1], gids))
        mapped = UserNamespace(uids, gids)
    _check()
    return mapped


def join(pid: int) -> None:
    """Enter the user namespace of a process, as to enter its sandbox afterwards: possible for the user who made that namespace."""
    try:
        pidfd = syscalls.pidfd_open(pid)
        try:
            syscalls.setns(pidfd, syscalls.CLONE_NEWUSER)
        finally:
            os.close(pidfd)
    except OSError as error:
        hint = "only the user who started it can enter it" if error.errno == errno.EPERM else None
        raise SandboxError(f"the user namespace of process {pid} can't be entered: {error.strerror}", hint=hint) from None


def ranges(path: str, names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """(first, count) of all ranges that a subuid(5) file gives to one of `names` (login name, or id as text), in its order."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                parts = line.strip().split(":")
                if len(parts) == 3 and parts[0] in names and parts[1].isdigit() and parts[2].isdigit() and int(parts[2]):
                    found.append((int(parts[1]), int(parts[2])))
    except OSError:
        return ()
    return tuple(found)


def _names(uid: int) -> tuple[str, ...]:
    try:
        return (pwd.getpwuid(uid).pw_name, str(uid))
    except KeyError:
        return (str(uid),)


def _stacked(own: IdRange, given: Sequence[tuple[int, int]]) -> tuple[IdRange, ...]:
    result = [own]
    for outside, count in given:
        result.append(IdRange(result[-1].inside + result[-1].count, outside, count))
    return tuple(result)


def _find(name: str, search_path: str) -> str:
    for directory in search_path.split(":"):
        path = f"{directory}/{name}"
        if directory and os.access(path, os.X_OK):
            return path
    return ""


def _why_one(name: str, uids: Sequence[IdRange], gids: Sequence[IdRange], tools: Sequence[str]) -> str:
    if len(uids) < 2 or len(gids) < 2:
        file = "/etc/subuid" if len(uids) < 2 else "/etc/subgid"
        fix = f"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}"
        return f"only one user id is available, as {file} has no range for {name}: as root, {fix}"
    if not all(tools):
        return "only one user id is available, as newuidmap and newgidmap are missing: install the package uidmap (or shadow-utils)"
    return ""


def _unshare() -> None:
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    except OSError as error:
        raise SandboxError(f"a user namespace can't be made: {error.strerror}", hint=_what_forbids(error.errno)) from None


def _map_one(uid: IdRange, gid: IdRange) -> None:
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid.inside} {uid.outside} 1")
        _write("/proc/self/gid_map", f"{gid.inside} {gid.outside} 1")
    except OSError as error:
        raise SandboxError(f"ids can't be mapped: {error.strerror}", hint=_what_forbids(error.errno)) from None


def _map_ranges(*jobs: tuple[str, Sequence[IdRange]]) -> None:
    """Enter the namespace, and have a helper that stays outside map the ids."""
    pid = os.getpid()
    commands = [[tool, str(pid), *(str(n) for each in mapped for n in (each.inside, each.outside, each.count))] for tool, mapped in jobs]
    go_read, go_write = os.pipe()
    result_read, result_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go_write)
        os.close(result_read)
        _help(commands, go_read, result_write)
    os.close(go_read)
    os.close(result_write)
    try:
        _unshare()
        os.write(go_write, b"!")
    finally:
        os.close(go_write)
        words = _drain(result_read)
        os.close(result_read)
        os.waitpid(helper, 0)
    if words:
        raise SandboxError(f"ids can't be mapped: {words}", hint="check /etc/subuid and /etc/subgid, and that newuidmap is setuid root")


def _help(commands: Sequence[list[str]], go: int, result: int) -> None:
    """Run in the helper: when told to, run each command; what one says when it fails goes back. Never returns."""
    try:
        if os.read(go, 1):
            for command in commands:
                actions = [(os.POSIX_SPAWN_DUP2, result, 2)]
                pid = os.posix_spawn(command[0], command, {}, file_actions=actions)
                if os.waitpid(pid, 0)[1] != 0:
                    os.write(result, b" (%s)" % os.fsencode(command[0]))
                    break
    except OSError as error:
        os.write(result, str(error).encode())
    finally:
        os._exit(0)


def _drain(fd: int) -> str:
    pieces = []
    while piece := os.read(fd, 4096):
        pieces.append(piece)
    return " ".join(b"".join(pieces).decode(errors="replace").split())


def _check() -> None:
    """Whether the namespace gives rights, which AppArmor may take away again; and mounts no longer reach the host."""
    try:
        syscalls.mount(None, "/", None, syscalls.MS_REC | _MS_SLAVE)
    except OSError as error:
        raise SandboxError(f"the user namespace has no rights: {error.strerror}", hint=_what_forbids(error.errno)) from None


def _what_forbids(code: int | None) -> str:
    if _sysctl("kernel/unprivileged_userns_clone") == "0":
        return "as root: sysctl -w kernel.unprivileged_userns_clone=1"
    if _sysctl("user/max_user_namespaces") == "0" or code == errno.ENOSPC:
        return "as root: sysctl -w user.max_user_namespaces=15000"
    if _sysctl("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return "as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give imgbuild an AppArmor profile with userns"
    if code == errno.EINVAL:
        return "the kernel has no user namespaces (CONFIG_USER_NS), or this process has threads already"
    return "something around this process forbids it (a container's seccomp profile?): run as root, or allow user namespaces"


def _sysctl(name: str) -> str:
    try:
        with open(f"/proc/sys/{name}", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
