"""Tar archives as streams of entries: a reader of what others write, and the one writer of what we write.

Read: v7, ustar, star, GNU (long names and links, base-256 numbers, sparse) and pax (POSIX.1-2001 pax "pax Interchange Format",
GNU tar manual "Basic Tar Format" and "Storing Sparse Files"). Where readers differ, this one does what Go's archive/tar does,
because docker, containerd and buildah stand on it: global pax headers have no effect (those that would change what is read are
refused), hard links and directories carry no data whatever their size says, a missing end marker is tolerated, but neither
a cut header nor cut data is. Names, link targets and xattrs are bytes, as they are.

Written: ustar as far as it goes, pax records only where it does not (long names and links, xattrs, sizes of 8 GiB and more, ids
over 2097151, times before 1970 or after 2242); raw bytes in names, which ustar readers pass through. The bytes are a function of the
entries alone: no names of owners, whole seconds, records sorted by key.
"""

from __future__ import annotations

import struct

from imgbuild.errors import LayerError
from imgbuild.hints import Callable, Iterator, Literal, Protocol
from imgbuild.layer import headers, sparse
from imgbuild.layer.blocks import KnownFields, KnownHeaders, Source, checksum, header_sum
from imgbuild.values import dataclass

BLOCK = 512
CHUNK = 1 << 20
_ZERO = bytes(BLOCK)
_MAX_SPECIAL = 1 << 20
"""The longest pax header, GNU long name or sparse map that is believed; Go's limit."""

Kind = Literal["file", "dir", "symlink", "hardlink", "char", "block", "fifo"]

_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"S": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "dir",
    b"6": "fifo",
}
_FLAGS: dict[Kind, bytes] = {"file": b"0", "hardlink": b"1", "symlink": b"2", "char": b"3", "block": b"4", "dir": b"5", "fifo": b"6"}
_XATTR = b"SCHILY.xattr."
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One member. `mtime` is whole seconds (rounded down) and `mtime_ns` what is over them; `link` a target of a link; `size` the
    size of a file's content with its holes; `mode` the twelve permission bits."""

    name: bytes
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class Stream(Protocol):
    """Where an archive is read from: `read` gives at most `size` bytes, and none only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Runs(Protocol):
    """Who takes plain files by their headers, many at a time; what it does not take is read as any entry."""

    def remember(self, block: bytes, entry: TarEntry) -> None:
        """An entry whose header says nothing for itself alone but name, size, time and checksum."""
        ...

    def take(self, data: bytes, at: int, before: int) -> int:
        """Pass over files in `data` (the archive from its byte `before` on) that are there as a whole, from the header at `at` on; where
        the next header stands."""
        ...

    def behind(self, padding: bytes) -> None:
        """What follows the content of a file that was not taken, up to the next block."""
        ...


class Reader:
    """A file's content, to be read before the next entry is asked for; what is left unread is skipped.

    `offset` is where the content starts in the archive, None where it is not stored as a whole (a sparse file)."""

    def __init__(self, source: Source, size: int, extents: sparse.Extents, stored: int, offset: int | None) -> None:
        self.size = size
        self.offset = offset
        self._source = source
        self._extents = extents
        self._stored = stored
        self._filled: Iterator[bytes] | None = None
        self._rest = b""

    def segments(self) -> Iterator[tuple[int, bytes]]:
        """The data with its offsets, in order, without the holes."""
        for offset, length in self._extents:
            while length:
                data = self._source.take(min(length, CHUNK))
                self._stored -= len(data)
                yield offset, data
                offset += len(data)
                length -= len(data)

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes of the content, holes as zeros; all that is left where `size` is negative."""
        if self._filled is None:
            self._filled = self._with_zeros()
        if size < 0:
            rest, self._rest = self._rest, b""
            return rest + b"".join(self._filled)
        while not self._rest:
            data = next(self._filled, None)
            if data is None:
                return b""
            self._rest = data
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def skip(self) -> None:
        """Pass over what is stored of the content and was not read."""
        self._source.skip(self._stored)
        self._stored = 0

    def _with_zeros(self) -> Iterator[bytes]:
        position = 0
        for offset, data in self.segments():
            yield from sparse.zeros(offset - position, CHUNK)
            yield data
            position = offset + len(data)
        yield from sparse.zeros(self.size - position, CHUNK)


