"""Sockets between processes of ours, with descriptors that ride on them. By the interpreter's own module: the standard one makes tables of
names and brings in selectors, which takes as long as to start a sandbox.
"""

from __future__ import annotations

import _socket
import struct

from imgbuild.hints import Sequence, TracebackType

STREAM, PACKETS = _socket.SOCK_STREAM, _socket.SOCK_SEQPACKET

_NUMBER = 4


class Socket(_socket.socket):
    """A UNIX socket; a context manager, as the standard one is."""

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def pair(kind: int) -> tuple[Socket, Socket]:
    """Two ends, STREAM or PACKETS, that are closed on exec."""
    first, second = _socket.socketpair(_socket.AF_UNIX, kind)
    return Socket(fileno=first.detach()), Socket(fileno=second.detach())


def opened(descriptor: int) -> Socket:
    """The socket that a descriptor is, which is the socket's to close from now on."""
    return Socket(fileno=descriptor)


def send(sock: Socket, data: bytes, fds: Sequence[int] = ()) -> int:
    """Send bytes, as far as they are taken at once, with descriptors. Nobody there is BrokenPipeError, and no signal."""
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))] if fds else []
    return sock.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)


def send_all(sock: Socket, data: bytes) -> None:
    """Send all of `data`."""
    sock.sendall(data, _socket.MSG_NOSIGNAL)


def receive(sock: Socket, size: int, most: int, *, whole: bool = False) -> tuple[bytes, list[int]]:
    """Up to `size` bytes, or just as many where `whole`, and up to `most` descriptors, closed on exec."""
    flags = _socket.MSG_CMSG_CLOEXEC | (_socket.MSG_WAITALL if whole else 0)
    data, ancillary, _, _ = sock.recvmsg(size, _socket.CMSG_SPACE(most * _NUMBER), flags)
    fds: list[int] = []
    for level, kind, numbers in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            fds += memoryview(numbers[: len(numbers) - len(numbers) % _NUMBER]).cast("i")
    return data, fds
