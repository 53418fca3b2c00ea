"""What changed in an upperdir, relative to the tree below it, as a sequence of `Change`; and the mtimes that the upper shall have.

The order is a function of the names alone: a directory, its opaque marker, its whiteouts, then its entries, each with what is
below it; siblings sorted by bytes. The first name of a hard-linked file is the file, the others are links to it.

What counts as a change. An entry is *untouched* where the parents have one of the same type, mode, owner, kept xattrs, size,
target or device, content, and mtime to the nanosecond: overlay copied it up and that was all. What is not untouched gets its mtime
*clamped*: to whole seconds, and to the epoch if it is later. If it then equals the parents' entry, it has not changed either.
The rest is changed. So neither a copy-up, nor a file written again with what it held, makes a layer differ.
Directories follow the same rule, with one more: those above a change are always written, with clamped mtimes, changed
or not. Unpackers make directories that a layer doesn't name with modes of their own; and whether overlay copied such a directory up,
or changed its mtime, must not be seen. The root's mtime alone is never a change: its upper directory was made for the step.
A hard-linked file is always written, or its other names would lose it.

`clamp` gives the upper itself the mtimes that the layer will have, and takes the opaque marks from directories that hide nothing
(overlay puts one on each new directory), so that it can stand for the layer wherever the layer is used.

Whiteouts (a 0/0 character device; a file with overlay's whiteout xattr in a directory whose opaque xattr is "x") count only
where the parents have the name, opaque marks ("y") only where they have the directory. The root can't be opaque in a layer: what
it would hide is whited out by name. Kernel: Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories".
"""

from __future__ import annotations

import os
import stat

from imgbuild.errors import LayerError
from imgbuild.hints import Callable, Generator, Iterator, Literal
from imgbuild.layer import MAX_PATH, ParentView
from imgbuild.layer.failures import explained
from imgbuild.layer.tar import CHUNK
from imgbuild.layer.xattrs import Xattrs, portable, read_xattrs
from imgbuild.light.pathlib import Path
from imgbuild.linux.descent import Descent
from imgbuild.linux.node import KINDS, Node
from imgbuild.values import dataclass, replace

ChangeKind = Literal["whiteout", "opaque", "file", "dir", "symlink", "hardlink", "char", "block", "fifo"]

_SECOND = 1_000_000_000
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Change:
    """One change. `path` is relative to the root, without "." and slashes at its ends, empty for the root itself; `link` a symlink's
    target, or the path of the file that a hard link names; `mtime` whole seconds. An "opaque" change is about the directory itself."""

    path: bytes
    kind: ChangeKind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    rdev: int = 0
    xattrs: Xattrs = ()


def changes(
    upper: Path,
    parents: ParentView,
    epoch: int | None,
    *,
    rootless: bool = False,
    on_left_out: Callable[[bytes], object] = lambda path: None,
) -> Iterator[Change]:
    """The changes that an upperdir holds, read only, while nobody writes to it. `epoch` in seconds; None clamps nothing.

    `rootless`: overlay's xattrs in the upper are ``user.overlay.*`` (mounted with userxattr), else ``trusted.overlay.*``.
    `on_left_out` is told the path of what is in the upper and not among the changes: where it is never called, the upper may stand
    for the layer on other parents, too.
    """
    return _Walk(parents, epoch, rootless, apply=False, on_left_out=on_left_out).run(upper)


def clamp(upper: Path, epoch: int | None, parents: ParentView | None = None, *, rootless: bool = False) -> None:
    """Make the upper what its layer will be: see above. To be done before anything uses it as a lower; idempotent.

    Without `parents` everything is taken as new; what overlay only copied up is then clamped, too, where it is later than the epoch.
    """
    for _ in _Walk(parents or _Nothing(), epoch, rootless, apply=True).run(upper):
        pass


