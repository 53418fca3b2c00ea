"""The last steps before a command: limits, identity, rights, and execve, with words for what can go wrong there.

Until execve /proc/self/exe is the host's Python (CVE-2019-5736). Others in the sandbox can't follow that link (`child`); what
is executed must not be reached through it, or its first code, a loader of the image, could open Python's file. That it might
still write to it, if the check is raced by a process of the same sandbox, is left to the kernel: a file that is being executed is
not opened for writing (ETXTBSY, but for Linux 6.11 and 6.12), and the zygote executes it for as long as there is a sandbox.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
import struct

from imgbuild.linux import syscalls
from imgbuild.sandbox.spec import DEFAULT_PATH, DEFAULT_RLIMITS, Process
from imgbuild.sandbox.wire import NOT_EXECUTABLE, NOT_FOUND

_MACHINES = {3: "i386", 8: "mips", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 258: "loongarch64"}


class CommandError(Exception):
    """The command can't be executed: the exit code that shells and container engines use, and why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def set_limits(process: Process) -> None:
    """Set resource limits: names as in getrlimit(2), with or without RLIMIT_. Those that nobody asked for have defaults."""
    asked = {_limit(name): (soft, hard) for name, soft, hard in process.rlimits}
    for name, soft, hard in DEFAULT_RLIMITS:
        number = _limit(name)
        if number not in asked:
            _limit_by_default(number, soft, hard)
    for number, limits in asked.items():
        resource.setrlimit(number, limits)


def _limit(name: str) -> int:
    number: int = getattr(resource, "RLIMIT_" + name.upper().removeprefix("RLIMIT_"))
    return number


def _limit_by_default(number: int, soft: int, hard: int) -> None:
    """As near to it as our own hard limit lets us come."""
    has = resource.getrlimit(number)
    if has == (soft, hard):
        return
    try:
        resource.setrlimit(number, (soft, hard))
    except (ValueError, OSError):
        highest = _lower(hard, has[1])
        resource.setrlimit(number, (_lower(soft, highest), highest))


def _lower(one: int, other: int) -> int:
    return max(one, other) if resource.RLIM_INFINITY in (one, other) else min(one, other)


def enter_directory(path: str) -> None:
    """Go to the working directory, making it if it is missing. Nothing but descriptors that are ours may be open: a
    path through /proc/self/fd must not lead out (CVE-2024-21626), so that the place is asked for again."""
    try:
        os.chdir(path)
    except FileNotFoundError:
        os.makedirs(path, 0o755, exist_ok=True)
        os.chdir(path)
    if not os.getcwd().startswith("/"):
        raise OSError(errno.ENOENT, "the working directory is outside the root", path)


def bound(process: Process, capabilities: int) -> None:
    """What can be taken from a process before it is quite the command: what its resource limits say (with all descriptors that it needs
    open), and the capabilities that no program shall give it back."""
    set_limits(process)
    _, permitted, _ = syscalls.capget()
    _drop_bounding(capabilities & permitted)


def become(process: Process, capabilities: int, seccomp: bytes) -> None:
    """Take on identity, capabilities and filter. The order matters: the bounding set (`bound`, before this) needs SETPCAP, groups need
    SETGID, which leaving user 0 takes away; a filter without no_new_privs needs SYS_ADMIN, and so comes before all of that."""
    if process.no_new_privileges:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    elif seccomp:
        syscalls.seccomp_filter(seccomp)
    _, permitted, _ = syscalls.capget()
    keep = capabilities & permitted
    identity = process.identity
    # With its own group among them, as runc's callers do it (CVE-2023-25173): else a set-gid program could shed the group.
    _set_groups((identity.gid, *(group for group in identity.groups if group != identity.gid)), needed=bool(identity.groups))
    syscalls.set_ids("setresgid", identity.gid)
    syscalls.set_ids("setresuid", identity.uid)
    # Another user than 0 would lose them at execve anyhow; nothing is inheritable, so that the ambient set is empty too.
    effective = keep if identity.uid == 0 else 0
    syscalls.capset(effective, effective, 0)
    if process.no_new_privileges and seccomp:
        syscalls.seccomp_filter(seccomp)


def execute(process: Process) -> None:
    """Replace this process by the command; CommandError says why that is not possible."""
    environment = _environment(process.env)
    program = process.argv[0] if process.argv else ""
    if not program:
        raise CommandError(NOT_FOUND, "the command is empty")
    if "/" in program:
        raise _try(program, process.argv, environment)
    seen: CommandError | None = None
    for directory in environment.get("PATH", DEFAULT_PATH).split(":"):
        error = _try(f"{directory or '.'}/{program}", process.argv, environment)
        if error.code == NOT_EXECUTABLE or (seen is None and not str(error).endswith(_MISSING)):
            seen = seen or error
    raise seen or CommandError(NOT_FOUND, f"{program}: not found in $PATH")


