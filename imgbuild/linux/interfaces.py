"""Network interfaces of the network namespace that this process is in."""

from __future__ import annotations

import _socket
import fcntl
import struct

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1


def loopback_up() -> None:
    """Bring up ``lo``, which is down in a new network namespace; the kernel then gives it its addresses itself."""
    link = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        request = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(link.fileno(), _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(link.fileno(), _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
    finally:
        link.close()