def overlay_prefix(rootless: bool) -> str:
    """Where overlay keeps its own attributes: userxattr mounts can't use the trusted namespace."""
    return "user.overlay." if rootless else "trusted.overlay."


class _Nothing:
    """The view below the first layer."""

    def lstat(self, path: str) -> Node | None:
        return None

    def listdir(self, path: str) -> list[str]:
        raise FileNotFoundError(path)

    def readlink(self, path: str) -> str:
        raise FileNotFoundError(path)

    def xattrs(self, path: str) -> dict[str, bytes]:
        raise FileNotFoundError(path)

    def open(self, path: str) -> int:
        raise FileNotFoundError(path)


@dataclass(slots=True)
class _Waiting:
    """A directory that is written only if something below it is."""

    change: Change
    late: bool
    """Whether writing it would change its mtime."""
    written: bool = False


_Frame = Generator["Change | _Frame", None, None]
"""What is in a directory: changes, and directories in it."""


class _Walk:
    """One pass over an upper. With `apply` mtimes are set on the way, and contents are read only where that depends on them.

    `_here` is the directory that the innermost frame is about: each frame leaves it where it was.
    """

    _here: Descent

    def __init__(
        self,
        parents: ParentView,
        epoch: int | None,
        rootless: bool,
        *,
        apply: bool,
        on_left_out: Callable[[bytes], object] = lambda path: None,
    ) -> None:
        self._parents = parents
        self._epoch = epoch
        self._prefix = overlay_prefix(rootless)
        self._apply = apply
        self._left_out = on_left_out
        self._waiting: list[_Waiting] = []
        self._links: dict[tuple[int, int], bytes] = {}

    def run(self, upper: Path) -> Iterator[Change]:
        with explained(upper):
            self._here = Descent.open_path(upper)
            # Not recursion: a tree may be deeper than Python's stack.
            stack = [self._root()]
            try:
                while stack:
                    item = next(stack[-1], None)
                    if item is None:
                        stack.pop()
                    elif isinstance(item, Change):
                        yield item
                    else:
                        stack.append(item)
            finally:
                self._here.close()

    def _root(self) -> _Frame:
        node = self._parents.lstat("/")
        change, late = self._directory_change(b"", raw := read_xattrs(self._here.fd))
        owner = (0o755, 0, 0) if node is None else (stat.S_IMODE(node.mode), node.uid, node.gid)
        below = () if node is None else portable(self._parents.xattrs("/"))
        if (change.mode, change.uid, change.gid) == owner and change.xattrs == below:
            self._waiting.append(waiting := _Waiting(change, late))
        else:
            waiting = _Waiting(change, late)
            yield from self._written(waiting)
        if raw.get(self._prefix + "opaque"):
            self._left_out(b"")
        yield self._children(b"", below=node is not None, raw=raw, covering=raw.get(self._prefix + "opaque") == b"y")
        if self._waiting and self._apply:
            when = node.mtime_ns if node is not None else 0
            os.utime(self._here.fd, ns=(when, when))
        self._stamp(waiting)

    def _children(self, path: bytes, *, below: bool, raw: dict[str, bytes], covering: bool = False) -> _Frame:
        """What is in a directory. `below`: the parents' directory shows through; `covering`: it does not, but is still to be hidden
        name by name."""
        marked = raw.get(self._prefix + "opaque") == b"x"
        with os.scandir(fd := self._here.fd) as found:
            entries = sorted((os.fsencode(entry.name), entry.stat(follow_symlinks=False)) for entry in found)
        whiteouts = {name for name, status in entries if self._is_whiteout(fd, name, status, marked)}
        hidden = set(whiteouts)
        if covering and below:
            hidden |= {os.fsencode(name) for name in self._parents.listdir(_absolute(path))} - {name for name, _ in entries}
        prefix = path + b"/" if path else b""
        for name in sorted(hidden):
            if below and self._parents.lstat(_absolute(prefix + name)) is not None:
                yield from self._flushed()
                yield Change(prefix + name, "whiteout")
            else:
                self._left_out(prefix + name)
        for name, status in entries:
            if name in whiteouts:
                continue
            if len(prefix) + len(name) > MAX_PATH:
                raise LayerError(f"a path in {_absolute(path)[:80]}... has more than the {MAX_PATH} bytes that a layer may hold")
            node = self._parents.lstat(_absolute(prefix + name)) if below else None
            if stat.S_ISDIR(status.st_mode):
                yield self._directory(name, prefix + name, node, covering)
            else:
                yield from self._entry(self._here.fd, name, prefix + name, status, None if covering else node)

    def _directory(self, name: bytes, path: bytes, node: Node | None, covered: bool) -> _Frame:
        self._here.down(name)
        raw = read_xattrs(self._here.fd)
        if self._prefix + "redirect" in raw:
            raise LayerError(f"the upperdir was mounted with redirect_dir: {os.fsdecode(path)!r}")
        shown = node is not None and stat.S_ISDIR(node.mode)
        marked = raw.get(self._prefix + "opaque") == b"y"
        opaque = marked or covered
        waiting = _Waiting(*self._directory_change(path, raw))
        if shown and not opaque and node is not None and self._same(waiting.change, os.fstat(self._here.fd), node):
            self._waiting.append(waiting)
        else:
            yield from self._written(waiting)
            if opaque and shown:
                yield Change(path, "opaque")
            elif marked and self._apply:
                os.removexattr(self._here.fd, self._prefix + "opaque")
            elif marked:
                self._left_out(path)
        yield self._children(path, below=shown and not opaque, raw=raw)
        if not waiting.written:
            self._waiting.pop()
            self._left_out(path)
            if self._apply and node is not None and os.fstat(self._here.fd).st_mtime_ns != node.mtime_ns:
                _set_mtime(self._here.fd, waiting.change.mtime)
        self._stamp(waiting)
        self._here.up()

    def _entry(self, parent: int, name: bytes, path: bytes, status: os.stat_result, node: Node | None) -> Iterator[Change]:
        # Where only mtimes are to be set, xattrs matter for what may be the parents' alone.
        change = self._plain_change(parent, name, path, status, with_xattrs=not self._apply or node is not None)
        if change is None:
            self._left_out(path)
            return
        late = status.st_mtime_ns != change.mtime * _SECOND
        if change.kind == "file" and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                change = replace(change, kind="hardlink", link=first, size=0, xattrs=())
        elif node is not None and self._same(change, status, node) and self._same_content(parent, name, change, status, node):
            self._left_out(path)
            if self._apply and status.st_mtime_ns != node.mtime_ns:
                os.utime(name, ns=(change.mtime * _SECOND,) * 2, dir_fd=parent, follow_symlinks=False)
            return
        yield from self._flushed()
        if late and self._apply:
            os.utime(name, ns=(change.mtime * _SECOND,) * 2, dir_fd=parent, follow_symlinks=False)
        yield change

    def _plain_change(self, parent: int, name: bytes, path: bytes, status: os.stat_result, *, with_xattrs: bool) -> Change | None:
        """Anything but a directory as a change; None for sockets, which tar has no word for."""
        kind = KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None or kind == "socket":
            return None
        raw: dict[str, bytes] = {}
        if kind == "file" and with_xattrs:
            raw = self._file_xattrs(parent, name)
            if self._prefix + "metacopy" in raw:
                raise LayerError(f"the upperdir was mounted with metacopy: {os.fsdecode(path)!r}")
        return Change(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size if kind == "file" else 0,
            mtime=self._clamped(status.st_mtime_ns),
            link=os.readlink(name, dir_fd=parent) if kind == "symlink" else b"",
            rdev=status.st_rdev if kind in ("char", "block") else 0,
            xattrs=portable(raw),
        )

    def _directory_change(self, path: bytes, raw: dict[str, bytes]) -> tuple[Change, bool]:
        """The directory that the pass is at as a change, and whether its mtime is another than the change's."""
        status = os.fstat(self._here.fd)
        mtime = self._clamped(status.st_mtime_ns)
        change = Change(path, "dir", stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, mtime=mtime, xattrs=portable(raw))
        return change, status.st_mtime_ns != mtime * _SECOND

    def _clamped(self, mtime_ns: int) -> int:
        seconds = mtime_ns // _SECOND
        return seconds if self._epoch is None else min(seconds, self._epoch)

    def _is_whiteout(self, parent: int, name: bytes, status: os.stat_result, marked: bool) -> bool:
        if stat.S_ISCHR(status.st_mode):
            return status.st_rdev == 0
        if marked and stat.S_ISREG(status.st_mode) and status.st_size == 0:
            return self._prefix + "whiteout" in self._file_xattrs(parent, name)
        return False

    def _file_xattrs(self, parent: int, name: bytes) -> dict[str, bytes]:
        fd = os.open(name, _FILE, dir_fd=parent)
        try:
            return read_xattrs(fd)
        finally:
            os.close(fd)

    def _same(self, change: Change, status: os.stat_result, node: Node) -> bool:
        """Whether all but a content is the parents', the mtime as it is or clamped."""
        if stat.S_IFMT(status.st_mode) != stat.S_IFMT(node.mode):
            return False
        if status.st_mtime_ns != node.mtime_ns and change.mtime * _SECOND != node.mtime_ns:
            return False
        if (change.mode, change.uid, change.gid) != (stat.S_IMODE(node.mode), node.uid, node.gid):
            return False
        if change.kind in ("file", "dir"):
            if change.kind == "file" and change.size != node.size:
                return False
            return change.xattrs == portable(self._parents.xattrs(_absolute(change.path)))
        if change.kind == "symlink":
            return change.link == os.fsencode(self._parents.readlink(_absolute(change.path)))
        return change.kind == "fifo" or change.rdev == node.rdev

    def _same_content(self, parent: int, name: bytes, change: Change, status: os.stat_result, node: Node) -> bool:
        if change.kind != "file" or change.size == 0:
            return True
        exact = status.st_mtime_ns == node.mtime_ns
        matters = (exact and status.st_mtime_ns != change.mtime * _SECOND) or any(waiting.late for waiting in self._waiting)
        if self._apply and not matters:
            return True
        ours = os.open(name, _FILE, dir_fd=parent)
        try:
            theirs = self._parents.open(_absolute(change.path))
            try:
                return equal_contents(ours, theirs)
            finally:
                os.close(theirs)
        finally:
            os.close(ours)

    def _flushed(self) -> Iterator[Change]:
        """The directories above a change, before it."""
        waiting, self._waiting = self._waiting, []
        for directory in waiting:
            directory.written = True
            yield directory.change

    def _written(self, directory: _Waiting) -> Iterator[Change]:
        yield from self._flushed()
        directory.written = True
        yield directory.change

    def _stamp(self, directory: _Waiting) -> None:
        """Give the directory that the pass is at, and has been through, the mtime that was written of it."""
        if directory.written and directory.late and self._apply:
            _set_mtime(self._here.fd, directory.change.mtime)


def _set_mtime(fd: int, seconds: int) -> None:
    os.utime(fd, ns=(seconds * _SECOND, seconds * _SECOND))


def _absolute(path: bytes) -> str:
    return "/" + os.fsdecode(path)


def equal_contents(ours: int, theirs: int, check: Callable[[], object] = lambda: None) -> bool:
    """Whether two open files hold the same from where they stand on. `check` is called on the way."""
    while True:
        check()
        mine = os.read(ours, CHUNK)
        other = b""
        while len(other) < len(mine) and (more := os.read(theirs, len(mine) - len(other))):
            other += more
        if mine != other:
            return False
        if not mine:
            return not os.read(theirs, 1)
