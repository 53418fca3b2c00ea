"""Files on their way to the disk."""

from __future__ import annotations

import ctypes
import errno
import os

from imgbuild.hints import Sequence

_SYNC_FILE_RANGE_WAIT_BEFORE, _SYNC_FILE_RANGE_WRITE = 1, 2
_CONTROL_BYTES = 256
"""Room for a ``struct aiocb``: it has 168 bytes in glibc and in musl, where pointers have 64 bits, and begins with the descriptor."""
_NOTIFY_AT = 44
_KNOWN = ctypes.sizeof(ctypes.c_void_p) == 8
_SIGEV_NONE = 1
_FIRST_BYTE = (ctypes.c_int64(0), ctypes.c_int64(1), _SYNC_FILE_RANGE_WAIT_BEFORE)
_libc = ctypes.CDLL(None)
_at_once = ctypes.PyDLL(None)
"""For calls so short that other threads need not have the interpreter meanwhile."""
_libc.calloc.restype = ctypes.c_void_p
_libc.calloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)


def begin_writeback(fd: int) -> None:
    """Let the kernel begin to write what it holds of a file to the disk: nobody waits, and nothing is promised (sync_file_range(2))."""
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def has_failed(fd: int) -> bool:
    """Whether something that was written to a file did not get to its disk. It is said once; nobody waits for what is still on its way, but
    for its first byte (sync_file_range(2))."""
    return bool(_at_once.sync_file_range(fd, *_FIRST_BYTE) != 0)


class Syncing:
    """fsync(2) of several files at once, by threads of the C library (aio_fsync(3)), which need not wait for this interpreter.

    What those threads write to, and the descriptors, which are others of the same files, are theirs until each is done: whoever does not
    wait to the end, as a signal's exception came between, leaves them behind."""

    def __init__(self, fds: Sequence[int]) -> None:
        self._begun = [_begin_sync(fd) for fd in fds]

    def wait(self) -> list[OSError | None]:
        """What became of each file. Once."""
        return [_ended(*begun) for begun in self._begun]


def _begin_sync(fd: int) -> tuple[int, int]:
    """A descriptor of the same file, and where the state of its fsync is, 0 if none was begun."""
    own = os.dup(fd)
    control = (_libc.calloc(1, _CONTROL_BYTES) or 0) if _KNOWN else 0
    if control:
        ctypes.c_int.from_address(control).value = own
        ctypes.c_int.from_address(control + _NOTIFY_AT).value = _SIGEV_NONE
        if _libc.aio_fsync(os.O_SYNC, ctypes.c_void_p(control)) != 0:  # no thread could be had
            _libc.free(ctypes.c_void_p(control))
            control = 0
    return own, control


def _ended(own: int, control: int) -> OSError | None:
    if control:
        address = ctypes.c_void_p(control)
        waited = (ctypes.c_void_p * 1)(control)
        while (code := _libc.aio_error(address)) == errno.EINPROGRESS:
            _libc.aio_suspend(waited, 1, None)
        _libc.aio_return(address)
        _libc.free(address)
        os.close(own)
        return OSError(code, os.strerror(code)) if code else None
    try:
        os.fsync(own)
    except OSError as error:
        return error
    finally:
        os.close(own)
    return None