class _Extensions:
    """What the headers before an entry say about it."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}
        self.pairs: list[tuple[bytes, bytes]] = []
        self.name: bytes | None = None
        self.link: bytes | None = None
        self.any = False


def read_tar(stream: Stream, runs: Runs | None = None) -> Iterator[tuple[TarEntry, Reader]]:
    """The entries of an archive in their order, each with its content; LayerError where it is malformed. What `runs` takes is left out.

    Reads up to the end marker; what follows it is left in the stream, apart from a block of look-ahead.
    """
    source = Source(stream.read)
    extensions = _Extensions()
    known = KnownFields()
    alike: KnownHeaders[TarEntry] = KnownHeaders()
    while True:
        if runs is not None and not extensions.any:
            source.run(runs.take)
        block = _next_header(source)
        if block is None:
            break
        flag = block[156:157]
        if flag in b"xXgLK":
            _extend(extensions, flag, block, source)
            continue
        if flag == b"V":
            extensions = _Extensions()
            continue
        like = None if extensions.any else alike.get(block)
        if like is not None:
            size = headers.size(block[124:136])
            name = block[:100].partition(b"\0")[0]
            entry = TarEntry(name, "file", like.mode, like.uid, like.gid, size, like.mtime, like.mtime_ns)
            reader, padding = Reader(source, size, ((0, size),), size, source.position), -size % BLOCK
        else:
            entry, reader, padding = _member(block, flag, extensions, source, known)
            # Nothing but its own name and size, and no name in several parts.
            if flag == b"0" and not extensions.any and entry.name == block[:100].partition(b"\0")[0]:
                alike.remember(block, entry)
                if runs is not None:
                    runs.remember(block, entry)
        yield entry, reader
        reader.skip()
        if extensions.any:
            extensions = _Extensions()
        # Padding that is missing at the very end is no loss.
        behind = source.exactly(padding)
        if runs is not None:
            runs.behind(behind)
    if extensions.any:
        raise LayerError("the tar ends after an extended header")


def _next_header(source: Source) -> bytes | None:
    block = source.exactly(BLOCK)
    if not block:
        return None
    if block == _ZERO:
        block = source.exactly(BLOCK)
        if block and block != _ZERO:
            raise LayerError("a lone zero block in the tar")
        return None
    if len(block) < BLOCK:
        raise LayerError("the tar ends in the middle of a header")
    wanted = checksum(block)
    total = header_sum(block)
    if total != wanted and total - 256 * sum(byte >> 7 for byte in block[:148] + block[156:]) != wanted:
        raise LayerError("a header of the tar has a wrong checksum", hint="the archive is damaged, or is no tar at all")
    return block


def _extend(extensions: _Extensions, flag: bytes, block: bytes, source: Source) -> None:
    size = headers.size(block[124:136])
    if size > _MAX_SPECIAL:
        raise LayerError(f"an extended header of {size} bytes in the tar")
    data = source.exactly(size)
    if len(data) < size:
        raise LayerError("the tar ends in the middle of an extended header")
    source.exactly(-size % BLOCK)
    if flag == b"g":
        for key, _ in headers.pax_records(data):
            if key in (b"path", b"linkpath", b"size") or key.startswith((b"GNU.sparse.", _XATTR)):
                raise LayerError(f"a global pax header sets {headers.show(key)} for all entries, which unpackers understand differently")
        return
    extensions.any = True
    if flag == b"L":
        extensions.name = data.partition(b"\0")[0]
    elif flag == b"K":
        extensions.link = data.partition(b"\0")[0]
    else:
        extensions.pairs = list(headers.pax_records(data))
        extensions.records = dict(extensions.pairs)


def _member(
    block: bytes, flag: bytes, extensions: _Extensions, source: Source, known: KnownFields
) -> tuple[TarEntry, Reader, int]:
    kind = _KINDS.get(flag)
    if kind is None:
        raise LayerError(f"an entry of the unknown type {headers.show(flag)} in the tar")
    records = extensions.records
    name, link = _names(block, extensions)
    if flag == b"\0" and name.endswith(b"/"):
        kind = "dir"
    stored = (headers.decimal(records[b"size"], "size") if records.get(b"size") else headers.size(block[124:136])) if kind == "file" else 0
    if stored > headers.MAX_SIZE:
        raise LayerError(f"{headers.show(name)} has the absurd size of {stored} bytes")
    size, header = stored, 0
    extents: sparse.Extents = ((0, stored),)
    offset: int | None = source.position
    if kind == "file" and (flag == b"S" or records):
        found = sparse.layout(flag, block, extensions.pairs, stored, source.exactly)
        if found is not None:
            size, extents, header, offset = found.size, found.extents, found.header, None
            name = records.get(b"GNU.sparse.name") or name
    seconds, nanoseconds = known.time(block[136:148], records.get(b"mtime"))
    entry = TarEntry(
        name=name,
        kind=kind,
        mode=known.mode(block[100:108]),
        uid=known.owner(block[108:116], records.get(b"uid"), name),
        gid=known.owner(block[116:124], records.get(b"gid"), name),
        size=size,
        mtime=seconds,
        mtime_ns=nanoseconds,
        link=link if kind in ("symlink", "hardlink") else b"",
        major=headers.device(block[329:337], 12) if kind in ("char", "block") else 0,
        minor=headers.device(block[337:345], 20) if kind in ("char", "block") else 0,
        xattrs=tuple(sorted((key[len(_XATTR) :], value) for key, value in records.items() if key.startswith(_XATTR))) if records else (),
    )
    return entry, Reader(source, size, extents, stored - header, offset), -stored % BLOCK


def _names(block: bytes, extensions: _Extensions) -> tuple[bytes, bytes]:
    records = extensions.records
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0":
        prefix = block[345 : 476 if block[508:512] == b"tar\0" else 500].partition(b"\0")[0]
    elif block[257:265] == b"ustar  \0" and block[345] and not headers.is_number(block[345:357]):
        prefix = block[345:500].partition(b"\0")[0]  # Go before 1.8 put a prefix where GNU's header has a time
    else:
        prefix = b""
    if prefix:
        name = prefix + b"/" + name
    name = records.get(b"path") or (name if extensions.name is None else extensions.name)
    link = records.get(b"linkpath") or (block[157:257].partition(b"\0")[0] if extensions.link is None else extensions.link)
    return name, link


_PAX = TarEntry(b"", "file")
_NUMBERS = (b"uid", b"gid", b"size", b"mtime")


class TarWriter:
    """Writes entries one after another to `write`: `add`, then `data` until the entry's size is reached; at the end `finish`."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._missing = 0
        self._padding = 0

    def add(self, entry: TarEntry) -> None:
        """Write the headers of an entry."""
        self.complete()
        size = entry.size if entry.kind == "file" else 0
        name = entry.name + b"/" if entry.kind == "dir" and not entry.name.endswith(b"/") else entry.name
        short, prefix = _split(name)
        records = [(_XATTR + key, value) for key, value in entry.xattrs]
        if short is None:
            records.append((b"path", name))
        if len(entry.link) > 100:
            records.append((b"linkpath", entry.link))
        fields = _octal(entry.uid, 7), _octal(entry.gid, 7), _octal(size, 11), _octal(entry.mtime, 11)
        if None in fields:
            values = (entry.uid, entry.gid, size, entry.mtime)
            records += [(key, b"%d" % value) for key, value, field in zip(_NUMBERS, values, fields, strict=True) if field is None]
        extended = _extended(name, records) if records else b""
        self._write(extended + _header(name[:100] if short is None else short, _FLAGS[entry.kind], entry, fields, prefix))
        self._missing, self._padding = size, -size % BLOCK

    def data(self, data: bytes) -> None:
        """Write the next bytes of the content of the entry that was added last."""
        self.passed(len(data))
        self._write(data)

    def finish(self) -> None:
        """Write the end marker."""
        self.complete()
        self._write(bytes(2 * BLOCK))

    def passed(self, size: int) -> None:
        """So many bytes of the content were written by the caller."""
        self._missing -= size
        if self._missing < 0:
            raise ValueError("more data than the entry's size")

    def complete(self) -> None:
        """Write what an entry's content is followed by."""
        if self._missing:
            raise ValueError(f"{self._missing} bytes of an entry are missing")
        if self._padding:
            self._write(bytes(self._padding))
        self._padding = 0


