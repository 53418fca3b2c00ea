"""Causes that a step's output or its root file system speaks of: the program that is missing, the library, the host, the right. Pure.

`said` is asked where nothing that was measured explains the end. `setup` is what kept the command from being started, if it was not.
"""

from __future__ import annotations

from imgbuild.sandbox.spec import DEFAULT_PATH
from imgbuild.solve.causes import Cause, Evidence, FileFact, exit_notes, json_hint, kills_text, near_hint, right_notes, size_text
from imgbuild.values import replace

NOT_EXECUTABLE, NOT_FOUND = 126, 127
SHARED_MEMORY = "/dev/shm"
_MUSL = "ld-musl"
_NEARLY = 0.9
"""How much of a limit a peak must be, to have met it."""


def said(seen: Evidence, ended: str, setup: str) -> Cause:
    """The cause behind an exit code, or behind a command that did not start; where nothing is known, that it ended so."""
    code = seen.status.code
    cause = None
    if seen.program and (setup or code in (NOT_EXECUTABLE, NOT_FOUND) or seen.clue is not None):
        cause = _program(seen)
    if cause is None and seen.clue is not None and not setup:
        cause = _clued(seen)
    if cause is None:
        hint = json_hint(seen.op) if code in (NOT_EXECUTABLE, NOT_FOUND) else None
        return Cause("start" if setup else "exit", f"{ended}: {setup}" if setup else ended, exit_notes(seen.op, code), hint)
    if not cause.borne_out:
        hint = f"if that is why: {cause.hint}" if cause.hint else None
        return Cause("exit", ended, (*cause.notes, *exit_notes(seen.op, code)), hint)
    # A program that was not executed on the way to another end need not be the reason for that.
    earlier = seen.program and not setup and code not in (NOT_EXECUTABLE, NOT_FOUND) and seen.clue is not None and not seen.clue.last
    joint = "; before that," if earlier else ":"
    return replace(cause, message=f"{ended}{joint} {cause.message}", notes=(*cause.notes, *exit_notes(seen.op, code)))


def _program(seen: Evidence) -> Cause | None:
    """Why a program could not be executed, from what is in the root."""
    name, fact = seen.program, seen.files.get(seen.at, FileFact())
    if seen.at and _mount_of(seen, seen.at):
        return None  # what was there is not in the root
    if not seen.at or fact.kind == "missing":
        return _missing(seen)
    shown = f"{name!r}" if name == seen.at else f"{name!r} ({seen.at})"
    if fact.kind == "directory":
        return Cause("not-executable", f"{shown} is a directory", word=name)
    if fact.machine and seen.machine and fact.machine != seen.machine:
        hint = "build it for this machine, take a base with the right --platform, or install qemu-user-static on this machine"
        return Cause("machine", f"{shown} is a program for {fact.machine}, and this is {seen.machine}", hint=hint, word=name)
    if fact.interpreter and not fact.interpreter_there:
        return _interpreter(shown, name, fact)
    if fact.kind == "file" and not fact.mode & 0o111:
        hint = "make it executable: COPY --chmod=755, or RUN chmod +x"
        return Cause("not-executable", f"{shown} is not executable: its mode is {fact.mode & 0o7777:04o}", hint=hint, word=name)
    if fact.form in ("empty", "other") and seen.status.code == NOT_EXECUTABLE:
        what = "an empty file" if fact.form == "empty" else "neither a program nor a script that starts with #!"
        return Cause("not-executable", f"{shown} is {what}", word=name)
    if seen.status.code == NOT_EXECUTABLE and seen.op.user:
        return Cause("denied", f"{shown} may not be executed by {seen.op.user!r}", (_owner(seen.at, fact),), word=name)
    return None


def _missing(seen: Evidence) -> Cause:
    name = seen.program
    if name == "/bin/sh" and seen.status.setup_error:
        message = "the image has no shell: '/bin/sh' does not exist"
        return Cause("not-found", message, hint="use the exec form, RUN [\"program\", \"argument\"], or another base", word=name)
    hint = json_hint(seen.op) or near_hint(name, seen.near)
    if "/" in name:
        return Cause("not-found", f"{name!r} does not exist in the step's root", hint=hint, word=name)
    notes = [f"searched: PATH={':'.join(seen.searched)}"]
    if seen.elsewhere:
        notes.append(f"there is {seen.elsewhere[0]}, which is in no directory of PATH")
        hint = f"ENV PATH={seen.elsewhere[0].rpartition('/')[0]}:$PATH"
    return Cause("not-found", f"{name!r} was not found in PATH", tuple(notes), hint, word=name)


