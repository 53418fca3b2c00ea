"""Files on their way to the disk."""

from __future__ import annotations

import ctypes
import errno
import os

from imgbuild.hints import Sequence

_SYNC_FILE_RANGE_WRITE = 2
_CONTROL_BYTES = 256
"""Room for a ``struct aiocb``: it has 168 bytes in glibc and in musl, where pointers have 64 bits, and begins with the descriptor."""
_NOTIFY_AT = 44
_KNOWN = ctypes.sizeof(ctypes.c_void_p) == 8
_SIGEV_NONE = 1
_libc = ctypes.CDLL(None, use_errno=True)


def begin_writeback(fd: int) -> None:
    """Let the kernel begin to write what it holds of a file to the disk: nobody waits, and nothing is promised (sync_file_range(2))."""
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


class Syncing:
    """fsync(2) of several files at once, by threads of the C library (aio_fsync(3)), which need not wait for this interpreter. Who begins
    it waits, whatever happens meanwhile: until then, the descriptors have to stay open."""

    def __init__(self, fds: Sequence[int]) -> None:
        self._fds = fds
        self._controls = [ctypes.create_string_buffer(_CONTROL_BYTES) for _ in fds]
        self._begun = []
        for fd, control in zip(fds, self._controls, strict=True):
            ctypes.c_int.from_buffer(control).value = fd
            ctypes.c_int.from_buffer(control, _NOTIFY_AT).value = _SIGEV_NONE
            self._begun.append(_KNOWN and _libc.aio_fsync(os.O_SYNC, control) == 0)

    def wait(self) -> list[OSError | None]:
        """What became of each file."""
        return [self._ended(*each) for each in zip(self._fds, self._controls, self._begun, strict=True)]

    def _ended(self, fd: int, control: ctypes.Array[ctypes.c_char], begun: bool) -> OSError | None:
        if not begun:  # no thread could be had
            try:
                os.fsync(fd)
            except OSError as error:
                return error
            return None
        waited = (ctypes.c_void_p * 1)(ctypes.addressof(control))
        while (code := _libc.aio_error(control)) == errno.EINPROGRESS:
            _libc.aio_suspend(waited, 1, None)
        _libc.aio_return(control)
        return OSError(code, os.strerror(code)) if code else None
