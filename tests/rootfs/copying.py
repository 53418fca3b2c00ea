"""A root file system, a context, and one COPY or ADD from the one into the other, for the tests of copy."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from imgbuild.context.ignore import Ignore
from imgbuild.context.local import LocalContext
from imgbuild.context.tree import match
from imgbuild.layer.diff import changes
from imgbuild.layer.index import NotIndexable, TarIndex
from imgbuild.layer.pack import pack
from imgbuild.layer.runs import index_stream
from imgbuild.rootfs.copy import CopyRequest, InlineSource, TreeSource, input_digests, perform_copy
from imgbuild.rootfs.copy_entries import Unfit, entries
from imgbuild.rootfs.copy_perform import planned
from imgbuild.rootfs.copy_tar import Batches, CopyTar, root_entry
from imgbuild.snapshot import DirectoryLower, Lowers
from imgbuild.snapshot.union import UnionView

EPOCH = 1_000_000
OLD = 500_000
"""The mtime of all that the image, the context and the stage have, but what is named new."""


def tree(root: Path, spec: str) -> Path:
    """Entries by words: ``d/`` a directory, ``f`` a file that holds its name, ``f=text``, ``l->target``, ``f@0644``, ``f%1:2`` an owner,
    ``f~`` younger than the epoch, ``f&other`` a hard link. Sizes aside, all are of the time `OLD`."""
    root.mkdir(parents=True, exist_ok=True)
    made: list[tuple[Path, int, str, str]] = []
    for word in spec.split():
        young = word.endswith("~")
        name, _, owner = word.rstrip("~").partition("%")
        name, _, target = name.partition("->")
        name, _, other = name.partition("&")
        name, _, mode = name.partition("@")
        name, _, text = name.partition("=")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if target:
            path.symlink_to(target)
        elif other:
            os.link(root / other, path)
        elif name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_text(text or name)
        made.append((path, EPOCH + 77 if young else OLD, owner, mode))
    for path in root.rglob("*"):
        os.utime(path, (OLD, OLD), follow_symlinks=False)
    for path, when, owner, mode in made:
        if owner:
            uid, _, gid = owner.partition(":")
            os.chown(path, int(uid), int(gid or uid), follow_symlinks=False)
        if mode:
            path.chmod(int(mode, 8))
        os.utime(path, (when, when), follow_symlinks=False)
    os.utime(root, (OLD, OLD))
    return root


def shown(view: UnionView, path: str) -> str:
    """One entry in the words of `tree`, complete: kind, mode, owner, and what it holds."""
    node = view.lstat(path)
    assert node is not None
    suffix = f"@{stat.S_IMODE(node.mode):04o}%{node.uid}:{node.gid}"
    if stat.S_ISDIR(node.mode):
        return f"{path[1:]}/{suffix}"
    if stat.S_ISLNK(node.mode):
        return f"{path[1:]}->{view.readlink(path)}%{node.uid}:{node.gid}"
    if not stat.S_ISREG(node.mode):
        return f"{path[1:]}?{suffix}"
    with os.fdopen(view.open(path), "rb") as file:
        return f"{path[1:]}={file.read(80).decode('utf-8', 'replace')}{suffix}"


def straight(request: CopyRequest, parents: UnionView, rooted: bool = True) -> bytes | None:
    """The tar of a copy that makes no directory, None where it has to; its index shows what the tar says."""
    destination = planned(request, parents)
    actions, index, tar = destination.take(), TarIndex(), bytearray()
    index.add(root_entry(destination.directories()["/"]), None)
    try:
        batches = Batches(lambda piece: tar.extend(bytes(piece) if isinstance(piece, int) else b"".join(piece)))
        copy = CopyTar(parents, batches, index, lambda: None, rooted=rooted)
        copy.write(entries(actions, destination.directories(), parents, copy.unchanged))
        image = index.image(len(tar))
    except (Unfit, NotIndexable):
        return None
    assert batches.position == len(tar)
    if rooted and copy.root_written:
        other = TarIndex()
        index_stream(io.BytesIO(tar), other)
        assert other.image(len(tar)) == image
    return bytes(tar)


def packed(upper: Path, parents: UnionView, rooted: bool = True, epoch: int = EPOCH) -> bytes:
    """The tar of a directory that a copy made."""
    tar = bytearray()
    found = changes(upper, parents, epoch)
    pack(found if rooted else (change for change in found if change.path), upper, tar.extend)
    return bytes(tar)


@dataclass
class World:
    """What a copy reads: an image of some lowers, a build context, and a stage; made as the tests need them."""

    root: Path
    image: str = ""
    context: str = ""
    stage: str = ""
    ignore: str = ""
    heredocs: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0

    def __post_init__(self) -> None:
        (self.root / "context").mkdir(parents=True)
        tree(self.root / "context", self.context)
        self.lowers: Lowers = tuple(
            DirectoryLower(tree(self.root / f"image{number}", layer)) for number, layer in enumerate(self.image.split("|"))
        )
        self.stages: Lowers = tuple(
            DirectoryLower(tree(self.root / f"stage{number}", layer)) for number, layer in enumerate(self.stage.split("|"))
        )

    def copy(self, *words: str, stage: bool = False, **options: object) -> None:
        """COPY WORDS... DESTINATION: the result becomes the topmost lower."""
        self.steps += 1
        upper = self.root / f"upper{self.steps}"
        upper.mkdir()
        *sources, destination = words
        with LocalContext(self.root / "context", Ignore.parse(self.ignore)) as context, UnionView(self.stages) as other:
            made: list[TreeSource | InlineSource] = []
            for source in sources:
                if source.startswith("<<"):
                    made.append(InlineSource(source[2:], self.heredocs[source[2:]].encode()))
                elif stage:
                    made.append(TreeSource(other, match(other, source, where="the stage")))
                else:
                    made.append(TreeSource(context, context.match(source)))
            request = CopyRequest(tuple(made), destination, EPOCH, **options)  # type: ignore[arg-type]
            self.digests = input_digests(request)
            with UnionView(self.lowers) as parents:
                self.copied = perform_copy(request, parents, upper)
                self.tar = straight(request, parents)
                if self.tar is not None:
                    assert self.tar == packed(upper, parents), "a copy straight into a tar is what its directory is packed to"
        self.upper = upper
        self.lowers += (DirectoryLower(upper),)

    def result(self, *below: str) -> str:
        """All of the image now, or what is at some paths and below, but the directories that no test is about."""
        with UnionView(self.lowers) as view:
            found = [shown(view, path) for top in below or ("/",) for path, _ in view.walk(top) if path != "/"]
        return " ".join(found)

    def names(self) -> str:
        """The paths of the image now, with what files hold where that is another name."""
        with UnionView(self.lowers) as view:
            words = []
            for path, node in view.walk():
                if stat.S_ISLNK(node.mode):
                    words.append(f"{path[1:]}->{view.readlink(path)}")
                elif stat.S_ISREG(node.mode):
                    text = (view.read(path) or b"").decode()
                    words.append(path[1:] if text == path[1:] else f"{path[1:]}={text}")
                elif path != "/":
                    words.append(f"{path[1:]}/")
        return " ".join(words)

    def mtime(self, path: str) -> int:
        with UnionView(self.lowers) as view:
            node = view.lstat(path)
            assert node is not None and node.mtime_ns % 10**9 == 0
            return node.mtime_ns // 10**9
