"""A copy straight into a layer's tar, without a directory in between: what is read goes on to be hashed, compressed and indexed.

The bytes are those that `capture` makes of the directory that `copy_write` writes.
"""

from __future__ import annotations

import errno
import os
import stat

from imgbuild.context.held import ROOM, SMALL, space
from imgbuild.context.local import CAPABILITY, changed, same_file
from imgbuild.hints import Callable, Iterable, Mapping, Sequence
from imgbuild.layer import WHITEOUT
from imgbuild.layer.diff import Change, ChangeKind, equal_contents
from imgbuild.layer.erofs import FileRecord
from imgbuild.layer.index import TarIndex, attributes_of
from imgbuild.layer.pack import member
from imgbuild.layer.tar import BLOCK, CHUNK, TarEntry, TarWriter
from imgbuild.layer.template import FileTemplate
from imgbuild.layer.xattrs import Xattrs, portable
from imgbuild.linux.node import Node
from imgbuild.rootfs.copy_entries import Content, Entry, Link, check_xattrs
from imgbuild.rootfs.copy_plan import Metadata, PutData, PutFile, PutFiles, PutSpecial, PutSymlink
from imgbuild.snapshot.union import UnionView

_BATCH = 512 << 10
assert ROOM == BLOCK
_PADDING = tuple(bytes(-size % BLOCK) for size in range(BLOCK))
_MOST_ALIKE = 1000

Piece = Sequence[bytes | memoryview] | int
"""Bytes of the tar, or so many zeros of a hole."""


class Batches:
    """Small pieces of a tar, handed on together. `position`: how long the tar is by now."""

    def __init__(self, hand_on: Callable[[Piece], object]) -> None:
        self._hand_on = hand_on
        self._large: list[bytes | memoryview] = []
        self._pieces: list[bytes] = []
        self._waiting = 0
        self.position = 0

    def write(self, data: bytes) -> None:
        """Append a piece."""
        self._pieces.append(data)
        self._waiting += len(data)
        self.position += len(data)
        if self._waiting >= _BATCH:
            self.flush()

    def member(self, header: bytes, data: bytes) -> None:
        """Append a small file."""
        self._pieces += header, data, _PADDING[len(data) % BLOCK]
        taken = len(header) + (len(data) + BLOCK - 1) // BLOCK * BLOCK
        self._waiting += taken
        self.position += taken
        if self._waiting >= _BATCH:
            self.flush()

    def run(self, data: memoryview) -> None:
        """Append what is worth not to be copied."""
        self._join()
        self._large.append(data)
        self._waiting += len(data)
        self.position += len(data)
        if self._waiting >= _BATCH:
            self.flush()

    def hole(self, size: int) -> None:
        """Append so many zeros, which need no place on the disk."""
        self.flush()
        self.position += size
        self._hand_on(size)

    def flush(self) -> None:
        """Hand on what is there."""
        self._join()
        pieces, self._large, self._waiting = self._large, [], 0
        if pieces:
            self._hand_on(pieces)

    def _join(self) -> None:
        if self._pieces:
            self._large.append(b"".join(self._pieces) if len(self._pieces) > 1 else self._pieces[0])
            self._pieces = []


class _Alike:
    """What many files have in common: all but names, sizes and contents."""

    def __init__(self, metadata: Metadata) -> None:
        like = TarEntry(b"", "file", metadata.mode, metadata.owner.uid, metadata.owner.gid, 0, metadata.mtime)
        template = FileTemplate(like)
        self.header, self.write = template.header, template.write
        self.record = FileRecord(attributes_of(like))


