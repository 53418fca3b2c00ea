"""Looking over whole trees of the store: what identifies a snapshot, and what a tree takes on the disk.

A survey reads no file's content: it is for finding what was lost or tampered with by accident or by hand, at the price of a walk.
"""

from __future__ import annotations

import os
import stat

from imgbuild.hints import Iterator
from imgbuild.light.pathlib import Path
from imgbuild.linux.descent import Descent
from imgbuild.oci.digest import Sha256, digest_of
from imgbuild.store.failures import explained
from imgbuild.values import dataclass

_BLOCK = 512

TREE, TAR, INDEX = "fs", "layer.tar", "index.erofs"
"""The names in a snapshot: a directory in overlay form; or a layer's tar and what makes it one. Both may be there, and mean the same."""


def tar_name(number: int) -> str:
    """The name of one of several tars that one index is for."""
    return f"layer-{number}.tar" if number else TAR


@dataclass(frozen=True, slots=True)
class Survey:
    """`tree`: a digest over every path with its type, mode, owner, size, mtime, device, link target and xattrs. `size`: apparent
    bytes of the regular files; `inodes`: hard links counted once, the top included."""

    tree: str
    size: int
    inodes: int


def survey(path: Path) -> Survey:
    """Look over the tree at `path`, to be recorded with a snapshot and compared later."""
    hasher, size, seen = Sha256(), 0, set()
    with explained(path):
        for name, full, status in _walk(os.fsencode(path)):
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                size += status.st_size if stat.S_ISREG(status.st_mode) else 0
            hasher.update(_line(name, full, status))
    return Survey("sha256:" + hasher.hexdigest(), size, len(seen))


def survey_snapshot(directory: Path) -> Survey:
    """Look over a snapshot of the store, in whichever forms it is there: a tar's bytes are not read, those of its index are."""
    forms = []
    if (directory / INDEX).exists():
        forms.append(_survey_indexed(directory))
    if not forms or (directory / TREE).exists():
        forms.append(survey(directory / TREE))
    tree = forms[0].tree if len(forms) == 1 else digest_of(" ".join(form.tree for form in forms).encode())
    return Survey(tree, sum(form.size for form in forms), sum(form.inodes for form in forms))


def _survey_indexed(directory: Path) -> Survey:
    size, lines = 0, []
    with explained(directory):
        names = sorted({TAR, INDEX, *os.listdir(directory)} - {TREE})
    for name in names:
        with explained(directory / name):
            status = os.lstat(directory / name)
        size += status.st_size
        lines.append(f"{name} {status.st_mode} {status.st_uid} {status.st_gid} {status.st_size} {status.st_mtime_ns}\n")
    with explained(directory / INDEX):
        lines.append(digest_of((directory / INDEX).read_bytes()))
    return Survey(digest_of("".join(lines).encode()), size, len(names))


def physical(path: Path, seen: set[tuple[int, int]]) -> int:
    """The bytes that the tree or file at `path` takes on the disk. Files with several links are counted where they are first
    met, over all calls that share `seen`; what can't be reached (no permission) is not."""
    total = 0
    with explained(path):
        for _, _, status in _walk(os.fsencode(path), lenient=True):
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                if identity in seen:
                    continue
                seen.add(identity)
            total += status.st_blocks * _BLOCK
    return total


def _walk(top: bytes, *, lenient: bool = False) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    """(path below `top`, a path that is good until the next, lstat) of everything, in a fixed order. What vanishes meanwhile is
    passed over, and with `lenient` what can't be reached too."""
    passed_over = OSError if lenient else FileNotFoundError
    try:
        status = os.lstat(top)
    except passed_over:
        return
    yield b"", top, status
    if not stat.S_ISDIR(status.st_mode):
        return
    try:
        here = Descent.open_path(top)
    except passed_over:
        return
    with here:
        # What is still to be read: how deep the directory above lies, the name in it, and the path.
        pending = [(0, b"", b"")]
        while pending:
            depth, name, path = pending.pop()
            try:
                while here.depth > depth:
                    here.up()
                if name:
                    here.down(name)
                with os.scandir(here.fd) as listing:
                    entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
            except passed_over:
                continue
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except passed_over:
                    continue
                found = os.fsencode(entry.name)
                below = b"%b/%b" % (path, found) if path else found
                yield below, b"/proc/self/fd/%d/%b" % (here.fd, found), status
                if stat.S_ISDIR(status.st_mode):
                    pending.append((here.depth, found, below))


def _line(name: bytes, full: bytes, status: os.stat_result) -> bytes:
    mode = status.st_mode
    size = status.st_size if stat.S_ISREG(mode) else 0
    link = os.readlink(full) if stat.S_ISLNK(mode) else b""
    device = status.st_rdev if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0
    numbers = f"{mode} {status.st_uid} {status.st_gid} {size} {status.st_mtime_ns} {device}".encode()
    xattrs = [os.fsencode(key) + b"=" + os.getxattr(full, key, follow_symlinks=False) for key in _xattr_names(full)]
    # Each part with its length before it: no two trees have one text.
    return b"".join(b"%d:%b" % (len(part), part) for part in (name, numbers, link, *xattrs)) + b"\n"


def _xattr_names(full: bytes) -> list[str]:
    try:
        return sorted(os.listxattr(full, follow_symlinks=False))
    except OSError:
        return []  # a file system without them
