"""The directories behind volumes: named ones below the store's ``volumes/``, anonymous ones inside their container's directory.

A volume is filled, when it is made, with what the image has at its target, owner and mode included. A named one appears whole or not
at all, and once, however many containers ask for it at the same time.
"""

from __future__ import annotations

import os
import stat

from imgbuild.light.pathlib import Path
from imgbuild.linux.node import Node
from imgbuild.linux.paths import Root
from imgbuild.snapshot.union import UnionView
from imgbuild.store.store import Store

_CHUNK = 1 << 20


def named_volume(store: Store, name: str, view: UnionView, target: str, *, seed: bool) -> Path:
    """The directory of the volume `name`, made on its first use and filled from `target`, a real path of the image."""
    volumes = store.root / "volumes"
    path = volumes / name
    if path.is_dir():
        return path
    with store.lock(f"volume {name}"), store.temporary("volume") as scratch:
        if not path.is_dir():
            volumes.mkdir(mode=0o700, exist_ok=True)
            make_volume(scratch / "data", view, target, seed=seed)
            (scratch / "data").rename(path)
    return path


def make_volume(directory: Path, view: UnionView, target: str, *, seed: bool) -> Path:
    """A new volume at `directory`, filled from `target`, a real path of the image, where a directory is there."""
    directory.mkdir(mode=0o755)
    directory.chmod(0o755)
    status = view.lstat(target)
    if seed and status is not None and stat.S_ISDIR(status.mode):
        _copy(view, target, directory)
    return directory


def _copy(view: UnionView, top: str, directory: Path) -> None:
    links: dict[tuple[int, int], str] = {}
    directories: list[tuple[str, str, Node]] = []
    with Root.open_path(directory) as root:
        for source, status in view.walk(top):
            path = "/" + source[len(top) :].lstrip("/")
            if stat.S_ISDIR(status.mode):
                os.close(root.makedirs(path))
                directories.append((source, path, status))
                continue
            parent, name = root.open_parent(path)
            same = (status.dev, status.ino)
            if status.nlink > 1 and same in links:
                first, first_name = os.path.split(links[same])
                with root.opened(first) as first_parent:
                    os.link(first_name, name, src_dir_fd=first_parent, dst_dir_fd=parent, follow_symlinks=False)
                continue
            if _make(view, source, status, parent, name):
                links[same] = path
                _own(view, source, status, parent, name)
        for source, path, status in reversed(directories):  # times last: what is made inside changes them
            with root.opened(path, os.O_RDONLY | os.O_DIRECTORY) as made:
                _own(view, source, status, made, b".")


def _make(view: UnionView, source: str, status: Node, parent: int, name: bytes) -> bool:
    kind = stat.S_IFMT(status.mode)
    if kind == stat.S_IFREG:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(view.open(source), "rb") as read, os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as write:
            while data := read.read(_CHUNK):
                write.write(data)
    elif kind == stat.S_IFLNK:
        os.symlink(os.fsencode(view.readlink(source)), name, dir_fd=parent)
    elif kind == stat.S_IFSOCK:
        return False
    else:
        os.mknod(name, kind | 0o600, status.rdev, dir_fd=parent)
    return True


def _own(view: UnionView, source: str, status: Node, parent: int, name: bytes) -> None:
    os.chown(name, status.uid, status.gid, dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISLNK(status.mode):
        os.chmod(name, stat.S_IMODE(status.mode), dir_fd=parent)
    # A path by which setxattr reaches an entry of a directory descriptor, also a symlink; our own tree: nobody changes it.
    path = os.fsencode(f"/proc/self/fd/{parent}/") + name
    for key, value in view.xattrs(source).items():
        os.setxattr(path, key, value, follow_symlinks=False)
    os.utime(name, ns=(status.mtime_ns, status.mtime_ns), dir_fd=parent, follow_symlinks=False)
