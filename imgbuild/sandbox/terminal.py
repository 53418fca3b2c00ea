"""A terminal for a sandbox's process, from the devpts of its own root."""

from __future__ import annotations

import fcntl
import os
import struct

from imgbuild.linux import syscalls

_TIOCSCTTY, _TIOCGPTN, _TIOCSPTLCK, _TIOCGPTPEER, _TIOCSWINSZ = 0x540E, 0x80045430, 0x40045431, 0x5441, 0x5414


def open_terminal(uid: int, size: tuple[int, int]) -> tuple[int, int, str]:
    """Master, slave, and the slave's path inside the root. The slave belongs to `uid`, so that it can be opened again. It has its size
    (rows, columns) from the start: a process may look at it before anybody else has the master."""
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    (number,) = struct.unpack("i", fcntl.ioctl(master, _TIOCGPTN, struct.pack("i", 0)))
    fcntl.ioctl(master, _TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if uid:
        os.fchown(slave, uid, -1)
    return master, slave, f"/dev/pts/{number}"


def make_console(slave_path: str) -> None:
    """Show the slave as /dev/console, too."""
    os.close(os.open("/dev/console", os.O_CREAT | os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC, 0o600))
    syscalls.mount(slave_path, "/dev/console", None, syscalls.MS_BIND)


def control(slave: int) -> None:
    """Make the slave the controlling terminal of this session, which must have none."""
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
