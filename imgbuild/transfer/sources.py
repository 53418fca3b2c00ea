"""Where an archive is read from: a directory, or a tar in a file or a stream, perhaps compressed.

Files are looked up by name and read one by one; nothing is ever extracted, and nothing outside of the archive is read. A
tar that can't be read at any place (a pipe, a compressed one) is first unpacked, as a tar, to the store's own disk.
"""

from __future__ import annotations

import os
import stat
from typing import BinaryIO, Protocol

from imgbuild.errors import ImageError, LayerError, UsageError
from imgbuild.hints import Iterator
from imgbuild.layer.compress import decompressing
from imgbuild.layer.decompress import kind_of
from imgbuild.layer.tar import BLOCK, CHUNK, Stream, TarEntry, read_tar
from imgbuild.light.contextlib import ExitStack, contextmanager
from imgbuild.light.pathlib import Path, PurePosixPath
from imgbuild.store.failures import explained
from imgbuild.store.store import Store
from imgbuild.values import dataclass

_MAX_LINKS = 8
_MAX_MEMBERS = 1_000_000
_MAX_PADDING = 1 << 20
_USTAR_LIMIT = 8 << 30


class ArchiveSource(Protocol):
    """The files of an archive by their names, ``/`` between parts, relative to its root."""

    def has(self, name: str) -> bool:
        """Whether there is a regular file of that name, perhaps by way of links inside the archive."""
        ...

    def open(self, name: str) -> Stream:
        """The content of a file, to be read from its beginning; ImageError where it is missing. Closed with the archive."""
        ...


@contextmanager
def open_source(store: Store, location: Path | BinaryIO) -> Iterator[ArchiveSource]:
    """The archive at a path, or in an open stream (which stays the caller's)."""
    with ExitStack() as stack:
        if not isinstance(location, Path):
            refuse_devices(location, "what is to be loaded")
            yield _TarSource(stack.enter_context(_spooled(store, location)), "the archive")
            return
        try:
            if location.is_dir():
                yield DirectorySource(location, stack)
                return
            file = stack.enter_context(open(location, "rb", buffering=0))  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"can't read {location}: {error.strerror}") from None
        refuse_devices(file, str(location))
        seekable = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
        head = os.pread(file.fileno(), 6, 0) if seekable else b""
        if seekable and kind_of(head) == "none":
            yield _TarSource(file, str(location))
        else:
            yield _TarSource(stack.enter_context(_spooled(store, file)), str(location))


def refuse_devices(stream: Stream, shown: str) -> None:
    """UsageError for a character device: /dev/zero and its like have no end, and a terminal no archive."""
    try:
        mode = os.fstat(stream.fileno()).st_mode  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return  # a stream of this process
    if stat.S_ISCHR(mode):
        raise UsageError(f"{shown} is a device, not an archive", hint="give a file, or an archive by a pipe")


def read_bounded(source: ArchiveSource, name: str, limit: int) -> bytes:
    """A whole small file; ImageError where it is longer than `limit`."""
    stream, parts, size = source.open(name), [], 0
    while size <= limit and (data := stream.read(min(CHUNK, limit + 1 - size))):
        parts.append(data)
        size += len(data)
    if size > limit:
        raise ImageError(f"{name} in the archive is longer than the {limit} bytes that are read of it")
    return b"".join(parts)


class DirectorySource:
    """A directory. Symlinks inside it are followed, never out of it."""

    def __init__(self, root: Path, stack: ExitStack) -> None:
        self._root = Path(os.path.realpath(root))
        self._stack = stack

    def has(self, name: str) -> bool:
        path = self._path(name)
        return path is not None and path.is_file()

    def open(self, name: str) -> Stream:
        path = self._path(name)
        if path is None or not path.is_file():
            raise ImageError(f"the directory {self._root} has no file {name!r}")
        with explained(path):
            return self._stack.enter_context(open(path, "rb", buffering=0))

    def _path(self, name: str) -> Path | None:
        inside = _normal(name)
        path = None if inside is None else Path(os.path.realpath(self._root / inside))
        return path if path is not None and path.is_relative_to(self._root) else None


@dataclass(frozen=True, slots=True)
class _Member:
    offset: int
    size: int
    link: str | None
    plain: bool


