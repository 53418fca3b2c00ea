"""A tar, as it is read -> its index. Most of it are files in a row that differ in nothing but names, sizes, times and contents: these
are indexed without a value for each. Whatever is odd about a header is left to `read_tar` and `TarIndex.add`, which know what it means
and what is wrong with it.
"""

from __future__ import annotations

from zlib import adler32

from imgbuild.layer import WHITEOUT
from imgbuild.layer.blocks import header_sum
from imgbuild.layer.erofs import MAX_BLOCKS, FileRecord, with_mtime
from imgbuild.layer.index import NotIndexable, TarIndex, attributes_of
from imgbuild.layer.names import parts_of
from imgbuild.layer.tar import BLOCK, Stream, TarEntry, read_tar

_ZEROS = bytes(BLOCK)
_MOST_KNOWN = 4096
_NO_NAMES = (b"", b".", b"..")


def index_stream(stream: Stream, index: TarIndex) -> None:
    """Add all entries of a tar. Reads to the end marker only."""
    for entry, reader in read_tar(stream, _Runs(index)):
        index.add(entry, reader.offset)


class _Runs:
    """`tar.Runs` that go into an index."""

    def __init__(self, index: TarIndex) -> None:
        self._index = index
        self._known: dict[bytes, tuple[FileRecord, int, bytes]] = {}

    def remember(self, block: bytes, entry: TarEntry) -> None:
        """Take those that are like this one, whose header says all there is to say of it."""
        key = block[100:124] + block[156:]
        if key in self._known:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        shared = header_sum(block) - (adler32(block[:100], 0) & 0xFFFF) - (adler32(block[124:148], 0) & 0xFFFF)
        self._known[key] = FileRecord(attributes_of(entry)), shared, block[136:148]

    def take(self, data: bytes, at: int, before: int) -> int:
        """Index files from `at` on; where the first header stands that is none of a file that is known and is here as a whole. `before`
        is where `data` starts in the archive."""
        if before + len(data) >> 9 > MAX_BLOCKS:
            return at
        get = self._known.get
        directory: bytes | None = None
        names: list[bytes] = []
        records: list[bytes] = []
        total = 0
        while True:
            start = at + BLOCK
            block = data[at:start]
            like = get(block[100:124] + block[156:])
            if like is None:
                break
            length, wanted = block[124:135], block[148:154]
            if not (length.isdigit() and wanted.isdigit() and block[135] in b"\0 " and block[154:156] == b"\0 "):
                break
            try:
                size, sum_wanted = int(length, 8), int(wanted, 8)
            except ValueError:
                break
            record, shared, time = like
            if (adler32(block[:100], 0) & 0xFFFF) + (adler32(block[124:148], 0) & 0xFFFF) + shared != sum_wanted:
                break
            mtime = None
            if block[136:148] != time:
                # Eleven octal digits are never more than every file system keeps.
                if not (block[136:147].isdigit() and block[147] in b"\0 " and b"8" not in block[136:147] and b"9" not in block[136:147]):
                    break
                mtime = int(block[136:147], 8)
            end = start + size
            after = end + -size % BLOCK
            if after > len(data) or data[end:after] != _ZEROS[: after - end]:
                break
            path = block[:100].partition(b"\0")[0]
            above, _, name = path.rpartition(b"/")
            if WHITEOUT in path or name in _NO_NAMES or b".." in above:
                break
            if above != directory:
                if names:
                    self._add(directory, names, records, total)
                directory, names, records, total = above, [], [], 0
            names.append(name)
            made = record.of(size, before + start >> 9)
            records.append(made if mtime is None else with_mtime(made, mtime))
            total += size
            at = after
        if names:
            self._add(directory, names, records, total)
        return at

    def behind(self, padding: bytes) -> None:
        """NotIndexable where it is not zero: who maps the file into memory sees it."""
        if padding != _ZEROS[: len(padding)]:
            raise NotIndexable("padding that is not zero")

    def _add(self, directory: bytes | None, names: list[bytes], records: list[bytes], total: int) -> None:
        self._index.add_records(b"/".join(parts_of(directory or b"")), names, records, total)
