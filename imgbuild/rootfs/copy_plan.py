"""What a copy will do, as values, and the model of the destination that they are decided on.

`Destination` is the root file system as it will be: the parents' union, and above it what was decided so far. It follows the
destination's symlinks inside the root, makes parents, and says no where a file would become a directory or the reverse.
The rules are BuildKit's (solver/llbsolver/file, fsutil/copy). Not here: doing it (copy_write), archives (copy_unpack).
"""

from __future__ import annotations

import stat

from imgbuild.context.tree import Tree
from imgbuild.errors import BuildfileError
from imgbuild.hints import TYPE_CHECKING, Mapping, Sequence
from imgbuild.layer.xattrs import is_kept
from imgbuild.linux.node import Node
from imgbuild.linux.symlinks import resolve_inside
from imgbuild.rootfs.users import Owner
from imgbuild.snapshot.union import UnionView
from imgbuild.values import dataclass, field

if TYPE_CHECKING:
    from imgbuild.context.local import LocalContext

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an entry gets besides its content: permission bits, owner, mtime in whole seconds, extended attributes."""

    mode: int
    owner: Owner
    mtime: int
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """A directory; its metadata is given when all is written. `opaque`: what the parents have below it is gone."""

    path: str
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class PutFile:
    """A copy of a regular file of a tree, that must still be what `node` says. Of entries with the same `same_file`, the first is
    the file and the others are links to it."""

    path: str
    tree: Tree = field(repr=False)
    source: str
    node: Node
    metadata: Metadata
    same_file: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class PutFiles:
    """`PutFile` for small files of one directory of a build context: they follow each other in a directory where there is nothing yet, by
    names that are no whiteouts. What they get, by the modes that they have."""

    path: str
    """Of the directory."""
    tree: LocalContext = field(repr=False)
    source: str
    files: Sequence[tuple[str, Node]] = field(repr=False)
    by_mode: Mapping[int, Metadata]


@dataclass(frozen=True, slots=True)
class PutData:
    """A regular file of these bytes."""

    path: str
    data: bytes = field(repr=False)
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class PutStream:
    """A regular file whose bytes are in the archive that is being read."""

    path: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class PutSymlink:
    path: str
    target: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class PutLink:
    """Another name for what was put at `target`; `symlink` is where that leads, if it is a symlink."""

    path: str
    target: str
    symlink: str | None = None


@dataclass(frozen=True, slots=True)
class PutSpecial:
    """A device or a fifo; the type is in `mode`."""

    path: str
    mode: int
    rdev: int
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Remove:
    """Away with what this copy put at `path`, and with all below it."""

    path: str


@dataclass(frozen=True, slots=True)
class Extract:
    """The entries of an archive, below the directory `path`. What they are is decided while it is read."""

    path: str
    tree: Tree = field(repr=False)
    source: str
    node: Node
    owner: Owner | None


Put = PutFile | PutData | PutStream | PutSymlink | PutLink | PutSpecial
Action = MakeDirectory | Put | PutFiles | Remove | Extract


@dataclass(slots=True)
class _Directory:
    """A directory of the new lower. `shows`: the parents' directory is seen through it; `settled`: its mtime came with it."""

    metadata: Metadata
    shows: bool
    settled: bool = False


@dataclass(frozen=True, slots=True)
class _Leaf:
    """Anything else of the new lower: a symlink where `target` is not None."""

    target: str | None


_FILE = _Leaf(None)


