"""Messages between a build, its zygote and the sandboxes: frozen values as marshal, descriptors beside them.

A stream carries requests (a length, then as many bytes; descriptors ride on the length). A packet socket for each sandbox
carries what becomes of it, one message a packet. Both ends are the same program in the same version. A child on its way into
its sandbox reports failure to its zygote in a format of its own, which can be read from anybody (`unpack_failure`).
"""

from __future__ import annotations

import marshal
import struct

from imgbuild.hints import Any, Sequence
from imgbuild.linux import sockets
from imgbuild.linux.mounts import Bind, File, Filesystem, Mount
from imgbuild.linux.sockets import Socket
from imgbuild.sandbox.plan import Entry, Plan
from imgbuild.sandbox.spec import ExitStatus, Identity, Limits, Process, Usage
from imgbuild.values import dataclass, fields

NOT_FOUND, NOT_EXECUTABLE, SETUP_FAILED = 127, 126, 125
"""Exit codes of a command that never ran, as shells and container engines have them."""

_LENGTH = struct.Struct("=I")
_CODE = struct.Struct("=i")
FAILURE = 4096
"""The most bytes that a failure has: what a pipe takes in one piece (PIPE_BUF)."""
_WORDS = FAILURE - _CODE.size
_PACKET = 64 * 1024
_MAX_FDS = 80


@dataclass(frozen=True, slots=True)
class Expected:
    """So many more sandboxes will be asked for, up to `width` of them at once, most of them with the foundation of this plan."""

    plan: Plan
    count: int
    width: int


@dataclass(frozen=True, slots=True)
class Orders:
    """From a zygote to a spare sandbox: what it becomes, a plan as it was packed, and the files by which it joins its control groups. Its
    standard three descriptors, the status socket, so many `lowers` that are mounted, and perhaps what its watch is told by come along."""

    plan: bytes
    joins: tuple[str, ...]
    lowers: int


@dataclass(frozen=True, slots=True)
class Started:
    """The process is there, `pid` in the build's PID namespace; its pidfd comes along."""

    pid: int


@dataclass(frozen=True, slots=True)
class Begun:
    """From the sandbox: how its watch began, where not all of it did. The numbers of the directories that are not there (a symlink to one
    is none), and why there is no watch at all."""

    absent: tuple[int, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Terminal:
    """The master of its terminal comes along."""


@dataclass(frozen=True, slots=True)
class Running:
    """Set up; the command was executed."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The end of it."""

    status: ExitStatus


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no process: why not."""

    message: str
    hint: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """From a child to its zygote: the command never ran."""

    code: int
    message: str


_TYPES: tuple[type, ...] = (
    Filesystem, Bind, File, Mount, Identity, Limits, Process, Usage, ExitStatus, Plan, Entry, Started, Terminal, Running, Exited,
    Refused, Expected, Orders, Begun,
)  # fmt: skip
_NUMBERS = {kind: number for number, kind in enumerate(_TYPES)}
_NAMES = tuple(tuple(field.name for field in fields(kind)) for kind in _TYPES)
_PLAIN = frozenset((str, bytes, int, bool, float, type(None)))
"""What is sent as it is. A step's plan is hundreds of these, and goes twice through here."""


def pack(value: object) -> bytes:
    """A message as bytes."""
    return marshal.dumps(_flat(value))


def unpack(data: bytes) -> Any:
    """A message from its bytes. Only for bytes of our own processes."""
    return _raised(marshal.loads(data))


def pack_failure(code: int, words: str) -> bytes:
    """A failure as bytes: its code and its words, so short that a pipe takes them in one piece."""
    return _CODE.pack(code) + words.encode("utf-8", "backslashreplace")[:_WORDS]


def unpack_failure(data: bytes) -> Failure:
    """A failure from its bytes, whatever they are: they come from where another's program is about to run."""
    if len(data) <= _CODE.size:
        return Failure(SETUP_FAILED, "it failed without words")
    (code,) = _CODE.unpack_from(data)
    known = code in (NOT_FOUND, NOT_EXECUTABLE, SETUP_FAILED)
    return Failure(code if known else SETUP_FAILED, data[_CODE.size : FAILURE].decode("utf-8", "replace"))


def send_request(sock: Socket, value: object, fds: Sequence[int]) -> None:
    """Send a request with descriptors: at once, as the other end would wake up for each part."""
    data = pack(value)
    message = _LENGTH.pack(len(data)) + data
    sent = sockets.send(sock, message, fds)
    if sent < len(message):
        sockets.send_all(sock, message[sent:])


def receive_request(sock: Socket) -> tuple[Any, list[int], bytes] | None:
    """The next request, its descriptors, and what it was packed as; None at the end."""
    header, fds = sockets.receive(sock, _LENGTH.size, _MAX_FDS, whole=True)
    if len(header) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(header)
    data = bytearray()
    while len(data) < length:
        piece = sock.recv(min(length - len(data), 1 << 20))
        if not piece:
            return None
        data += piece
    packed = bytes(data)
    return unpack(packed), fds, packed


def send_packet(sock: Socket, value: object, fds: Sequence[int] = ()) -> bool:
    """Send one packet; False when nobody listens any more."""
    try:
        sockets.send(sock, pack(value), fds)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def receive_packet(sock: Socket) -> tuple[Any, list[int]] | None:
    """The next packet and its descriptors; None when the other end is gone."""
    try:
        data, fds = sockets.receive(sock, _PACKET, _MAX_FDS)
    except ConnectionResetError:
        return None
    return (unpack(data), fds) if data else None


def _flat(value: Any) -> Any:
    """Values become lists that start with their type's place in `_TYPES`; nothing else is a list."""
    kind = type(value)
    if kind is tuple:
        for item in value:
            if type(item) not in _PLAIN:
                return tuple([_flat(each) for each in value])
        return value
    if kind in _PLAIN:
        return value
    number = _NUMBERS.get(kind)
    if number is None:
        return value
    return [number, *[_flat(getattr(value, name)) for name in _NAMES[number]]]


def _raised(value: Any) -> Any:
    kind = type(value)
    if kind is tuple:
        for item in value:
            if type(item) not in _PLAIN:
                return tuple([_raised(each) for each in value])
        return value
    if kind is list:
        return _TYPES[value[0]](*[_raised(each) for each in value[1:]])
    return value
