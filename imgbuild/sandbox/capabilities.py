"""Linux capabilities: names and bits, and how a set is asked for (``--cap-add``, ``--cap-drop``)."""

from __future__ import annotations

from imgbuild.errors import UsageError
from imgbuild.hints import Iterable
from imgbuild.sandbox.spec import DEFAULT_CAPABILITIES

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
    "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
    "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
    "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""In the order of their bits (capability.h)."""

ALL = frozenset(NAMES)


def mask(names: Iterable[str]) -> int:
    """The bit mask of a set of names."""
    return sum(1 << NAMES.index(name) for name in set(names))


def names(bits: int) -> frozenset[str]:
    """The names in a bit mask; bits that have no name here are left out."""
    return frozenset(name for bit, name in enumerate(NAMES) if bits >> bit & 1)


def parse(name: str) -> str:
    """A capability as a user writes it, in any case, with or without ``CAP_``; "ALL" stays."""
    plain = name.strip().upper().removeprefix("CAP_")
    if plain != "ALL" and plain not in ALL:
        raise UsageError(f"unknown capability {name!r}", hint="names are those of capabilities(7), such as NET_ADMIN, or ALL")
    return plain


def select(add: Iterable[str], drop: Iterable[str], default: frozenset[str] = DEFAULT_CAPABILITIES) -> frozenset[str]:
    """The set that additions and removals lead to, as docker reads them: ``ALL`` first, then single names; a name that is
    both added and dropped is dropped, unless ALL were dropped, when it is added."""
    added, dropped = {parse(name) for name in add}, {parse(name) for name in drop}
    if "ALL" in dropped:
        return frozenset(ALL if "ALL" in added else added - {"ALL"})
    if "ALL" in added:
        return ALL - dropped
    return (default | added) - dropped