class _TarSource:
    """A tar in a file that can be read at any place. Of several members with one name the last one counts, as for tar."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._descriptor = file.fileno()
        self._name = name
        self._members = _members(self._descriptor, name)

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def open(self, name: str) -> Stream:
        member = self._find(name)
        if member is None:
            raise ImageError(f"{self._name} has no file {name!r}")
        if not member.plain:
            raise ImageError(f"{name!r} in {self._name} is a sparse file", hint="write the archive again without --sparse")
        return _Slice(self._descriptor, member.offset, member.size)

    def _find(self, name: str) -> _Member | None:
        """The file of that name, through the links that old versions of docker write for layers that appear twice."""
        current = _normal(name)
        for _ in range(_MAX_LINKS):
            member = self._members.get(current) if current is not None else None
            if member is None or member.link is None:
                return member
            current = member.link
        return None


class _Slice:
    """A part of a file as a stream."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor = descriptor
        self._at = offset
        self._end = offset + size

    def read(self, size: int, /) -> bytes:
        data = os.pread(self._descriptor, min(size, self._end - self._at), self._at)
        self._at += len(data)
        return data


class _Headers:
    """The tar as its reader sees it when only headers matter: block by block, so that where it stands is known, and without
    reading content that the reader will pass over."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = os.fstat(descriptor).st_size
        self._zeros = bytes(CHUNK)
        self.at = 0
        self.last = b""
        self._pass_over = 0

    def read(self, size: int, /) -> bytes:
        if self._pass_over:
            step = min(self._pass_over, CHUNK)
            self._pass_over -= step
            self.at += step
            return self._zeros[:step]
        self.last = os.pread(self._descriptor, BLOCK, self.at)
        self.at += len(self.last)
        return self.last

    def pass_over(self, size: int) -> None:
        """The next bytes are of no interest, as far as they are whole blocks and there."""
        self._pass_over = max(0, min(size, self._end - self.at)) // BLOCK * BLOCK


def _members(descriptor: int, name: str) -> dict[str, _Member]:
    headers = _Headers(descriptor)
    found: dict[str, _Member] = {}
    try:
        for count, (entry, _) in enumerate(read_tar(headers)):
            _check_count(count, name)
            plain, offset = _is_plain(entry, headers.last), headers.at
            if plain and entry.kind == "file":
                headers.pass_over(entry.size)
            key = _normal(entry.name.decode("utf-8", "surrogateescape"))
            if key is None or entry.kind not in ("file", "symlink", "hardlink"):
                continue
            found[key] = _Member(offset, entry.size, _target(key, entry), plain)
    except LayerError as error:
        raise ImageError(f"{name} is not an image archive: {error.message}", hint=error.hint, detail=error.detail) from None
    return found


def _check_count(count: int, name: str) -> None:
    if count > _MAX_MEMBERS:
        raise ImageError(f"{name} has more than {_MAX_MEMBERS} members, which no image needs")


def _is_plain(entry: TarEntry, header: bytes) -> bool:
    """Whether the content lies in the archive as it is: the header's own size is the content's, so it is not sparse."""
    if entry.kind != "file" or header[156:157] not in (b"0", b"\0", b"7"):
        return entry.kind != "file"
    digits = header[124:136].strip(b"\0 ")
    said = int(digits, 8) if digits and all(48 <= digit < 56 for digit in digits) else None
    return said == entry.size or entry.size >= _USTAR_LIMIT


def _target(key: str, entry: TarEntry) -> str | None:
    if entry.kind == "file":
        return None
    link = entry.link.decode("utf-8", "surrogateescape")
    if entry.kind == "hardlink":
        return _normal(link) or ""
    return _normal(str(PurePosixPath(key).parent / link)) or ""


def _normal(name: str) -> str | None:
    """A name without ``.`` and with ``..`` taken away; None where it leads out of the archive."""
    if name.startswith("/") or "\0" in name:
        return None
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or None


class _Copied:
    """A stream of which a file keeps what is read: as much of it as is a tar, so that no endless stream is kept."""

    def __init__(self, stream: Stream, file: BinaryIO) -> None:
        self._stream = stream
        self._file = file

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._file.write(data)
        return data

    def drain(self) -> None:
        """Read on a little after the tar's end: who writes a pipe should not meet a closed one in its padding."""
        left = _MAX_PADDING
        while left > 0 and (data := self._stream.read(min(left, CHUNK))):
            left -= len(data)


@contextmanager
def _spooled(store: Store, stream: BinaryIO) -> Iterator[BinaryIO]:
    with store.temporary("archive") as directory:
        path = directory / "archive.tar"
        with explained(path), open(path, "w+b") as file:
            content = _Copied(decompressing(stream), file)
            try:
                for count, _ in enumerate(read_tar(content)):
                    _check_count(count, "the archive")
                content.drain()
            except LayerError as error:
                raise ImageError(f"the archive can't be read: {error.message}", hint=error.hint, detail=error.detail) from None
            file.flush()
            yield file
