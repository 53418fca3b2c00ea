"""inotify(7): what is opened in directories, told by name. One watch is one directory; what is below its directories it does not see."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from imgbuild.hints import Iterator

IN_OPEN = 0x0000_0020
IN_Q_OVERFLOW = 0x0000_4000
IN_ISDIR = 0x4000_0000
_IN_ONLYDIR = 0x0100_0000
_IN_DONT_FOLLOW = 0x0200_0000
_PIECE = 1 << 16

_HEAD = struct.Struct("=iIII")
_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_init1.argtypes = (ctypes.c_int,)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_libc.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)


def start() -> int:
    """A descriptor from which events are read without waiting. OSError where this user has too many."""
    fd: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise _failure("inotify_init1")
    return fd


def watch_opens(fd: int, directory: bytes) -> int:
    """Have it told what is opened in a directory, and the directory itself: the watch's number, from 1 on. OSError for what is none, such
    as a symlink to one."""
    number: int = _libc.inotify_add_watch(fd, directory, IN_OPEN | _IN_ONLYDIR | _IN_DONT_FOLLOW)
    if number < 0:
        raise _failure("inotify_add_watch")
    return number


def forget(fd: int, number: int) -> None:
    """End a watch. One that is gone is no trouble."""
    _libc.inotify_rm_watch(fd, number)


def events(fd: int, most: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """What has been told since it was asked last: the watch's number, the mask, and the name in its directory, b"" for itself. It is read
    `most` times (0: to the end), as there may be more and more."""
    times = 0
    while not most or times < most:
        times += 1
        try:
            data = os.read(fd, _PIECE)
        except BlockingIOError:
            return
        at, end = 0, len(data)
        while at < end:
            number, mask, _, length = _HEAD.unpack_from(data, at)
            at += _HEAD.size + length
            yield number, mask, data[at - length : at].rstrip(b"\0")


def _failure(call: str) -> OSError:
    code = ctypes.get_errno() or errno.EINVAL
    return OSError(code, f"{call}: {os.strerror(code)}")
