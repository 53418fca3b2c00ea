"""Gathers what a failed step's root shows: the program that its output or its start speaks of, libraries of nearly a name, owners, disks.

Read-only, in userspace, and bounded: a step's root may be hostile, and the message of a failure is no place for another one.
"""

from __future__ import annotations

import os
import posixpath
import stat
import struct

from imgbuild.graph.ops import RunOp
from imgbuild.hints import Any, Iterable
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.sandbox.spec import ExitStatus
from imgbuild.snapshot.union import UnionView
from imgbuild.solve.causes import Evidence, FileFact
from imgbuild.solve.clues import Clue, find_clue
from imgbuild.solve.sayings import NOT_EXECUTABLE, NOT_FOUND, searched
from imgbuild.values import replace

NO_ROOM = 1 << 16
_PROGRAM_KINDS = ("not-found", "interpreter", "format")
_LIBRARIES = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/opt/lib", "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
)  # fmt: skip
_BESIDE_PATH = (
    "/usr/local/go/bin", "/usr/local/cargo/bin", "/root/.cargo/bin", "/root/.local/bin", "/root/go/bin", "/opt/venv/bin", "/venv/bin",
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/games", "/snap/bin",
)  # fmt: skip
_MOST_NAMES = 20_000
_HEAD = 1 << 16
_PT_INTERP = 3
_MACHINES = {
    3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 258: "loongarch64",
}  # fmt: skip
_RUNS = {"x86_64": ("i386",), "aarch64": ("arm",), "armv7l": ("arm",), "armv6l": ("arm",), "i686": ("i386",), "i386": ("i386",)}


def gather(
    view: UnionView,
    op: RunOp,
    status: ExitStatus,
    tail: str,
    *,
    expired: str,
    full: str,
    mounts: Iterable[tuple[str, bool]],
    resolv_conf: bytes,
    machine: str,
) -> Evidence:
    """The evidence of a step whose root is `view` now; what can't be read is left out. `machine` is "" for a step that another runs."""
    seen = Evidence(op, status, expired, full=full, mounts=tuple(mounts), nameservers=_nameservers(resolv_conf), machine=machine)
    if expired or status.oom or status.signal is not None:
        return seen
    with suppress(OSError):
        return _looked_up(view, seen, tail)
    return seen


def _looked_up(view: UnionView, seen: Evidence, tail: str) -> Evidence:
    op, status = seen.op, seen.status
    clue = None if status.setup_error else find_clue(tail)
    program = ""
    if status.setup_error and status.code in (NOT_EXECUTABLE, NOT_FOUND):
        program = op.argv[0]
    elif not status.setup_error:
        which = find_clue(tail, "denied", *_PROGRAM_KINDS) if status.code == NOT_EXECUTABLE else find_clue(tail, *_PROGRAM_KINDS)
        if which is not None and (status.code in (NOT_EXECUTABLE, NOT_FOUND) or clue == which):
            clue, program = which, which.word
    seen = replace(seen, clue=clue)
    if program:
        return replace(seen, **_program(view, seen, program))
    return seen if clue is None else replace(seen, **_files(view, op, clue))


def _program(view: UnionView, seen: Evidence, name: str) -> dict[str, Any]:
    """Where a program is, what it is, and what else it may have been."""
    op = seen.op
    places = searched(op.env)
    if "/" in name:
        at = posixpath.normpath(posixpath.join(op.cwd, name))
        fact = _fact(view, at, program=True, machine=seen.machine)
        beside = tuple(posixpath.join(posixpath.dirname(name), other) for other in _names(view, posixpath.dirname(at)))
        return {"program": name, "at": at, "searched": places, "near": beside if fact.kind == "missing" else (), "files": {at: fact}}
    paths = [posixpath.normpath(posixpath.join(op.cwd, place, name)) for place in places]
    at = next((path for path in paths if _there(view, path)), "")
    if at:
        return {"program": name, "at": at, "searched": places, "files": {at: _fact(view, at, program=True, machine=seen.machine)}}
    near = [other for place in places for other in _names(view, posixpath.normpath(posixpath.join(op.cwd, place)))]
    elsewhere = tuple(path for place in _BESIDE_PATH if place not in places and _there(view, path := f"{place}/{name}"))
    return {"program": name, "searched": places, "near": tuple(sorted(set(near))), "elsewhere": elsewhere}