class Destination:
    """The state of one copy's planning: its calls decide actions, which the caller takes and performs in order."""

    def __init__(self, parents: UnionView, epoch: int, owner: Owner) -> None:
        self.actions: list[Action] = []
        self._parents = parents
        self._epoch = epoch
        self._owner = owner
        self._new: dict[str, _Directory | _Leaf] = {}
        root = parents.lstat("/")
        if root is None:
            raise FileNotFoundError("/")
        self._new["/"] = _Directory(self._kept("/", root), shows=True)

    def directories(self) -> Mapping[str, Metadata]:
        """The directories of the new lower with what they get in the end, parents first."""
        found = ((path, entry.metadata) for path, entry in self._new.items() if isinstance(entry, _Directory))
        return dict(sorted(found, key=lambda item: item[0].count("/") if item[0] != "/" else 0))

    def resolve(self, path: str, follow_last: bool = True) -> str:
        """The real path that `path` will mean; what is missing stays as written."""
        try:
            return resolve_inside(path, self.link, follow_last)
        except OSError as error:
            raise BuildfileError(f"can't write to {path!r} in the image: {error.strerror}") from None

    def kind(self, path: str) -> int | None:
        """The file type (S_IFMT) at a real path, None where nothing is."""
        new = self._new.get(path)
        if new is not None:
            return stat.S_IFDIR if isinstance(new, _Directory) else stat.S_IFLNK if new.target is not None else stat.S_IFREG
        node = self._below(path)
        return stat.S_IFMT(node.mode) if node else None

    def link(self, path: str) -> str | None:
        """The target of the symlink at a real path, None where none is."""
        new = self._new.get(path)
        if new is not None:
            return new.target if isinstance(new, _Leaf) else None
        node = self._below(path)
        return self._parents.readlink(path) if node and stat.S_ISLNK(node.mode) else None

    def is_new(self, path: str) -> bool:
        """Whether a real path is in the new lower."""
        return path in self._new

    def clamped(self, mtime_ns: int) -> int:
        """The mtime, in seconds, that something from elsewhere gets."""
        return min(mtime_ns // SECOND, self._epoch)

    def make_directories(self, path: str, owner: Owner | None = None, mode: int = 0o755) -> None:
        """Directories down to a real path: with this copy's owner where they are missing, untouched where they are there."""
        missing: list[str] = []
        while (kind := self.kind(path)) is None:
            missing.append(path)
            path = _parent(path)
        if kind != stat.S_IFDIR:
            raise BuildfileError(f"can't make the directory {path!r}: something else is there in the image")
        for path in reversed(missing):
            self._make(path, Metadata(mode, owner or self._owner, self._epoch), settled=False)

    def put_directory(self, path: str, metadata: Metadata, *, settled: bool, replace: bool = False) -> None:
        """A directory of a source at a real path: made, or given the source's metadata where one is there. With `replace` it also
        takes the place of anything else. `settled`: later writes into it do not change its mtime."""
        kind = self.kind(path)
        if kind not in (None, stat.S_IFDIR) and not replace:
            raise BuildfileError(f"can't copy a directory to {path!r}: it is not a directory in the image")
        if kind != stat.S_IFDIR:
            self._drop(path)
            self._make(path, metadata, settled)
            return
        self._enter(path)
        entry = self._new[path]
        assert isinstance(entry, _Directory)
        xattrs = tuple(sorted((dict(entry.metadata.xattrs) | dict(metadata.xattrs)).items()))
        entry.metadata = Metadata(metadata.mode, metadata.owner, metadata.mtime, xattrs)
        entry.settled = settled

    def change_mode(self, path: str, mode: int) -> bool:
        """Give a directory that is there another mode; False where nothing is. For one that only leads to what is copied."""
        kind = self.kind(path)
        if kind is None:
            return False
        if kind != stat.S_IFDIR:
            raise BuildfileError(f"can't copy a directory to {path!r}: it is not a directory in the image")
        self._enter(path)
        entry = self._new[path]
        assert isinstance(entry, _Directory)
        entry.metadata = Metadata(mode, entry.metadata.owner, entry.metadata.mtime, entry.metadata.xattrs)
        return True

    def put(self, action: Put, *, replace: bool = False) -> None:
        """Anything else at its real path, in the place of whatever but a directory is there; of that too with `replace`."""
        path = action.path
        parent = _parent(path)
        above = self._new.get(parent)
        # Most of what is copied is the first of its name in a directory that is new, and replaces nothing.
        if not isinstance(above, _Directory) or above.shows or path in self._new:
            if self.kind(path) == stat.S_IFDIR and not replace:
                raise BuildfileError(f"can't copy a file to {path!r}: it is a directory in the image")
            self._drop(path)
            self._enter(parent)
        self._touch(parent)
        self._new[path] = _FILE if isinstance(action, PutFile) else _Leaf(_symlink(action))
        self.actions.append(action)

    def is_empty(self, path: str) -> bool:
        """Whether a directory at a real path is one of this copy, in which nothing of the parents is seen."""
        entry = self._new.get(path)
        return isinstance(entry, _Directory) and not entry.shows

    def put_files(self, action: PutFiles) -> None:
        """Many files at once. They are not known afterwards: nothing may follow that comes to the same paths."""
        self._touch(action.path)
        self.actions.append(action)

    def take(self) -> list[Action]:
        """What was decided since the last call."""
        taken, self.actions = self.actions, []
        return taken

    def copy_up(self, path: str) -> None:
        """Put the parents' regular file at a real path into the new lower, unchanged."""
        node = self._below(path)
        if node is None or not stat.S_ISREG(node.mode):
            raise BuildfileError(f"can't link to {path!r}: no such file in the image")
        self._enter(_parent(path))
        self._new[path] = _Leaf(None)
        self.actions.append(PutFile(path, self._parents, path, node, self._kept(path, node)))

    def _make(self, path: str, metadata: Metadata, settled: bool) -> None:
        self._enter(_parent(path))
        self._touch(_parent(path))
        below = self._below(path)
        self._new[path] = _Directory(metadata, shows=False, settled=settled)
        # where a file took a directory's place and is now a directory again, what the parents have must stay gone
        self.actions.append(MakeDirectory(path, opaque=below is not None and stat.S_ISDIR(below.mode)))

    def _drop(self, path: str) -> None:
        """Take what this copy made at a real path, and below it, out again. What the parents have there is for the caller to cover."""
        entry = self._new.pop(path, None)
        if entry is None:
            return
        if isinstance(entry, _Directory):
            for below in [other for other in self._new if other.startswith(f"{path}/")]:
                del self._new[below]
        self.actions.append(Remove(path))

    def _below(self, path: str) -> Node | None:
        """What the parents have at a real path, if it can still be seen."""
        above = path
        while above != "/":
            above = _parent(above)
            new = self._new.get(above)
            if new is not None:
                return self._parents.lstat(path) if isinstance(new, _Directory) and new.shows else None
        return self._parents.lstat(path)

    def _enter(self, path: str) -> None:
        """Have a directory that exists in the new lower, with the parents' metadata where it is theirs."""
        above: list[str] = []
        while path not in self._new:
            above.append(path)
            path = _parent(path)
        for path in reversed(above):
            node = self._below(path)
            if node is None or not stat.S_ISDIR(node.mode):
                raise BuildfileError(f"can't write below {path!r}: it is not a directory in the image")
            self._new[path] = _Directory(self._kept(path, node), shows=True)
            self.actions.append(MakeDirectory(path))

    def _touch(self, path: str) -> None:
        """Writing into a directory changes its mtime, as it would for a process: "now" is the epoch."""
        entry = self._new[path]
        if isinstance(entry, _Directory) and not entry.settled:
            before = entry.metadata
            entry.metadata = Metadata(before.mode, before.owner, self._epoch, before.xattrs)

    def _kept(self, path: str, node: Node) -> Metadata:
        xattrs = kept_xattrs(self._parents, path, node)
        return Metadata(stat.S_IMODE(node.mode), Owner(node.uid, node.gid), self.clamped(node.mtime_ns), xattrs)


def kept_xattrs(tree: Tree, path: str, node: Node) -> tuple[tuple[str, bytes], ...]:
    """The extended attributes of a file or directory that a layer can hold."""
    if not (stat.S_ISREG(node.mode) or stat.S_ISDIR(node.mode)):
        return ()
    return tuple((name, value) for name, value in tree.xattrs(path).items() if is_kept(name))


def _symlink(action: Put) -> str | None:
    match action:
        case PutSymlink():
            return action.target
        case PutLink():
            return action.symlink
    return None


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"
