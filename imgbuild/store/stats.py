"""The stat cache's form on disk: one row a directory, its file names in one blob, their numbers in another.

Files that share a directory share a row, and only the directories that differ are written: one changed file in twenty
thousand writes a few KiB, and a load makes no row object of SQLite's for each file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from imgbuild.store.rows import FileStat

_NUMBERS = struct.Struct("<QQQqq32s")
_PREFIX = "sha256:"


def pack_directories(rows: Mapping[str, FileStat]) -> dict[bytes, tuple[bytes, bytes]]:
    """Directory -> (names joined by NUL, their numbers), names sorted."""
    directories: dict[str, list[tuple[str, FileStat]]] = {}
    for path, row in rows.items():
        directory, slash, name = path.rpartition("/")
        directories.setdefault(directory + slash, []).append((name, row))
    return {directory.encode("utf-8", "surrogateescape"): _pack(sorted(files)) for directory, files in directories.items()}


def unpack_directories(rows: Iterable[tuple[bytes, bytes, bytes]]) -> dict[str, FileStat]:
    """The inverse of `pack_directories`; a directory whose row is damaged is left out."""
    found: dict[str, FileStat] = {}
    for directory, names, numbers in rows:
        prefix = directory.decode("utf-8", "surrogateescape")
        words = names.decode("utf-8", "surrogateescape").split("\0")
        if len(numbers) != len(words) * _NUMBERS.size:
            continue
        for name, (device, inode, size, mtime, ctime, digest) in zip(words, _NUMBERS.iter_unpack(numbers), strict=True):
            found[prefix + name] = FileStat(device, inode, size, mtime, ctime, _PREFIX + digest.hex())
    return found


def _pack(files: list[tuple[str, FileStat]]) -> tuple[bytes, bytes]:
    names = "\0".join([name for name, _ in files]).encode("utf-8", "surrogateescape")
    pack = _NUMBERS.pack
    return names, b"".join(
        [pack(row.device, row.inode, row.size, row.mtime_ns, row.ctime_ns, bytes.fromhex(row.digest[len(_PREFIX) :])) for _, row in files]
    )