_MISSING = ": no such file"
_MAX_SCRIPTS = 6  # the kernel follows five, and gives up
_BLANKS = bytes.maketrans(b"\t\n\0", b"   ")


def _try(path: str, argv: tuple[str, ...], environment: dict[str, str]) -> CommandError:
    if _is_magic(os.fsencode(path)):
        return CommandError(NOT_EXECUTABLE, f"{path}: leads through a magic link of /proc")
    try:
        os.execve(path, argv, environment)
    except OSError as error:
        return _explained(path, error)


def _is_magic(path: bytes) -> bool:
    """Whether a program, or one that its #! names, is reached through a magic link, as /proc/self/exe is one."""
    for _ in range(_MAX_SCRIPTS):
        try:
            os.close(syscalls.openat2(syscalls.AT_FDCWD, path, os.O_PATH, syscalls.RESOLVE_NO_MAGICLINKS))
        except OSError as error:
            # A circle of symlinks is none, and leads nowhere.
            return error.errno == errno.ELOOP and os.path.exists(path)
        head = _head(path)
        # Without `re`: here nothing can be imported any more.
        path = head[2:].lstrip(b" \t").translate(_BLANKS).partition(b" ")[0] if head.startswith(b"#!") else b""
        if not path:
            return False
    return False


def _explained(path: str, error: OSError) -> CommandError:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        code = NOT_EXECUTABLE if error.errno in (errno.EACCES, errno.ELOOP) else NOT_FOUND
        reason = os.strerror(error.errno or 0).lower()
        return CommandError(code, path + _MISSING if error.errno in (errno.ENOENT, errno.ENOTDIR) else f"{path}: {reason}")
    if stat.S_ISDIR(mode):
        return CommandError(NOT_EXECUTABLE, f"{path}: is a directory")
    if error.errno == errno.ENOENT:
        return CommandError(NOT_FOUND, f"{path}: {_interpreter_of(path)}")
    if error.errno == errno.ENOEXEC:
        return CommandError(NOT_EXECUTABLE, f"{path}: {_format_of(path)}")
    if error.errno == errno.EACCES and not mode & 0o111:
        return CommandError(NOT_EXECUTABLE, f"{path}: is not executable (mode {stat.S_IMODE(mode):04o})")
    if error.errno == errno.E2BIG:
        return CommandError(NOT_EXECUTABLE, f"{path}: arguments and environment are too long")
    return CommandError(NOT_EXECUTABLE, f"{path}: {os.strerror(error.errno or 0).lower()}")


def _interpreter_of(path: str) -> str:
    head = _head(path)
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        name = os.fsdecode(words[0]) if words else ""
        return f"its interpreter {name!r} does not exist" + (" (the line ends in CR LF)" if name.endswith("\r") else "")
    return "its interpreter or loader does not exist (is it linked against another C library?)"


def _format_of(path: str) -> str:
    head = _head(path)
    if head.startswith(b"\x7fELF") and len(head) >= 20:
        (machine,) = struct.unpack_from(">H" if head[5] == 2 else "<H", head, 18)
        return f"is a program for {_MACHINES.get(machine, f'machine {machine}')}, and this is {os.uname().machine}"
    if not head:
        return "is an empty file"
    return "is neither a program nor a script that starts with #!"


def _head(path: str | bytes) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(fd, 256)
        finally:
            os.close(fd)
    except OSError:
        return b""


def _environment(entries: tuple[str, ...]) -> dict[str, str]:
    """Later entries win; one without "=" can't be passed on."""
    return dict(entry.split("=", 1) for entry in entries if "=" in entry[1:])


def _drop_bounding(keep: int) -> None:
    for bit in range(64):
        if keep >> bit & 1:
            continue
        try:
            syscalls.prctl(syscalls.PR_CAPBSET_DROP, bit)
        except OSError as error:
            if error.errno == errno.EINVAL:  # beyond the kernel's last
                return
            raise


def _set_groups(groups: tuple[int, ...], *, needed: bool) -> None:
    try:
        syscalls.set_groups(groups)
    except PermissionError:
        # In a user namespace with one id setgroups is denied; then there is nothing to drop but what the user has outside.
        if needed or _setgroups_allowed():
            raise


def _setgroups_allowed() -> bool:
    try:
        # As bytes: a codec would be imported, and the root is the sandbox's by now.
        with open("/proc/self/setgroups", "rb") as file:
            return file.read().strip() == b"allow"
    except OSError:
        return True
