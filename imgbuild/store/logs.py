"""What a step wrote, in the store: all of it, within a bound, by stream and with its times; compressed where it is much.

``history/<build>/<number>.log`` is a sequence of frames: milliseconds since the step began, the stream (1 or 2) and the length, each
little-endian, and as many bytes. Of a log that outgrows its bound the beginning and the end are kept: what comes after the first half
goes to ``.log.b``, which becomes ``.log.a`` (in the place of what was there) whenever it has a quarter. A frame of stream 0 says how
many bytes the step had written before it, so that a reader knows what is left out. `settle` puts a large log together as ``.log.z``.
"""

from __future__ import annotations

import os
import struct
import time
import zlib

from imgbuild.hints import Iterator
from imgbuild.light.contextlib import suppress
from imgbuild.light.pathlib import Path
from imgbuild.store.journal import DIRECTORY

_HEAD = struct.Struct("<IBI")
_PLACE = 0
_LARGE = 1 << 16
_PIECE = 1 << 20
_MOST_DIGITS = 19
DEFAULT_MOST = 64 << 20


class StepLog:
    """The log of one step while it is written, by one thread at a time. What can't be written is left out: no step fails for its log."""

    def __init__(self, path: Path, most: int = DEFAULT_MOST) -> None:
        self._path = path
        self._most = max(most, 4)
        self._began = time.monotonic()
        self._part = path
        self._descriptor = -1
        self._in_part = 0
        self._seen = 0

    def write(self, stream: int, data: bytes) -> None:
        """Add what the step wrote."""
        rest = memoryview(data)
        while rest:
            room = (self._most // 2 if self._part == self._path else self._most // 4) - self._in_part
            if room <= 0:
                self._next_part()
                continue
            self._put(stream, rest[:room])
            self._seen += len(rest[:room])
            rest = rest[room:]

    @property
    def large(self) -> bool:
        """Whether `settle` has something to do."""
        return self._part != self._path or self._in_part > _LARGE

    def close(self) -> None:
        """Write no more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def settle(self) -> None:
        """After the end: make one compressed file of a large log."""
        if not self.large:
            return
        made = self._path.with_name(f"{self._path.name}.z")
        with suppress(OSError):
            packer = zlib.compressobj(1)
            with open(made, "wb") as out:
                for part in _parts(self._path):
                    with open(part, "rb") as stream:
                        while piece := stream.read(_PIECE):
                            out.write(packer.compress(piece))
                out.write(packer.flush())
            for part in _parts(self._path):
                part.unlink()

    def _put(self, stream: int, data: bytes | memoryview) -> None:
        frame = _HEAD.pack(min(int((time.monotonic() - self._began) * 1000), 0xFFFFFFFF), stream, len(data)) + data
        with suppress(OSError):
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
                self._descriptor = os.open(self._part, flags, 0o600)
            os.write(self._descriptor, frame)
        self._in_part += len(frame)

    def _next_part(self) -> None:
        self.close()
        first, second = self._path.with_name(f"{self._path.name}.a"), self._path.with_name(f"{self._path.name}.b")
        if self._part == second:
            with suppress(OSError):
                os.rename(second, first)
        self._part, self._in_part = second, 0
        self._put(_PLACE, str(self._seen).encode())
        self._in_part = 0


def log_name(build: str, number: int) -> str:
    """How records name the log of a step."""
    return f"{build}/{number}"


def log_path(root: Path, name: str) -> Path:
    """Where a log is, or was before it was settled."""
    return root / DIRECTORY / f"{name}.log"


def has_log(root: Path, name: str) -> bool:
    """Whether something is left of a log."""
    return any(True for _ in _named(root, name))


def read_log(root: Path, name: str) -> Iterator[tuple[float, int, bytes]]:
    """What a step wrote: seconds since it began, the stream, and the bytes, piece by piece. What is left out is said in its place.
    Ends where the log is torn; nothing comes of one that is not there."""
    seen = 0
    for milliseconds, stream, data in _frames(_pieces(_named(root, name))):
        if stream != _PLACE:
            seen += len(data)
            yield milliseconds / 1000, stream, data
        elif data.isdigit() and len(data) < _MOST_DIGITS and int(data) > seen:
            yield milliseconds / 1000, 2, f"\nimgbuild: {int(data) - seen} bytes of output are left out here\n".encode()
            seen = int(data)


def _frames(pieces: Iterator[bytes]) -> Iterator[tuple[int, int, bytes]]:
    held = bytearray()
    for piece in pieces:
        held += piece
        at = 0
        while len(held) - at >= _HEAD.size:
            milliseconds, stream, length = _HEAD.unpack_from(held, at)
            if len(held) - at - _HEAD.size < length:
                break
            at += _HEAD.size + length
            yield milliseconds, stream, bytes(held[at - length : at])
        del held[:at]


def _pieces(files: list[Path]) -> Iterator[bytes]:
    for part in files:
        unpacker = zlib.decompressobj() if part.name.endswith(".z") else None
        with suppress(OSError, zlib.error), open(part, "rb") as stream:
            while piece := stream.read(_PIECE):
                while piece:
                    yield piece if unpacker is None else unpacker.decompress(piece, _PIECE)
                    piece = b"" if unpacker is None else unpacker.unconsumed_tail


def _named(root: Path, name: str) -> list[Path]:
    """The files of a log that a record names: none where that is no name of one, and could lead out of the directory."""
    build, _, number = name.partition("/")
    return _files(log_path(root, name)) if build.isalnum() and number.isdigit() else []


def _files(path: Path) -> list[Path]:
    """The parts of a log in their order; the one file of a settled one, whose parts may be on their way out."""
    parts, settled = _parts(path), path.with_name(f"{path.name}.z")
    return parts if parts and parts[0] == path else [settled] if settled.exists() else parts


def _parts(path: Path) -> list[Path]:
    return [part for part in (path, path.with_name(f"{path.name}.a"), path.with_name(f"{path.name}.b")) if part.exists()]