def _interpreter(shown: str, name: str, fact: FileFact) -> Cause:
    interpreter = fact.interpreter
    if fact.form == "script":
        message = f"{shown} is there, but the interpreter that its first line names, {interpreter!r}, is not"
        if interpreter.endswith("\r"):
            return Cause("interpreter", message, ("its first line ends in CR LF",), "save it with the line ends of Unix (LF)", name)
        return Cause("interpreter", message, hint="install the interpreter, or name another one", word=name)
    message = f"{shown} is there, but its loader {interpreter} (PT_INTERP) is not"
    if _MUSL in interpreter:
        hint = "it was built for musl, as of Alpine: take such a base, build it on this one, or link it statically"
    else:
        hint = "it was built for another C library: take a base with that (glibc: not Alpine), build it on this one, or link it statically"
    return Cause("loader", message, hint=hint, word=name)


def _clued(seen: Evidence) -> Cause | None:
    """What a line of the output speaks of, with what is known of that."""
    assert seen.clue is not None
    maker = _MAKERS.get(seen.clue.kind)
    if maker is None:
        return None
    cause = maker(seen, seen.clue.word)
    # The last line is seen as the last: it need not be said again.
    line = "" if seen.clue.last else f'"{seen.clue.line}"'
    if cause.borne_out:
        return replace(cause, notes=tuple(filter(None, (line and f"its output: {line}", *cause.notes))))
    return replace(cause, notes=(f"its output mentions {cause.message}{line and f': {line}'}", *cause.notes))


def _mentioned(kind: str, what: str, notes: tuple[str, ...] = (), hint: str | None = None) -> Cause:
    """What only the output speaks of."""
    return Cause(kind, what, notes, hint, borne_out=False)


def _library(seen: Evidence, word: str) -> Cause:
    there = [path for path in seen.elsewhere if path.rpartition("/")[2] == word]
    others = [path for path in seen.elsewhere if path.rpartition("/")[2] != word]
    if there:
        notes: tuple[str, ...] = (f"{there[0]} is there, where the loader did not look, or it can't be used",)
        hint = f"run ldconfig, or set LD_LIBRARY_PATH={there[0].rpartition('/')[0]}"
        if seen.status.code != NOT_FOUND:  # a loader's own end
            return _mentioned("library", f"that the loader did not find the library {word}", notes, hint)
    else:
        notes = (f"no directory for libraries in the step's root has {word}", *(f"there is {path}: another version" for path in others[:1]))
        hint = "install the package that has it"
    return Cause("library", f"the loader did not find the library {word}", notes, hint)


def _c_library(seen: Evidence, word: str) -> Cause:
    return _mentioned("library", f"a C library without {word}", hint="build it on this base or on an older one, or take a newer base")


def _space(seen: Evidence, word: str) -> Cause:
    place = _mount_of(seen, word)
    if place is not None and place[0] in _own_file_systems(seen):
        notes = (f"{word} is below {place[0]}, a file system of its own; the store's has room",)
        hint = "give it more: --shm-size, or --mount=..,size="
        return Cause("space", f"no space was left on the device: {place[0]} is full", notes, hint)
    notes = ("the store's file system has room now",)
    return _mentioned("space", "that no space was left on a device", notes, "free space, or try: imgbuild prune")


def _own_file_systems(seen: Evidence) -> tuple[str, ...]:
    """Where the step has file systems of a size of their own."""
    return (SHARED_MEMORY, *(mount.target for mount in seen.op.mounts if mount.kind == "tmpfs"))


def _inotify(seen: Evidence, word: str) -> Cause:
    return _mentioned("inotify", "a lack of inotify watches", hint="raise fs.inotify.max_user_watches of this machine")


def _quota(seen: Evidence, word: str) -> Cause:
    return _mentioned("space", "that a disk quota is used up", hint="raise the quota, or free space")


def _heap(seen: Evidence, word: str) -> Cause:
    limit, peak = seen.op.limits.memory, seen.status.usage.peak_memory
    notes = (
        f"the step's limit of memory is {size_text(limit)}" if limit is not None else "the step has no limit of memory",
        f"the most that it used was {size_text(peak)}; {kills_text(seen.status)}",
    )
    runtime = "heap" in word or "java" in word
    hint = "raise the limit of its runtime: NODE_OPTIONS=--max-old-space-size, -Xmx" if runtime else None
    if limit is not None and peak is not None and peak >= limit * _NEARLY:
        return Cause("memory", f"it got no more memory: limit {size_text(limit)}, peak {size_text(peak)}", notes, hint)
    return _mentioned("memory", "that it got no more memory", notes, hint)


def _fork(seen: Evidence, word: str) -> Cause:
    if seen.op.limits.pids is not None:
        notes = (f"the step's limit of processes is {seen.op.limits.pids}",)
        return Cause("processes", "it could not start a process", notes, "raise RUN --pids")
    return _mentioned("processes", "that it could not start a process", hint="see ulimit -u, and pids.max of its groups")


