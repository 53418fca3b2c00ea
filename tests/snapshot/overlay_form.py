"""Making directories in overlay form, and mounting them in a mount namespace of a child, for the tests of this room."""

from __future__ import annotations

import functools
import os
import pickle
import stat
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imgbuild.linux import syscalls

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18

Content = str | tuple[Any, ...]
"""A file's text, or ("dir", mode), ("opaque",), ("whiteout",), ("symlink", target), ("link", path), ("fifo",)."""


def make_lower(root: Path, entries: Mapping[str, Content], *, userxattr: bool = False) -> Path:
    """A directory in overlay form; missing parents are made."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in entries.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
            continue
        kind, *rest = content
        if kind == "dir":
            path.mkdir(exist_ok=True)
            path.chmod(rest[0] if rest else 0o755)
        elif kind == "opaque":
            path.mkdir(exist_ok=True)
            os.setxattr(path, ("user" if userxattr else "trusted") + ".overlay.opaque", b"y")
        elif kind == "whiteout":
            os.mknod(path, stat.S_IFCHR | 0o600, 0)
        elif kind == "symlink":
            path.symlink_to(rest[0])
        elif kind == "link":
            os.link(root / rest[0], path)
        elif kind == "fifo":
            os.mkfifo(path)
    return root


def in_mount_namespace(work: Callable[[], Any]) -> Any:
    """What `work` returns, called in a forked child that has its own mounts, all gone when it ends."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(readable)
            syscalls.unshare(CLONE_NEWNS)
            syscalls.mount(None, "/", None, MS_REC | MS_PRIVATE)
            answer = pickle.dumps((True, work()))
        except BaseException:
            answer = pickle.dumps((False, traceback.format_exc()))
        with os.fdopen(writable, "wb") as file:
            file.write(answer)
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as file:
        good, answer = pickle.loads(file.read())
    os.waitpid(child, 0)
    assert good, answer
    return answer


def tree_of(root: Path) -> dict[str, tuple[Any, ...]]:
    """All below a directory as the kernel shows it: type and mode, size or target, content, inode-free."""
    found: dict[str, tuple[Any, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue  # the kernel lists a whiteout that has nothing to hide, but nothing is there
            found["/" + os.path.relpath(path, root)] = describe(
                status, functools.partial(os.readlink, path), functools.partial(Path.read_bytes, Path(path))
            )
    return found


def describe(status: Any, target: Callable[[], str], content: Callable[[], bytes]) -> tuple[Any, ...]:
    """One entry in a form that both sides of a comparison can give."""
    mode = getattr(status, "st_mode", None) or status.mode
    mtime = getattr(status, "st_mtime_ns", None) or status.mtime_ns
    extra = target() if stat.S_ISLNK(mode) else content() if stat.S_ISREG(mode) else None
    return mode, mtime, extra
