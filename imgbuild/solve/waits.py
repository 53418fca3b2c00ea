"""What processes wait for, in words, from what /proc says of them. Pure; `waiting` reads it.

A thread that sleeps is in a system call, whose number and arguments say more than anything else of it (proc(5): /proc/PID/syscall); where
they may not be read, the kernel's own word for the place (wchan) says less.
"""

from __future__ import annotations

from imgbuild.hints import Mapping, Sequence
from imgbuild.values import dataclass, field

_X86_64 = {
    0: "read", 1: "write", 2: "open", 7: "poll", 17: "read", 19: "read", 20: "write", 23: "select", 34: "pause", 35: "sleep", 42: "connect",
    43: "accept", 44: "send", 45: "receive", 46: "send", 47: "receive", 61: "wait", 65: "semop", 70: "msgrcv", 72: "fcntl", 73: "flock",
    74: "sync", 75: "sync", 128: "pause", 130: "pause", 202: "futex", 220: "semop", 230: "sleep", 232: "epoll", 247: "wait", 257: "open",
    270: "select", 271: "poll", 281: "epoll", 288: "accept", 441: "epoll",
}  # fmt: skip
_AARCH64 = {
    22: "epoll", 25: "fcntl", 32: "flock", 56: "open", 63: "read", 64: "write", 65: "read", 66: "write", 67: "read", 72: "select",
    73: "poll", 82: "sync", 83: "sync", 95: "wait", 98: "futex", 101: "sleep", 115: "sleep", 133: "pause", 137: "pause", 188: "msgrcv",
    192: "semop", 193: "semop", 202: "accept", 203: "connect", 206: "send", 207: "receive", 211: "send", 212: "receive", 242: "accept",
    260: "wait", 441: "epoll",
}  # fmt: skip
CALLS: dict[str, dict[int, str]] = {"x86_64": _X86_64, "aarch64": _AARCH64}
"""The numbers of the calls that programs wait in, by machine (the kernel's syscall tables); several are one word here."""

_PLACES = (
    ("pipe_read", "read"), ("anon_pipe_read", "read"), ("pipe_write", "write"), ("anon_pipe_write", "write"), ("do_wait", "wait"),
    ("nanosleep", "sleep"), ("futex", "futex"), ("flock", "flock"), ("locks_lock", "fcntl"), ("posix_lock", "fcntl"), ("poll", "poll"),
    ("ep_", "epoll"), ("do_select", "select"), ("inet_csk_accept", "accept"), ("inet_stream_connect", "connect"), ("wait_woken", "receive"),
    ("unix_stream_read", "receive"), ("sigsuspend", "pause"), ("sigtimedwait", "pause"), ("do_pause", "pause"),
)  # fmt: skip
"""What the kernel's functions that sleep are called, and which call they belong to."""

_SETLKW = (7, 38)  # F_SETLKW, F_OFD_SETLKW: include/uapi/asm-generic/fcntl.h
_ON_FD = frozenset({"read", "write", "receive", "send", "accept", "connect", "flock", "fcntl"})
_TELLING = (
    "connect", "flock", "fcntl", "read", "receive", "write", "send", "accept", "open", "semop", "msgrcv", "sync", "poll", "select", "epoll",
)  # fmt: skip
_SYN_SENT, _ESTABLISHED, _LISTEN = 2, 1, 10  # include/net/tcp_states.h
_LONGEST_COMMAND = 80
_MOST = 4
_NAMES = {0: "stdin", 1: "stdout", 2: "stderr"}


@dataclass(frozen=True, slots=True)
class Thread:
    """One thread: the word of the `call` it is in ("" where it is in none, or in one without a word), its first two arguments, and the
    kernel's word for the place."""

    call: str = ""
    fd: int = -1
    command: int = 0
    place: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """One process: its pid in the sandbox, its command line, its state's letter, seconds of processor time, threads, and what its
    descriptors are. `lock` is who holds the lock that it waits for, if that is known."""

    pid: int
    command: str
    state: str = "S"
    seconds: float = 0.0
    threads: tuple[Thread, ...] = (Thread(),)
    files: Mapping[int, str] = field(default_factory=dict)
    children: int = 0
    lock: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """A TCP socket by its inode: its state, and the other end."""

    inode: int
    state: int
    remote: str


def in_words(processes: Sequence[Seen], connections: Mapping[int, Connection]) -> tuple[str, ...]:
    """A sentence for each process that does or waits for something itself; those that wait for these say nothing."""
    told = [(seen, words) for seen in processes if (words := _words(seen, processes, connections))]
    lines = [f"{shown(seen.command)} (process {seen.pid}) {words}" for seen, words in told[:_MOST]]
    return (*lines, *([f"and {len(told) - _MOST} more"] if len(told) > _MOST else []))


def call_at(place: str) -> str:
    """The call that the kernel's word for a place belongs to."""
    return next((call for name, call in _PLACES if name in place), "")