class CopyTar:
    """Writes entries to `batches` and into `index`. `check` is called often, and may raise to end it. `rooted`: the root has an entry, too;
    `root_written` is whether it had."""

    def __init__(self, parents: UnionView, batches: Batches, index: TarIndex, check: Callable[[], object], *, rooted: bool) -> None:
        self.entries = 0
        self.root_written = False
        self._parents = parents
        self._batches = batches
        self._writer = TarWriter(batches.write)
        self._index = index
        self._check = check
        self._rooted = rooted
        self._alike: dict[Metadata, _Alike] = {}
        # What was read of a file that might have been the parents'.
        self._read: tuple[PutFile, bytes, bytes] | None = None

    def write(self, entries: Iterable[Entry]) -> None:
        """All of the tar. Unfit or NotIndexable where only a directory can say it; what was written until then is of no use."""
        metadata: Metadata | None = None
        for path, its, content in entries:
            self._check()
            if its is None or isinstance(content, PutFiles):
                assert isinstance(content, PutFiles)
                self._files(path, content)
                continue
            if isinstance(content, PutFile) and content.node.size <= SMALL:
                data, capability = self._loaded(content)
                if not capability and not its.xattrs and WHITEOUT not in path:
                    if its is not metadata:
                        metadata, alike = its, self._shared(its)
                    header = alike.header(path, len(data))
                    if header is not None:
                        self.entries += 1
                        parent, _, name = path.rpartition(b"/")
                        self._index.add_file(parent, name, alike.record, len(data), self._batches.position + len(header))
                        self._batches.member(header, data)
                        continue
                self._file(path, _with_capability(its, capability), data)
            elif path or self._rooted:
                self._other(path, its, content)
        self._writer.finish()
        self._batches.flush()

    def _files(self, directory: bytes, many: PutFiles) -> None:
        alike = {mode: self._shared(its) for mode, its in many.by_mode.items()}
        prefix = directory + b"/" if directory else b""
        for laid in many.tree.laid(many.source, many.files):
            self._check()
            names = os.fsencode("\0".join([name for name, _ in laid.files])).split(b"\0")
            if laid.capability:
                its = _with_capability(many.by_mode[laid.files[0][1].mode], laid.capability)
                self._file(prefix + names[0], its, _content(laid.data, laid.files[0][1].size))
                continue
            self._index.expect(self._batches.position + len(laid.data))
            first, data = 0, laid.data
            while first < len(names):
                count, end = self._run(directory, prefix, names[first:], [node for _, node in laid.files[first:]], data, alike)
                first, data = first + count, data[end:]
                if first < len(names):
                    node = laid.files[first][1]
                    self._file(prefix + names[first], many.by_mode[node.mode], _content(data, node.size))
                    first, data = first + 1, data[space(node.size) :]

    def _run(
        self, directory: bytes, prefix: bytes, names: Sequence[bytes], nodes: Sequence[Node], data: memoryview, alike: Mapping[int, _Alike]
    ) -> tuple[int, int]:
        """Files as they lie in the tar, up to one whose header does not fit before it: so many, of so many bytes."""
        records: list[bytes] = []
        start, at, total = self._batches.position + BLOCK, 0, 0
        for name, node in zip(names, nodes, strict=True):
            size, like = node.size, alike[node.mode]
            if not like.write(data, at, prefix + name, size):
                break
            records.append(like.record.of(size, (start + at) >> 9))
            at += (size + 2 * BLOCK - 1) & -BLOCK
            total += size
        if records:
            self._index.add_records(directory, names[: len(records)], records, total)
            self._batches.run(data[:at])
            self.entries += len(records)
        return len(records), at

    def unchanged(self, content: Content, node: Node) -> bool:
        """Whether an entry whose metadata is the parents' has their attributes and content, too."""
        if isinstance(content, PutData):
            return self._has(content.path, node, content.metadata.xattrs, content.data)
        if not isinstance(content, PutFile):
            return True
        if content.node.size > SMALL:
            return self._same_large(content)
        data, capability = self._loaded(content)
        self._read = content, data, capability
        return self._has(content.path, node, _with_capability(content.metadata, capability).xattrs, data)

    def _has(self, path: str, node: Node, xattrs: tuple[tuple[str, bytes], ...], data: bytes) -> bool:
        return portable(dict(xattrs)) == portable(self._parents.xattrs(path)) and data == self._parents.load(path, node)[0]

    def _same_large(self, content: PutFile) -> bool:
        ours = content.tree.open(content.source)
        try:
            xattrs = _with_capability(content.metadata, _capability(content, ours)).xattrs
            if portable(dict(xattrs)) != portable(self._parents.xattrs(content.path)):
                return False
            theirs = self._parents.open(content.path)
            try:
                same = equal_contents(ours, theirs, self._check)
            finally:
                os.close(theirs)
            _still(content, ours)
            return same
        finally:
            os.close(ours)

    def _loaded(self, content: PutFile) -> tuple[bytes, bytes]:
        """A small file's bytes and capability."""
        if self._read is not None:
            before, data, capability = self._read
            self._read = None
            if before is content:
                return data, capability
        data, capability = content.tree.load(content.source, content.node)
        if len(data) != content.node.size:
            raise changed(content.source)
        return data, capability

    def _shared(self, metadata: Metadata) -> _Alike:
        alike = self._alike.get(metadata)
        if alike is None:
            if len(self._alike) >= _MOST_ALIKE:
                self._alike.clear()
            alike = self._alike[metadata] = _Alike(metadata)
        return alike

    def _other(self, path: bytes, its: Metadata, content: Content | Link | None) -> None:
        """Whatever is no small file of a tree."""
        if isinstance(content, PutFile):
            self._large(path, its, content)
        elif isinstance(content, PutData):
            self._file(path, its, content.data)
        elif content is None:
            self.root_written |= not path
            self._add(_change(path, "dir", its, xattrs=_kept(its)))
        elif isinstance(content, Link):
            self._add(_change(path, "hardlink", its, link=content.target))
        elif isinstance(content, PutSymlink):
            # The bits that Linux shows for every symlink.
            self._add(_change(path, "symlink", its, mode=0o777, link=os.fsencode(content.target)))
        else:
            self._special(path, its, content)

    def _special(self, path: bytes, its: Metadata, content: PutSpecial) -> None:
        kind = stat.S_IFMT(content.mode)
        if kind == stat.S_IFIFO:
            self._add(_change(path, "fifo", its))
        else:
            self._add(_change(path, "char" if kind == stat.S_IFCHR else "block", its, rdev=content.rdev))

    def _file(self, path: bytes, its: Metadata, data: bytes) -> None:
        self._add(_change(path, "file", its, size=len(data), xattrs=_kept(its)))
        self._writer.data(data)
        self._writer.complete()

    def _large(self, path: bytes, its: Metadata, content: PutFile) -> None:
        """A file that is read piece by piece, its holes not at all."""
        source = content.tree.open(content.source)
        try:
            its = _with_capability(its, _capability(content, source))
            size = content.node.size
            self._add(_change(path, "file", its, size=size, xattrs=_kept(its)))
            sparse = os.fstat(source).st_blocks * BLOCK < size
            at = 0
            while at < size:
                start, end = _next_data(source, at, size) if sparse else (at, size)
                if start > at:
                    self._batches.hole(start - at)
                at = start
                while at < end:
                    self._check()
                    data = os.pread(source, min(end - at, CHUNK), at)
                    if not data:
                        raise changed(content.source)
                    self._batches.write(data)
                    at += len(data)
            _still(content, source)
            self._writer.passed(size)
            self._writer.complete()
        finally:
            os.close(source)

    def _add(self, change: Change) -> None:
        entry = member(change)
        self.entries += 1
        self._writer.add(entry)
        self._index.add(entry, self._batches.position)


