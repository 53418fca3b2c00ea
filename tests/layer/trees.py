"""Trees for tests: what is in one, and edits of one through a real overlay mount."""

from __future__ import annotations

import os
import pickle
import stat
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from imgbuild.linux import syscalls
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.union import UnionView

EPOCH = 1_700_000_000


class Seen(NamedTuple):
    """All that can be seen of an entry; `same` is the first path of the same file."""

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    content: bytes | str | int
    xattrs: tuple[tuple[str, bytes], ...]
    same: str


def view(*lowers: Path) -> UnionView:
    """The union of directories in overlay form, lowest first."""
    return UnionView(tuple(DirectoryLower(lower) for lower in lowers))


def seen_in(union: UnionView) -> dict[str, Seen]:
    """Everything in a union."""
    found: dict[str, Seen] = {}
    first: dict[tuple[int, int], str] = {}
    for path, node in union.walk():
        content: bytes | str | int = b""
        if stat.S_ISREG(node.mode):
            with os.fdopen(union.open(path), "rb") as file:
                content = file.read()
        elif stat.S_ISLNK(node.mode):
            content = union.readlink(path)
        elif not stat.S_ISDIR(node.mode):
            content = node.rdev
        xattrs = tuple(union.xattrs(path).items()) if stat.S_ISREG(node.mode) or stat.S_ISDIR(node.mode) else ()
        same = first.setdefault((node.dev, node.ino), path) if stat.S_ISREG(node.mode) else path
        found[path] = Seen(node.mode, node.uid, node.gid, node.mtime_ns, content, xattrs, same)
    return found


def seen_at(root: str, *, overlay: bool = False) -> dict[str, Seen]:
    """Everything in a plain directory, as the kernel shows it. An overlay lists whiteouts that hide nothing, though nothing is there."""
    found: dict[str, Seen] = {}
    first: dict[tuple[int, int], str] = {}
    pending = [""]
    while pending:
        path = pending.pop()
        full = root + path
        try:
            status = os.lstat(full)
        except FileNotFoundError:
            if not overlay:
                raise
            continue
        content: bytes | str | int = b""
        if stat.S_ISREG(status.st_mode):
            content = Path(full).read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(full)
        elif stat.S_ISDIR(status.st_mode):
            pending += sorted((f"{path}/{name}" for name in os.listdir(full)), reverse=True)
        else:
            content = status.st_rdev
        xattrs: tuple[tuple[str, bytes], ...] = ()
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            xattrs = tuple((name, os.getxattr(full, name)) for name in sorted(os.listxattr(full)))
        same = first.setdefault((status.st_dev, status.st_ino), path) if stat.S_ISREG(status.st_mode) else path or "/"
        found[path or "/"] = Seen(status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, content, xattrs, same)
    return found


def timeless(tree: dict[str, Seen]) -> dict[str, Seen]:
    """A tree without its mtimes, and without what hard links are the same as (an overlay without index breaks them)."""
    return {path: seen._replace(mtime_ns=0, same="") for path, seen in sorted(tree.items())}


def edit(lowers: list[Path], scratch: Path, work: Callable[[str], None]) -> tuple[Path, dict[str, Seen]]:
    """Run `work(merged)` in a child with an overlay of `lowers` mounted there only; the upperdir, and what the kernel then shows."""
    upper, workdir, merged, result = (scratch / name for name in ("upper", "work", "merged", "result"))
    for directory in (upper, workdir, merged):
        directory.mkdir(parents=True)
    with view(*lowers) as union:
        root = union.lstat("/")
        assert root is not None
        os.chown(upper, root.uid, root.gid)
        os.chmod(upper, stat.S_IMODE(root.mode))
        os.utime(upper, ns=(root.mtime_ns, root.mtime_ns))
    in_child(lambda: _mounted(lowers, upper, workdir, merged, result, work))
    return upper, pickle.loads(result.read_bytes())


def _mounted(lowers: list[Path], upper: Path, workdir: Path, merged: Path, result: Path, work: Callable[[str], None]) -> None:
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    stack = ":".join(str(lower) for lower in reversed(lowers))
    options = f"lowerdir={stack},upperdir={upper},workdir={workdir},index=off,redirect_dir=off,metacopy=off,xino=off"
    syscalls.mount("overlay", str(merged), "overlay", 0, options)
    work(str(merged))
    result.write_bytes(pickle.dumps(seen_at(str(merged))))


def in_child(work: Callable[[], Any]) -> None:
    """Run `work` in a forked child; AssertionError with its traceback where it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, said.decode()
