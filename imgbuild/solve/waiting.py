"""Looks at the processes of a step that is silent, once: /proc of each, and nothing that stops them. What it means is in `waits`."""

from __future__ import annotations

import os
import socket
import struct
import sys

from imgbuild.hints import Iterator
from imgbuild.light.contextlib import suppress
from imgbuild.solve.waits import CALLS, Connection, Seen, Thread, call_at, in_words, shown

_MOST_PROCESSES = 64
_MOST_THREADS = 16
_MOST_FILES = 128
_PROC = "/proc"


def waits_for(pid: int) -> tuple[str, ...]:
    """What the processes of the sandbox whose first one is `pid` do or wait for, a sentence each."""
    pids = _family(pid)
    locks = _locks()
    processes = [found for each in pids if (found := _process(each, locks)) is not None]
    return in_words(processes, _connections(pid))


def _family(pid: int) -> list[int]:
    """A process and all that come from it, the oldest first."""
    found: list[int] = []
    pending = [pid]
    while pending and len(found) < _MOST_PROCESSES:
        here = pending.pop(0)
        found.append(here)
        pending += _children(here)
    return found


def _children(pid: int) -> list[int]:
    found = []
    for task in _listing(f"{_PROC}/{pid}/task")[:_MOST_THREADS]:
        found += [int(word) for word in _read(f"{_PROC}/{pid}/task/{task}/children").split()]
    return sorted(found)


def _process(pid: int, locks: dict[int, int]) -> Seen | None:
    status = _read(f"{_PROC}/{pid}/stat")
    name, _, rest = status.partition("(")[2].rpartition(")")
    words = rest.split()
    if len(words) < 13:
        return None
    command = _read(f"{_PROC}/{pid}/cmdline").replace("\0", " ").strip() or name
    tasks = _listing(f"{_PROC}/{pid}/task")[:_MOST_THREADS]
    holder = locks.get(pid)
    return Seen(
        pid=_inner(pid),
        command=command,
        state=words[0],
        seconds=(int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK"),
        threads=tuple(_thread(f"{_PROC}/{pid}/task/{task}") for task in tasks) or (Thread(),),
        files=dict(_files(pid)),
        children=len(_children(pid)),
        lock="" if holder is None else _holder(holder),
    )


def _thread(path: str) -> Thread:
    words, place = _read(f"{path}/syscall").split(), _read(f"{path}/wchan").strip()
    if len(words) > 2 and words[0].isdigit():
        call = CALLS.get(os.uname().machine, {}).get(int(words[0])) or call_at(place)
        return Thread(call, _signed(words[1]), int(words[2], 16), place)
    return Thread(call_at(place), place=place)


def _signed(word: str) -> int:
    number = int(word, 16) & 0xFFFFFFFF
    return number if number < 1 << 31 else -1


def _inner(pid: int) -> int:
    """The pid of a process in its own namespace."""
    for line in _read(f"{_PROC}/{pid}/status").splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return pid


def _files(pid: int) -> Iterator[tuple[int, str]]:
    for name in _listing(f"{_PROC}/{pid}/fd")[:_MOST_FILES]:
        with suppress(OSError, ValueError):
            yield int(name), os.fsencode(os.readlink(f"{_PROC}/{pid}/fd/{name}")).decode("utf-8", "replace")


def _locks() -> dict[int, int]:
    """Who waits for a lock, and who holds it (proc(5): /proc/locks; a line with an arrow waits for the one above without)."""
    waiting: dict[int, int] = {}
    holder = -1
    for line in _read(f"{_PROC}/locks").splitlines():
        words = line.split()
        blocked = "->" in words[:2]
        with suppress(IndexError, ValueError):
            pid = int(words[5 if blocked else 4])
            if blocked:
                waiting[pid] = holder
            else:
                holder = pid
    return waiting


def _holder(pid: int) -> str:
    command = _read(f"{_PROC}/{pid}/cmdline").replace("\0", " ").strip() if pid > 0 else ""
    return f"{shown(command)} (process {_inner(pid)})" if command else "a process that can't be seen"


def _connections(pid: int) -> dict[int, Connection]:
    """The TCP sockets of a process's network, by inode (Documentation/networking/proc_net_tcp.rst)."""
    found = {}
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in _read(f"{_PROC}/{pid}/net/{name}").splitlines()[1:]:
            words = line.split()
            with suppress(IndexError, ValueError, OSError):
                inode = int(words[9])
                found[inode] = Connection(inode, int(words[3], 16), _address(words[2], family))
    return found


def _address(word: str, family: int) -> str:
    """``0100007F:1F90`` in the usual form: words of 32 bits as the machine has them in memory."""
    address, _, port = word.partition(":")
    numbers = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    order = "<" if sys.byteorder == "little" else ">"
    text = socket.inet_ntop(family, struct.pack(f"{order}{len(numbers)}I", *numbers))
    return f"[{text}]:{int(port, 16)}" if family == socket.AF_INET6 else f"{text}:{int(port, 16)}"


def _listing(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path), key=lambda name: (len(name), name))
    except OSError:
        return []


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""