def _content(data: memoryview, size: int) -> bytes:
    return bytes(data[ROOM : ROOM + size])


def root_entry(metadata: Metadata) -> TarEntry:
    """The root directory as an entry, for the index of a tar that may have none."""
    return member(_change(b"", "dir", metadata, xattrs=_kept(metadata)))


def _change(
    path: bytes,
    kind: ChangeKind,
    its: Metadata,
    *,
    mode: int | None = None,
    size: int = 0,
    link: bytes = b"",
    rdev: int = 0,
    xattrs: Xattrs = (),
) -> Change:
    owner = its.owner
    return Change(path, kind, its.mode if mode is None else mode, owner.uid, owner.gid, size, its.mtime, link, rdev, xattrs)


def _kept(metadata: Metadata) -> Xattrs:
    return portable(dict(metadata.xattrs))


def _with_capability(metadata: Metadata, capability: bytes) -> Metadata:
    if not capability:
        return metadata
    made = Metadata(metadata.mode, metadata.owner, metadata.mtime, ((CAPABILITY, capability),))
    check_xattrs(made)
    return made


def _capability(content: PutFile, source: int) -> bytes:
    """That of an open file of this machine, as for any small one."""
    if not content.tree.local:
        return b""
    try:
        return os.getxattr(source, CAPABILITY)
    except OSError:
        return b""


def _still(content: PutFile, source: int) -> None:
    """ContextError unless an open file is what it was when the plan was made."""
    now = Node.of(os.fstat(source))
    if now.size != content.node.size or (content.tree.local and not same_file(content.node, now)):
        raise changed(content.source)


def _next_data(fd: int, at: int, size: int) -> tuple[int, int]:
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size, size  # no data up to the end
    return min(start, size), min(os.lseek(fd, start, os.SEEK_HOLE), size)