def _dns(seen: Evidence, word: str) -> Cause:
    what = f"the name {word!r} was not resolved" if " " not in word else "a name was not resolved"
    if seen.op.network == "none":
        return Cause("dns", f"{what}: the step has --network=none", hint="leave --network=none out, or fetch with ADD")
    if not seen.nameservers:
        return Cause("dns", what, ("no nameserver is in this machine's /etc/resolv.conf",), "give this machine a nameserver")
    notes = (f"nameservers of the step, as of this machine: {', '.join(seen.nameservers)}",)
    return _mentioned("dns", f"that {what}", notes, "is the network of this machine up, and the name right? it has the step's network, too")


def _connect(seen: Evidence, word: str) -> Cause:
    if seen.op.network == "none":
        return Cause("network", "the step has --network=none", hint="leave --network=none out, or fetch with ADD")
    hint = "proxies are given with --build-arg HTTPS_PROXY=.." if not seen.op.proxy else "a proxy is set: does it answer?"
    return _mentioned("network", f"the network: {word.lower()}", hint=hint)


def _tls(seen: Evidence, word: str) -> Cause:
    store = seen.files.get("/etc/ssl/certs")
    if store is not None and store.kind == "missing":
        return Cause("tls", "a certificate was not trusted", ("the step's root has no /etc/ssl/certs",), "install ca-certificates")
    hint = "is ca-certificates installed and new, and the machine's clock right?"
    return _mentioned("tls", "that a certificate was not trusted", hint=hint)


def _read_only(seen: Evidence, word: str) -> Cause:
    place = _mount_of(seen, word)
    if place is not None and place[1]:
        hint = "RUN --mount=..,rw makes a bind writable; what is written there is thrown away"
        return Cause("read-only", f"{word} is below the step's mount at {place[0]}, which is read-only", hint=hint)
    if word.startswith(("/proc", "/sys")) and seen.op.security != "insecure":
        return Cause("read-only", f"{word} is below /proc or /sys, which are read-only in steps", hint=right_notes(seen, "sysctl")[1])
    if word == "/etc/hosts":
        return Cause("read-only", f"{word} is the build's, and read-only", hint="name hosts with --add-host")
    return _mentioned("read-only", "a file system that is read-only")


def _no_call(seen: Evidence, word: str) -> Cause:
    assert seen.clue is not None
    notes, hint = right_notes(seen, seen.clue.line)
    if seen.op.security != "insecure":
        notes = (*notes, "the filter answers ENOSYS for system calls that it does not know")
    return _mentioned("no-call", "a system call that is not there", notes, hint)


def _not_permitted(seen: Evidence, word: str) -> Cause:
    notes, hint = right_notes(seen, word)
    if hint:
        return Cause("not-permitted", "something was not permitted", notes, hint)
    if seen.op.user:
        notes = (f"the step's user is {seen.op.user!r}", *notes)
        hint = "USER root before it, if it needs root"
    return _mentioned("not-permitted", "that something is not permitted", notes, hint)


def _denied(seen: Evidence, word: str) -> Cause:
    user = seen.op.user or "root"
    notes = (*(_owner(path, fact) for path, fact in seen.files.items()), f"the step's user is {user!r}")
    what = f"permission was denied for {word}" if word.startswith("/") else "permission was denied"
    if seen.op.user and any(fact.kind != "missing" and fact.mode & 0o7 != 0o7 for fact in seen.files.values()):
        return Cause("denied", what, notes, "USER root before it, or give the file to the user: COPY --chown, RUN chown")
    return _mentioned("denied", f"that {what}", notes)


def _owner(path: str, fact: FileFact) -> str:
    return f"{path} belongs to {fact.uid}:{fact.gid}, its mode is {fact.mode & 0o7777:04o}"


def _mount_of(seen: Evidence, path: str) -> tuple[str, bool] | None:
    """The innermost of the step's mounts that a path is in."""
    around = [mount for mount in seen.mounts if path == mount[0] or path.startswith(f"{mount[0].rstrip('/')}/")]
    return max(around, key=lambda mount: len(mount[0]), default=None)


_MAKERS = {
    "library": _library, "c-library": _c_library, "space": _space, "inotify": _inotify, "quota": _quota, "heap": _heap, "fork": _fork,
    "dns": _dns, "connect": _connect, "tls": _tls, "read-only": _read_only, "no-call": _no_call, "not-permitted": _not_permitted,
    "denied": _denied,
}  # fmt: skip


def searched(env: tuple[str, ...]) -> tuple[str, ...]:
    """The directories that a step's PATH names."""
    found = [entry.partition("=")[2] for entry in env if entry.startswith("PATH=")]
    return tuple((found[-1] if found else DEFAULT_PATH).split(":"))
