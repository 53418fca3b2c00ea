"""A process that stays behind: the supervisor of a detached container, made from the command that asks for it.

It is forked twice, before the command has threads, and leads a session of its own, so that neither the end of the command nor
that of its terminal touches it. The command waits until it reports, and raises what it could not do. Nothing of the caller's stays
with it: no file that it has open, which may be a lock or the end of a pipe that somebody reads, and not its directory.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
from typing import BinaryIO, NoReturn

from imgbuild.errors import SandboxError
from imgbuild.hints import Callable
from imgbuild.light import signal
from imgbuild.light.contextlib import suppress
from imgbuild.linux import syscalls

Report = Callable[[str], None]

_NUMBER = struct.Struct("=Q")


def detached(work: Callable[[Report], object]) -> str:
    """Run `work` in a process that stays behind; returns what it reports (once). An error that it raises before is raised here.

    Until the report it has the caller's standard streams and directory, afterwards neither: paths that it uses then are absolute.
    Other descriptors of the caller it never has. If the caller is interrupted before, it is ended.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    # An interrupt waits until we know whom to end.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    supervisor = 0
    with open(read_end, "rb") as pipe:
        try:
            child = os.fork()
            if child == 0:
                os.close(read_end)
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                _become_supervisor(work, write_end)
            os.close(write_end)
            os.waitpid(child, 0)
            head = pipe.read(_NUMBER.size)
            supervisor = _NUMBER.unpack(head)[0] if len(head) == _NUMBER.size else 0
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return _await_report(pipe)
        except KeyboardInterrupt:
            if supervisor:
                with suppress(ProcessLookupError):
                    os.kill(supervisor, signal.SIGTERM)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _await_report(pipe: BinaryIO) -> str:
    head = pipe.read(_NUMBER.size)
    if len(head) < _NUMBER.size:
        raise SandboxError("the container's supervisor ended before the container was started")
    # Not from anybody else: the other end of this pipe is our own code, forked from this very process.
    outcome = pickle.loads(pipe.read(_NUMBER.unpack(head)[0]))
    if isinstance(outcome, BaseException):
        raise outcome
    return str(outcome)


def _become_supervisor(work: Callable[[Report], object], write_end: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        _close_all_but(write_end)
        pipe: BinaryIO = open(write_end, "wb", buffering=0)  # noqa: SIM115  (closed by the report)
        pipe.write(_NUMBER.pack(os.getpid()))
        code = _work(work, pipe)
    finally:
        os._exit(code)


def _close_all_but(descriptor: int) -> None:
    if descriptor > 3:
        syscalls.close_range(3, descriptor - 1)
    syscalls.close_range(descriptor + 1)


def _work(work: Callable[[Report], object], pipe: BinaryIO) -> int:
    def report(message: str) -> None:
        _drop_streams()
        os.chdir("/")
        _send(pipe, pickle.dumps(message))
        pipe.close()

    try:
        work(report)
    except BaseException as error:
        if pipe.closed:
            return 1
        try:
            text = pickle.dumps(error)
            pickle.loads(text)
        except Exception:
            text = pickle.dumps(SandboxError(f"{type(error).__name__}: {error}"))
        _send(pipe, text)
        return 1
    return 0


def _send(pipe: BinaryIO, message: bytes) -> None:
    pipe.write(_NUMBER.pack(len(message)) + message)


def _drop_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:
        os.close(null)
