"""ptrace(2) of processes that were seized: a wrapper for each request, and what the kernel tells of a stop (Linux 5.3).

A request to a thread that is not stopped any more, as it was killed, is ProcessLookupError. Not here: what to do at a stop.
"""

from __future__ import annotations

import ctypes
import os
import struct

from imgbuild.values import dataclass

WALL = 0x40000000
"""__WALL of waitpid(2): threads, too."""

EVENT_EXEC, EVENT_SECCOMP, EVENT_STOP = 4, 7, 128
OPTION_SYSGOOD, OPTION_FORK, OPTION_VFORK, OPTION_CLONE, OPTION_EXEC = 1, 2, 4, 8, 16
OPTION_SECCOMP, OPTION_EXITKILL = 0x80, 0x100000

AT_EXIT, AT_FILTER = 2, 3
"""What a `Stop` is: at the end of a system call, or where a seccomp filter asks the tracer."""

_PEEK, _POKE, _CONTINUE, _TO_EXIT = 2, 5, 7, 24
_GET_REGISTERS, _SET_REGISTERS, _SEIZE, _LISTEN, _TELL = 0x4204, 0x4205, 0x4206, 0x4208, 0x420E
_GENERAL = 1  # NT_PRSTATUS
_MOST_REGISTERS = 1024
_WORD = 8
_INFO = struct.Struct("=B3xIQQ")
_EXIT = struct.Struct("=qB")
_FILTER = struct.Struct("=7QI")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.process_vm_readv.restype = ctypes.c_ssize_t


class _Piece(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


@dataclass(frozen=True, slots=True)
class Stop:
    """What the kernel says of a stop: its `kind`, the AUDIT_ARCH_* and the stack pointer; the call's `result` (an error is negative) at its
    end; its arguments, and what the filter says beside (`data`), where that asks."""

    kind: int
    architecture: int
    stack: int
    result: int = 0
    arguments: tuple[int, ...] = ()
    data: int = 0


def seize(pid: int, options: int) -> None:
    """Trace a process from now on, without stopping it."""
    _request(_SEIZE, pid, 0, options)


def resume(pid: int, signum: int = 0, *, to_exit: bool = False) -> None:
    """Let a thread that is stopped go on, with a signal; `to_exit`: to the end of its system call."""
    _request(_TO_EXIT if to_exit else _CONTINUE, pid, 0, signum)


def listen(pid: int) -> None:
    """Leave a thread stopped, as a signal of job control wants it, until another one wakes it."""
    _request(_LISTEN, pid, 0, 0)


def stop_of(pid: int) -> Stop:
    """What a thread is stopped at."""
    buffer = ctypes.create_string_buffer(88)
    _request(_TELL, pid, len(buffer), ctypes.addressof(buffer))
    data = buffer.raw
    kind, architecture, _, stack = _INFO.unpack_from(data)
    if kind == AT_EXIT:
        return Stop(kind, architecture, stack, _EXIT.unpack_from(data, _INFO.size)[0])
    if kind == AT_FILTER:
        _, *arguments, said = _FILTER.unpack_from(data, _INFO.size)
        return Stop(kind, architecture, stack, arguments=tuple(arguments), data=said)
    return Stop(kind, architecture, stack)


def read(pid: int, address: int, size: int) -> bytes:
    """So many bytes of a process's memory, or as many as there are. OSError where it may not be read."""
    buffer = ctypes.create_string_buffer(size)
    ours, theirs = _Piece(ctypes.addressof(buffer), size), _Piece(address, size)
    count = _libc.process_vm_readv(pid, ctypes.byref(ours), ctypes.c_ulong(1), ctypes.byref(theirs), ctypes.c_ulong(1), ctypes.c_ulong(0))
    if count < 0:
        raise _failure("process_vm_readv")
    return buffer.raw[:count]


def peek(pid: int, address: int) -> bytes:
    """Eight bytes of a stopped thread's memory."""
    ctypes.set_errno(0)
    word = _libc.ptrace(_PEEK, pid, address, None)
    if word == -1 and ctypes.get_errno():
        raise _failure("ptrace peek")
    return struct.pack("=q", word)


def poke(pid: int, address: int, data: bytes) -> None:
    """Write eight bytes, or a multiple of them, to a stopped thread's memory."""
    for at in range(0, len(data), _WORD):
        (word,) = struct.unpack_from("=Q", data, at)
        _request(_POKE, pid, address + at, word)


def registers(pid: int) -> bytes:
    """The general registers of a stopped thread, in the layout of its own architecture."""
    buffer = ctypes.create_string_buffer(_MOST_REGISTERS)
    piece = _Piece(ctypes.addressof(buffer), len(buffer))
    _request(_GET_REGISTERS, pid, _GENERAL, ctypes.addressof(piece))
    return buffer.raw[: piece.length]


def set_registers(pid: int, data: bytes) -> None:
    """Set them."""
    buffer = ctypes.create_string_buffer(data, len(data))
    piece = _Piece(ctypes.addressof(buffer), len(data))
    _request(_SET_REGISTERS, pid, _GENERAL, ctypes.addressof(piece))


def _request(request: int, pid: int, address: int, data: int) -> None:
    if _libc.ptrace(request, pid, address, data) < 0:
        raise _failure(f"ptrace {request:#x}")


def _failure(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}")
