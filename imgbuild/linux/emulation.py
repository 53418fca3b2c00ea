"""Programs of other architectures: which of them this kernel runs, by itself or through a handler that is registered with it.

A handler is known by what it matches, not by its name: its magic is held against the beginning of a program of that architecture
(Documentation/admin-guide/binfmt-misc.rst). With the flag F its interpreter was opened when it was registered, so that no root file
system needs to hold it.
"""

from __future__ import annotations

import struct

from imgbuild.light.pathlib import Path
from imgbuild.values import dataclass

BINFMT_MISC = Path("/proc/sys/fs/binfmt_misc")
_EXECUTABLE = 2
_PROGRAMS: dict[str, tuple[int, str, int]] = {
    "386": (1, "<", 3),
    "amd64": (2, "<", 62),
    "arm": (1, "<", 40),
    "arm64": (2, "<", 183),
    "loong64": (2, "<", 258),
    "mips": (1, ">", 8),
    "mips64": (2, ">", 8),
    "mips64le": (2, "<", 8),
    "mipsle": (1, "<", 8),
    "ppc64": (2, ">", 21),
    "ppc64le": (2, "<", 21),
    "riscv64": (2, "<", 243),
    "s390x": (2, ">", 22),
}
"""ELF's class, byte order and machine of each architecture."""

_OWN: dict[str, tuple[str, ...]] = {"x86_64": ("amd64", "386"), "aarch64": ("arm64", "arm"), "i686": ("386",), "armv7l": ("arm",)}
"""What a machine runs by itself, as far as it is not just its own name."""


@dataclass(frozen=True, slots=True)
class Handler:
    """One registration. `interpreter` must be in the root of whoever is to run a program by it, unless it is `fixed`."""

    name: str
    interpreter: str
    enabled: bool
    fixed: bool


def architecture_of(platform: str) -> str:
    """The middle of ``os/architecture/variant``; nothing where it does not say."""
    return platform.partition("/")[2].partition("/")[0]


def runs_itself(machine: str, architecture: str) -> bool:
    """Whether a machine (as uname names it) runs programs of an architecture without any handler. Nothing is known against one that is
    not named."""
    return not architecture or architecture in _OWN.get(machine, (machine,))


def runs(machine: str, architecture: str) -> bool:
    """Whether a machine runs programs of an architecture: by itself, by a handler that is enabled, or perhaps, where it can't be said."""
    if runs_itself(machine, architecture) or not handlers_are_listed():
        return True
    handler = find_handler(architecture)
    return handler is not None and handler.enabled


def handlers_are_listed(directory: Path = BINFMT_MISC) -> bool:
    """Whether it can be said which handlers there are: their file system is mounted."""
    return (directory / "status").exists()


def find_handler(architecture: str, directory: Path = BINFMT_MISC) -> Handler | None:
    """The handler for programs of an architecture: an enabled one before others, one that is fixed before those."""
    program = program_header(architecture)
    found = [handler for handler in _handlers(directory, program) if program]
    return max(found, key=lambda handler: (handler.enabled, handler.fixed), default=None)


def program_header(architecture: str) -> bytes:
    """How a program of an architecture begins; nothing for one that is not known."""
    if architecture not in _PROGRAMS:
        return b""
    size, order, machine = _PROGRAMS[architecture]
    identity = b"\x7fELF" + bytes((size, 1 if order == "<" else 2, 1)) + bytes(9)
    return identity + struct.pack(f"{order}HHI", _EXECUTABLE, machine, 1)


def _handlers(directory: Path, program: bytes) -> list[Handler]:
    try:
        everything = _read(directory / "status") == "enabled"
        names = sorted(path.name for path in directory.iterdir() if path.name not in ("register", "status"))
    except OSError:
        return []
    found = []
    for name in names:
        try:
            enabled, *lines = _read(directory / name).splitlines()
        except (OSError, ValueError):
            continue
        fields = dict(line.partition(" ")[::2] for line in lines)
        if _matches(fields, program):
            flags = fields.get("flags:", "")
            found.append(Handler(name, fields.get("interpreter", ""), everything and enabled == "enabled", "F" in flags))
    return found


def _matches(fields: dict[str, str], program: bytes) -> bool:
    try:
        magic = bytes.fromhex(fields["magic"])
        mask = bytes.fromhex(fields.get("mask", "")) or b"\xff" * len(magic)
        offset = int(fields.get("offset", "0"))
    except (KeyError, ValueError):
        return False
    part = program[offset : offset + len(magic)]
    return len(part) == len(magic) and all(one & bits == other & bits for one, other, bits in zip(part, magic, mask, strict=True))


def _read(path: Path) -> str:
    return path.read_text("ascii", "replace").strip()