def _files(view: UnionView, op: RunOp, clue: Clue) -> dict[str, Any]:
    """What there is of what a clue names."""
    if clue.kind == "library":
        stem = clue.word.partition(".so")[0]
        found = [f"{place}/{name}" for place in _LIBRARIES for name in _names(view, place) if name.partition(".so")[0] == stem]
        return {"elsewhere": tuple(found)}
    if clue.kind == "tls":
        return {"files": {"/etc/ssl/certs": _fact(view, "/etc/ssl/certs")}}
    if clue.kind == "denied":
        at = posixpath.normpath(posixpath.join(op.cwd, clue.word))
        while at != "/" and not _there(view, at):  # what could not be made: the directory counts
            at = posixpath.dirname(at)
        return {"files": {at: _fact(view, at)}}
    return {}


def _fact(view: UnionView, path: str, *, program: bool = False, machine: str = "") -> FileFact:
    real = view.resolve(path)
    status = view.lstat(real)
    if status is None:
        return FileFact()
    kind = "directory" if stat.S_ISDIR(status.mode) else "file" if stat.S_ISREG(status.mode) else "other"
    plain = FileFact(kind, stat.S_IMODE(status.mode), status.uid, status.gid)
    if kind != "file" or not program:
        return plain
    head = view.read(real, _HEAD) or b""
    form, interpreter, own = _format(head)
    there = not interpreter or _there(view, interpreter)
    if own in _RUNS.get(machine, ()):
        own = machine
    return FileFact(kind, plain.mode, plain.uid, plain.gid, form, interpreter, there, own)


def _format(head: bytes) -> tuple[str, str, str]:
    """The form of a program, what interprets it, and the machine it is for."""
    if not head:
        return "empty", "", ""
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split(b" ")
        first = next((word for word in words if word.strip(b" \t")), b"")
        return "script", os.fsdecode(first.strip(b" \t")), ""
    if head.startswith(b"\x7fELF") and len(head) > 64:
        order = ">" if head[5] == 2 else "<"
        (machine,) = struct.unpack_from(f"{order}H", head, 18)
        return "elf", _loader(head, order), _MACHINES.get(machine, f"machine {machine}")
    return "other", "", ""


def _loader(head: bytes, order: str) -> str:
    """The interpreter that an ELF file's program headers name (gabi: Program Header), as far as the head of the file has it."""
    wide = head[4] == 2
    with suppress(struct.error):
        (offset,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
        size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
        for number in range(min(count, 64)):
            at = offset + number * size
            (kind,) = struct.unpack_from(f"{order}I", head, at)
            if kind == _PT_INTERP:
                (where,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, at + (8 if wide else 4))
                return os.fsdecode(head[where : head.index(b"\0", where)]) if 0 < where < len(head) and b"\0" in head[where:] else ""
    return ""


def _there(view: UnionView, path: str) -> bool:
    try:
        return view.stat(path) is not None
    except OSError:
        return False


def _names(view: UnionView, directory: str) -> tuple[str, ...]:
    try:
        return view.listdir(view.resolve(directory))[:_MOST_NAMES]
    except OSError:
        return ()


def _nameservers(resolv_conf: bytes) -> tuple[str, ...]:
    lines = (line.split() for line in resolv_conf.decode("utf-8", "replace").splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


def full_disk(directory: Path) -> str:
    """Which file system has no room left where the step writes, in words; "" where there is room."""
    status = os.statvfs(directory)
    if status.f_bavail * status.f_frsize < NO_ROOM:
        return f"the file system of the store ({directory}, {status.f_blocks * status.f_frsize >> 20} MiB)"
    if status.f_files and status.f_favail == 0:
        return f"the file system of the store ({directory}): it has no inodes left, which"
    return ""