def shown(command: str) -> str:
    """A command line, cut."""
    command = " ".join(command.split())
    return f"`{command if len(command) <= _LONGEST_COMMAND else command[:_LONGEST_COMMAND] + '...'}`"


def _words(seen: Seen, processes: Sequence[Seen], connections: Mapping[int, Connection]) -> str:
    if seen.state in ("Z", "X"):
        return ""
    if seen.state == "R":
        return f"is computing ({seen.seconds:.0f} s of processor time so far)"
    if seen.state in ("T", "t"):
        return "is stopped by a signal"
    thread = _most_telling(seen.threads)
    if seen.state == "D":
        return f"waits for a device or file system{f' (in {thread.place})' if thread.place else ''}"
    if thread.call == "wait" and seen.children:
        return ""
    return _call_words(seen, thread, processes, connections)


def _most_telling(threads: Sequence[Thread]) -> Thread:
    """Of several threads, the one whose wait is not one for the others."""
    ranked = {call: number for number, call in enumerate(_TELLING)}
    return min(threads, key=lambda thread: ranked.get(thread.call, len(ranked)))


def _call_words(seen: Seen, thread: Thread, processes: Sequence[Seen], connections: Mapping[int, Connection]) -> str:
    target = seen.files.get(thread.fd, "") if thread.call in _ON_FD else ""
    named = _NAMES.get(thread.fd, f"descriptor {thread.fd}")
    match thread.call:
        case "flock":
            return _lock_words(seen, target)
        case "fcntl" if thread.command in _SETLKW or not thread.command:
            return _lock_words(seen, target)
        case "read" | "receive" | "accept" | "connect" if target.startswith("socket:"):
            return _socket_words(thread.call, target, connections)
        case "read" if target.startswith("pipe:"):
            return f"reads from a pipe ({named}){_other_end(seen, target, processes, 'which {} has open, too')}"
        case "read":
            return f"reads from {named}, which is {target}" if target else "reads, and nothing comes"
        case "write" if target.startswith("pipe:"):
            return f"writes to a pipe ({named}) that is full{_other_end(seen, target, processes, '; {} has it open, too')}"
        case "write" | "send":
            return f"writes to {named}{f', which is {target},' if target else ''} and it is not taken"
        case "receive" | "accept" | "connect":
            return {"receive": "waits for data from a socket", "accept": "waits for a connection", "connect": "is connecting"}[thread.call]
        case "poll" | "select" | "epoll":
            return _event_words(seen, connections)
    return _PLAIN_WORDS.get(thread.call) or f"waits{f' in {thread.place}' if thread.place and thread.place != '0' else ''}"


_PLAIN_WORDS = {
    "sleep": "sleeps", "pause": "waits for a signal", "futex": "waits for a lock of its own (futex)", "wait": "waits for a child process",
    "open": "waits for another to open a named pipe, or for a file system", "sync": "waits for the disk", "semop": "waits for a semaphore",
    "msgrcv": "waits for a message",
}  # fmt: skip


def _lock_words(seen: Seen, target: str) -> str:
    return f"waits for a lock{f' on {target}' if target else ''}{f', held by {seen.lock}' if seen.lock else ''}"


def _socket_words(call: str, target: str, connections: Mapping[int, Connection]) -> str:
    connection = connections.get(inode_of(target))
    if call == "accept":
        return "waits for somebody to connect to it"
    if connection is None:
        return "is connecting to a socket" if call == "connect" else "waits for data from a socket of this machine"
    if connection.state == _SYN_SENT or call == "connect":
        return f"is connecting to {connection.remote}"
    return f"waits for data from {connection.remote}"


def _event_words(seen: Seen, connections: Mapping[int, Connection]) -> str:
    known = [connections[inode] for target in seen.files.values() if (inode := inode_of(target)) in connections]
    opening = [connection.remote for connection in known if connection.state == _SYN_SENT]
    if opening:
        return f"is connecting to {', '.join(opening[:3])}"
    open_ = [connection.remote for connection in known if connection.state == _ESTABLISHED]
    if open_:
        return f"waits for data, connected to {', '.join(open_[:3])}"
    if any(connection.state == _LISTEN for connection in known):
        return "waits for somebody to connect to it"
    return "waits for events"


def _other_end(seen: Seen, target: str, processes: Sequence[Seen], words: str) -> str:
    """Who else has a pipe open."""
    others = [other for other in processes if other.pid != seen.pid and target in other.files.values()]
    if not others:
        return ""
    text = words.format(shown(others[0].command))
    return text if text.startswith(";") else f", {text}"


def inode_of(target: str) -> int:
    """The inode of a socket, as a descriptor's link names it; -1 for what is none."""
    number = target.removeprefix("socket:[").removesuffix("]")
    return int(number) if target.startswith("socket:[") and number.isdigit() else -1
