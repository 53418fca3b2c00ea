"""Causes that a step's output or its root file system speaks of: the program that is missing, the library, the host, the right. Pure.

`said` is asked where nothing that was measured explains the end. `setup` is what kept the command from being started, if it was not.
"""

from __future__ import annotations

from imgbuild.sandbox.spec import DEFAULT_PATH
from imgbuild.solve.causes import Cause, Evidence, FileFact, exit_notes, json_hint, kills_text, near_hint, right_notes, size_text
from imgbuild.values import replace

NOT_EXECUTABLE, NOT_FOUND = 126, 127
_MUSL = "ld-musl"


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
    assert seen.clue is not None
    maker = _MAKERS.get(seen.clue.kind)
    if maker is None:
        return None
    # The last line is seen as the last: it need not be said again.
    quote = "" if seen.clue.last else f'its output: "{seen.clue.line}"'
    cause = maker(seen, seen.clue.word, quote)
    return replace(cause, notes=tuple(filter(None, cause.notes)))


def _library(seen: Evidence, word: str, quote: str) -> Cause:
    notes, hint = [quote], "install the package that has it"
    there = [path for path in seen.elsewhere if path.rpartition("/")[2] == word]
    others = [path for path in seen.elsewhere if path.rpartition("/")[2] != word]
    if there:
        notes.append(f"{there[0]} is there, where the loader did not look, or it can't be used")
        hint = f"run ldconfig, or set LD_LIBRARY_PATH={there[0].rpartition('/')[0]}"
    else:
        notes.append(f"no directory for libraries in the step's root has {word}")
        notes += [f"there is {path}: another version" for path in others[:1]]
    return Cause("library", f"the loader did not find the library {word}", tuple(notes), hint)


def _c_library(seen: Evidence, word: str, quote: str) -> Cause:
    hint = "build it on this base or on an older one, or take a newer base"
    return Cause("library", f"the step's root has no C library with {word}", (quote,), hint)


def _space(seen: Evidence, word: str, quote: str) -> Cause:
    place = _mount_of(seen, word)
    if place is not None:
        notes = (quote, f"{word} is below {place[0]}, a file system of its own; the store's has room")
        hint = "give it more: --shm-size, or --mount=..,size="
        return Cause("space", f"no space was left on the device: {place[0]} is full", notes, hint)
    return Cause("space", "its output says that no space was left on the device", (quote, "the store's file system has room now"),
                 "free space, or try: imgbuild prune")  # fmt: skip


def _inotify(seen: Evidence, word: str, quote: str) -> Cause:
    hint = "raise fs.inotify.max_user_watches of this machine"
    return Cause("inotify", "its output says that there are no more inotify watches", (quote,), hint)


def _quota(seen: Evidence, word: str, quote: str) -> Cause:
    return Cause("space", "its output says that a disk quota is used up", (quote,), "raise the quota, or free space")


def _heap(seen: Evidence, word: str, quote: str) -> Cause:
    limit = seen.op.limits.memory
    notes = [quote, f"the step's limit of memory is {size_text(limit)}" if limit is not None else "the step has no limit of memory"]
    notes.append(f"the most that it used was {size_text(seen.status.usage.peak_memory)}; {kills_text(seen.status)}")
    runtime = "heap" in word or "java" in word
    hint = "raise the limit of its runtime: NODE_OPTIONS=--max-old-space-size, -Xmx" if runtime else None
    return Cause("memory", "its output says that it got no more memory", tuple(notes), hint)


def _fork(seen: Evidence, word: str, quote: str) -> Cause:
    if seen.op.limits.pids is not None:
        notes = (quote, f"the step's limit of processes is {seen.op.limits.pids}")
        return Cause("processes", "its output says that it could not start a process", notes, "raise RUN --pids")
    return Cause("processes", "its output says that it could not start a process", (quote,), "see ulimit -u, and pids.max of its groups")


def _dns(seen: Evidence, word: str, quote: str) -> Cause:
    what = f"the name {word!r} was not resolved" if " " not in word else "a name was not resolved"
    if seen.op.network == "none":
        return Cause("dns", f"{what}: the step has --network=none", (quote,), "leave --network=none out, or fetch with ADD")
    if not seen.nameservers:
        return Cause("dns", what, (quote, "no nameserver is in this machine's /etc/resolv.conf"), "give this machine a nameserver")
    notes = (quote, f"nameservers of the step, as of this machine: {', '.join(seen.nameservers)}")
    return Cause("dns", what, notes, "is the network of this machine up, and the name right? it has the step's network, too")


def _connect(seen: Evidence, word: str, quote: str) -> Cause:
    if seen.op.network == "none":
        return Cause("network", "the step has --network=none", (quote,), "leave --network=none out, or fetch with ADD")
    hint = "proxies are given with --build-arg HTTPS_PROXY=.." if not seen.op.proxy else "a proxy is set: does it answer?"
    return Cause("network", f"its output says: {word.lower()}", (quote,), hint)


def _tls(seen: Evidence, word: str, quote: str) -> Cause:
    store = seen.files.get("/etc/ssl/certs")
    if store is not None and store.kind == "missing":
        return Cause("tls", "a certificate was not trusted", (quote, "the step's root has no /etc/ssl/certs"), "install ca-certificates")
    return Cause("tls", "a certificate was not trusted", (quote,), "is ca-certificates installed and new, and the machine's clock right?")


def _read_only(seen: Evidence, word: str, quote: str) -> Cause:
    place = _mount_of(seen, word)
    if place is not None and place[1]:
        hint = "RUN --mount=..,rw makes a bind writable; what is written there is thrown away"
        return Cause("read-only", f"{word} is below the step's mount at {place[0]}, which is read-only", (quote,), hint)
    if word.startswith(("/proc", "/sys")) and seen.op.security != "insecure":
        return Cause("read-only", f"{word} is below /proc or /sys, which are read-only in steps", (quote,), right_notes(seen, "sysctl")[1])
    if word == "/etc/hosts":
        return Cause("read-only", f"{word} is the build's, and read-only", (quote,), "name hosts with --add-host")
    return Cause("read-only", "its output says that a file system is read-only", (quote,))


def _no_call(seen: Evidence, word: str, quote: str) -> Cause:
    notes, hint = right_notes(seen, quote)
    if seen.op.security != "insecure":
        notes = (*notes, "the filter answers ENOSYS for system calls that it does not know")
    return Cause("no-call", "its output says that a system call is not there", (quote, *notes), hint)


def _not_permitted(seen: Evidence, word: str, quote: str) -> Cause:
    notes, hint = right_notes(seen, word)
    if seen.op.user and not hint:
        notes = (f"the step's user is {seen.op.user!r}", *notes)
        hint = "USER root before it, if it needs root"
    return Cause("not-permitted", "its output says that something is not permitted", (quote, *notes), hint)


def _denied(seen: Evidence, word: str, quote: str) -> Cause:
    notes = [quote, *(_owner(path, fact) for path, fact in seen.files.items()), f"the step's user is {seen.op.user or 'root'!r}"]
    hint = "USER root before it, or give the file to the user: COPY --chown, RUN chown" if seen.op.user else None
    what = f" for {word}" if word.startswith("/") else ""
    return Cause("denied", f"its output says: permission denied{what}", tuple(notes), hint)


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