def _extended(name: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    """A pax header for the entry that follows."""
    body = b"".join(_record(key, value) for key, value in sorted(records))
    fields = (_octal(0, 7), _octal(0, 7), _octal(len(body), 11), _octal(0, 11))
    return _header(b"PaxHeaders/" + name.rstrip(b"/")[-80:], b"x", _PAX, fields) + body + bytes(-len(body) % BLOCK)


def _header(name: bytes, flag: bytes, entry: TarEntry, fields: tuple[bytes | None, ...], prefix: bytes = b"") -> bytes:
    """One block; a number that does not fit, because a pax record says it, is zero."""
    uid, gid, size, mtime = fields
    major, minor = (b"%07o" % entry.major, b"%07o" % entry.minor) if entry.kind in ("char", "block") else (b"0000000", b"0000000")
    block = _HEADER.pack(
        *(name, b"%07o" % entry.mode, uid or b"0000000", gid or b"0000000", size or b"00000000000", mtime or b"00000000000"),
        *(b"        ", flag, entry.link[:100], b"ustar\x0000", b"", b"", major, minor, prefix),
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(value: int, digits: int) -> bytes | None:
    return b"%0*o" % (digits, value) if 0 <= value < 8**digits else None


def _split(name: bytes) -> tuple[bytes | None, bytes]:
    """A name as ustar's name and prefix; None where they don't take it. The longest prefix wins."""
    if len(name) <= 100:
        return name, b""
    slash = name.rfind(b"/", 1, min(len(name) - 1, 156))
    if slash > 0 and len(name) - slash - 1 <= 100:
        return name[slash + 1 :], name[:slash]
    return None, b""


def _record(key: bytes, value: bytes) -> bytes:
    """One pax record; its length counts its own digits."""
    if b"=" in key:
        name = headers.show(key.removeprefix(_XATTR))
        raise LayerError(f"the attribute {name} can't be written to a layer: pax has no way to say '=' in a name")
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)
