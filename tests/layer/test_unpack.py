"""Odd and hostile layers: each is unpacked to what it means, or refused; never outside its directory."""

from __future__ import annotations

import io
import os
import resource
import stat
from pathlib import Path

import pytest

from imgbuild.errors import LayerError
from imgbuild.layer.diff import changes
from imgbuild.layer.pack import pack
from imgbuild.layer.tar import Kind, TarEntry, TarWriter
from imgbuild.layer.unpack import Unpacked, unpack
from imgbuild.linux import syscalls
from imgbuild.snapshot import DirectoryLower
from imgbuild.snapshot.union import UnionView
from tests.layer.indexing import agree
from tests.layer.test_tar import END, file, header, pax
from tests.layer.trees import in_child, seen_in, view


def member(name: str | bytes, kind: Kind = "file", content: bytes = b"", link: str = "", **fields: object) -> tuple[TarEntry, bytes]:
    mode = {"dir": 0o755, "symlink": 0o777}.get(kind, 0o644)
    values = {"mode": mode, "size": len(content)} | fields
    return TarEntry(os.fsencode(name), kind, link=os.fsencode(link), **values), content  # type: ignore[arg-type]


def tar_of(*members: tuple[TarEntry, bytes]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for entry, content in members:
        writer.add(entry)
        writer.data(content)
    writer.finish()
    return out.getvalue()


class Layers:
    """A stack of layers under test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lowers: list[Path] = []

    def put(self, *members: tuple[TarEntry, bytes]) -> Unpacked:
        """Unpack a layer onto those before it."""
        return self.put_tar(tar_of(*members))

    def put_tar(self, tar: bytes, rootless: bool = False) -> Unpacked:
        directory = self.root / f"layer{len(self.lowers)}"
        directory.mkdir()
        if not rootless:
            # What is indexed, is as it is unpacked; and what is refused, is refused.
            agree(tar, self.root / f"both{len(self.lowers)}-{len(os.listdir(self.root))}")
        with view(*self.lowers) as below:
            unpacked = unpack(io.BytesIO(tar), directory, lowers_view=below if self.lowers else None, rootless=rootless)
        self.lowers.append(directory)
        return unpacked

    def names(self) -> list[str]:
        with view(*self.lowers) as union:
            return [path for path, _ in union.walk()][1:]

    def read(self, path: str) -> bytes:
        with view(*self.lowers) as union, os.fdopen(union.open(path), "rb") as file:
            return file.read()

    def stat(self, path: str) -> tuple[int, int, int]:
        with view(*self.lowers) as union:
            node = union.lstat(path)
            assert node is not None
            return stat.S_IMODE(node.mode), node.uid, node.mtime_ns


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


def test_everything_a_layer_can_hold(layers: Layers) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    unpacked = layers.put(
        member("./", "dir", mode=0o711, mtime=5),
        member("d", "dir", mode=0o2750, uid=5, gid=6, mtime=7),
        member("d/file", content=b"content", mode=0o4755, uid=1000, mtime=8, xattrs=((b"security.capability", capability),)),
        member("d/hard", "hardlink", link="d/file"),
        member("d/link", "symlink", link="/nowhere", uid=3, mtime=10),
        member("d/fifo", "fifo", mode=0o600),
        member("null", "char", mode=0o666, major=1, minor=3),
        member("disk", "block", major=8, minor=1),
        member("d/" + "n" * 255),
        member(b"d/\xff\xfe"),
    )
    assert unpacked.inodes == 8
    assert not unpacked.stacked
    with view(*layers.lowers) as union:
        found = seen_in(union)
    assert (stat.S_IMODE(found["/"].mode), found["/"].mtime_ns) == (0o711, 5 * 10**9)
    assert (stat.S_IMODE(found["/d"].mode), found["/d"].uid, found["/d"].gid, found["/d"].mtime_ns) == (0o2750, 5, 6, 7 * 10**9)
    file = found["/d/file"]
    assert (file.mode & 0o7777, file.uid, file.mtime_ns, file.content) == (0o4755, 1000, 8 * 10**9, b"content")
    assert file.xattrs == (("security.capability", capability),)
    assert found["/d/hard"].same == "/d/file"
    assert (found["/d/link"].content, found["/d/link"].uid, found["/d/link"].mtime_ns) == ("/nowhere", 3, 10 * 10**9)
    assert stat.S_ISFIFO(found["/d/fifo"].mode)
    assert found["/null"].content == os.makedev(1, 3)
    assert found["/disk"].content == os.makedev(8, 1)
    assert found["/d/fifo"].gid == 0, "a set-group-id directory must not give its group to what is unpacked in it"


@pytest.mark.parametrize("name", ["f", "./f", "/f", "//f", ".//./f", "f/."])
def test_names_that_are_one(layers: Layers, name: str) -> None:
    layers.put(member("f", content=b"first"), member(name, content=b"last"))
    assert layers.names() == ["/f"]
    assert layers.read("/f") == b"last"


@pytest.mark.parametrize("name", ["../f", "d/../../f", "d/..", "..", "/../f"])
def test_names_that_lead_out(layers: Layers, name: str) -> None:
    with pytest.raises(LayerError, match="leads out"):
        layers.put(member("d", "dir"), member(name))


@pytest.mark.parametrize("name", [b"n" * 256, b"d/" * 8200 + b"f"])
def test_names_too_long(layers: Layers, name: bytes) -> None:
    with pytest.raises(LayerError, match="too long"):
        layers.put(member(name))


def test_the_last_of_a_name_wins(layers: Layers) -> None:
    layers.put(
        member("x", content=b"file"),
        member("x", "dir"),
        member("x/in", content=b"in"),
        member("y/", "dir", mode=0o700, xattrs=((b"user.a", b"1"),)),
        member("y/in/deep", content=b"gone"),
        member("y", content=b"now a file"),
        member("z", "dir", mode=0o700),
        member("z/", "dir", mode=0o711),
        member("l", "symlink", link="x"),
        member("l", content=b"not through the link"),
    )
    assert layers.names() == ["/l", "/x", "/x/in", "/y", "/z"]
    assert layers.read("/y") == b"now a file"
    assert layers.stat("/z")[0] == 0o711


def test_symlinks_of_the_layer_are_followed_inside(layers: Layers, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    layers.put(
        member("usr/lib", "dir"),
        member("lib", "symlink", link="/usr/lib"),
        member("up", "symlink", link="../../../../usr"),
        member("out", "symlink", link=str(outside)),
        member("lib/a", content=b"a"),
        member("up/b", content=b"b"),
        member("out/c", content=b"c"),
    )
    assert layers.read("/usr/lib/a") == b"a"
    assert layers.read("/usr/b") == b"b"
    assert layers.read(f"{outside}/c") == b"c"
    assert os.listdir(outside) == []


def test_symlinks_in_a_circle(layers: Layers) -> None:
    with pytest.raises(LayerError, match="circle"):
        layers.put(member("a", "symlink", link="b"), member("b", "symlink", link="a"), member("a/x"))


def test_an_entry_below_a_symlink_of_the_lowers(layers: Layers) -> None:
    layers.put(member("usr/bin", "dir", mode=0o711, mtime=77), member("bin", "symlink", link="usr/bin"))
    unpacked = layers.put(member("bin/tool", content=b"tool"))
    assert unpacked.stacked
    assert layers.names() == ["/bin", "/usr", "/usr/bin", "/usr/bin/tool"]
    assert layers.stat("/usr/bin") == (0o711, 0, 77 * 10**9)


def test_a_directory_replaces_a_symlink_of_the_lowers(layers: Layers) -> None:
    layers.put(member("usr/bin", "dir"), member("bin", "symlink", link="usr/bin"))
    unpacked = layers.put(member("bin", "dir"), member("bin/tool"))
    assert not unpacked.stacked
    assert "/bin/tool" in layers.names()


def test_parents_that_are_not_named(layers: Layers) -> None:
    layers.put(member("a", "dir", mode=0o700, uid=7))
    assert layers.put(member("a/b/c")).stacked
    assert layers.stat("/a")[:2] == (0o700, 7)
    assert layers.stat("/a/b") == (0o755, 0, 0)


def test_a_root_that_is_not_the_usual_shines_through(layers: Layers) -> None:
    layers.put(member(".", "dir", mode=0o555))
    assert layers.put(member("f")).stacked
    assert layers.stat("/")[0] == 0o555


@pytest.mark.parametrize("below", [True, False])
def test_an_entry_below_a_file(layers: Layers, below: bool) -> None:
    if below:
        layers.put(member("f"))
    with pytest.raises(LayerError, match="not a directory"):
        layers.put(*([] if below else [member("f")]), member("f/x"))


def test_whiteouts(layers: Layers) -> None:
    layers.put(member("d", "dir"), member("d/a"), member("d/b"), member("e", "dir"), member("e/old"))
    layers.put(
        member("d", "dir"), member("d/.wh.a"), member("e", "dir"), member("e/new"), member("e/.wh..wh..opq"), member(".wh..wh.plnk", "dir")
    )
    assert layers.names() == ["/d", "/d/b", "/e", "/e/new"]


@pytest.mark.parametrize("first", [True, False])
def test_a_whiteout_beside_what_it_names(layers: Layers, first: bool) -> None:
    layers.put(member("d", "dir"), member("d/old"), member("f", content=b"old"))
    news = [member("d", "dir"), member("d/new"), member("f", content=b"new")]
    gone = [member(".wh.d"), member(".wh.f")]
    layers.put(*(gone + news if first else news + gone))
    assert layers.names() == ["/d", "/d/new", "/f"]
    assert layers.read("/f") == b"new"


def test_a_whiteout_above_what_is_implied(layers: Layers) -> None:
    layers.put(member("d", "dir", mode=0o700), member("d/old"))
    layers.put(member(".wh.d"), member("d/new"))
    assert layers.names() == ["/d", "/d/new"]
    assert layers.stat("/d")[0] == 0o755


def test_an_opaque_root(layers: Layers) -> None:
    layers.put(member("a"), member("d", "dir"), member("d/old"), member("f"))
    assert layers.put(member(".wh..wh..opq"), member("d", "dir"), member("d/new"), member("f")).stacked
    assert layers.names() == ["/d", "/d/new", "/f"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh."])
def test_whiteouts_of_nothing(layers: Layers, name: str) -> None:
    with pytest.raises(LayerError, match="whiteout of nothing"):
        layers.put(member("d", "dir"), member(name))


def test_an_entry_below_a_whiteout(layers: Layers) -> None:
    with pytest.raises(LayerError, match="below a whiteout"):
        layers.put(member(".wh.d/f"))


def test_hard_links_before_their_targets(layers: Layers) -> None:
    layers.put(member("b", "hardlink", link="c"), member("a", "hardlink", link="b"), member("c", content=b"c"))
    assert layers.read("/a") == b"c"
    with view(*layers.lowers) as union:
        assert {seen.same for path, seen in seen_in(union).items() if path != "/"} == {"/a"}


def test_a_hard_link_that_something_else_replaces(layers: Layers) -> None:
    layers.put(member("a", "hardlink", link="missing"), member("a", content=b"a"))
    assert layers.read("/a") == b"a"


def test_a_hard_link_through_symlinks(layers: Layers) -> None:
    layers.put(member("d", "dir"), member("d/f", content=b"f"), member("s", "symlink", link="d"), member("h", "hardlink", link="/s/./f"))
    assert layers.read("/h") == b"f"


def test_a_hard_link_to_a_symlink(layers: Layers) -> None:
    layers.put(member("s", "symlink", link="d"), member("h", "hardlink", link="s"), member("d", "dir"), member("h/f", content=b"f"))
    assert layers.read("/d/f") == b"f"


def test_a_hard_link_to_a_file_of_the_lowers(layers: Layers) -> None:
    layers.put(member("d", "dir", mode=0o700), member("d/f", content=b"f", mode=0o640, uid=9, mtime=5, xattrs=((b"user.x", b"1"),)))
    assert layers.put(member("h", "hardlink", link="d/f")).stacked
    with view(*layers.lowers) as union:
        found = seen_in(union)
    assert found["/h"].same == found["/d/f"].same
    assert (found["/h"].content, found["/h"].uid, found["/h"].mtime_ns, found["/h"].xattrs) == (b"f", 9, 5 * 10**9, (("user.x", b"1"),))
    assert stat.S_IMODE(found["/d"].mode) == 0o700


@pytest.mark.parametrize(
    "members",
    [
        [member("a", "hardlink", link="missing")],
        [member("a", "hardlink", link="a")],
        [member("a", "hardlink", link="b"), member("b", "hardlink", link="a")],
        [member("a", "hardlink", link="/")],
        [member("d", "dir"), member("a", "hardlink", link="d")],
        [member("a", "hardlink", link="../../etc/passwd")],
        [member("s", "symlink", link="/etc"), member("a", "hardlink", link="s/passwd")],
        [member(".wh.g"), member("a", "hardlink", link="g")],
        [member("a", "hardlink", link="s")],
    ],
)
def test_hard_links_to_nothing(layers: Layers, members: list[tuple[TarEntry, bytes]]) -> None:
    layers.put(member("g"), member("s", "symlink", link="g"))
    with pytest.raises(LayerError):
        layers.put(*members)


def test_a_file_replaced_by_its_own_hard_link(layers: Layers) -> None:
    again = member("b", "hardlink", link="a")
    layers.put(member("a", content=b"a"), again, again, member("a", "hardlink", link="a"))
    assert layers.read("/b") == b"a"


def test_foreign_overlay_marks_mean_nothing(layers: Layers) -> None:
    layers.put(member("d", "dir"), member("d/old"), member("g"))
    marks = ((b"trusted.overlay.opaque", b"y"), (b"trusted.overlay.redirect", b"/etc"), (b"user.overlay.opaque", b"y"))
    unpacked = layers.put(
        member("d", "dir", xattrs=marks), member("g", "char", major=0, minor=0), member("f", xattrs=((b"trusted.overlay.metacopy", b""),))
    )
    assert unpacked.skipped == 1
    assert layers.names() == ["/d", "/d/old", "/f", "/g"]
    assert os.listxattr(layers.lowers[1] / "d") == []


def test_set_id_bits_survive_the_owner(layers: Layers) -> None:
    layers.put(member("f", mode=0o6755, uid=1, gid=2), member("d", "dir", mode=0o1777))
    assert (layers.stat("/f")[0], layers.stat("/d")[0]) == (0o6755, 0o1777)


def test_directories_that_nobody_may_enter(layers: Layers) -> None:
    layers.put(member("d", "dir", mode=0), member("d/f", content=b"f"))
    assert layers.stat("/d")[0] == 0


@pytest.mark.parametrize("link", ["", "x" * 5000])
def test_symlinks_without_a_target(layers: Layers, link: str) -> None:
    with pytest.raises(LayerError, match="symlink"):
        layers.put(member("s", "symlink", link=link))


def test_a_root_that_is_a_file(layers: Layers) -> None:
    with pytest.raises(LayerError, match="root"):
        layers.put_tar(header(b"./") + END)


def test_fractions_of_seconds_are_kept(layers: Layers) -> None:
    layers.put_tar(pax((b"mtime", b"8.000000009")) + file(b"") + END)
    assert layers.stat("/f")[2] == 8 * 10**9 + 9


def test_a_sparse_file_stays_sparse(layers: Layers) -> None:
    size = 1 << 40
    tar = pax((b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.map", b"0,3,%d,3" % (size - 3))) + file(b"abcxyz") + END
    unpacked = layers.put_tar(tar)
    status = os.stat(layers.lowers[0] / "f")
    assert (status.st_size, unpacked.size) == (size, 6)
    assert status.st_blocks < 64


def test_no_descriptor_is_left(layers: Layers) -> None:
    before = len(os.listdir("/proc/self/fd"))
    layers.put(*(member(f"d{number}/f") for number in range(300)), member("d0", content=b""))
    with pytest.raises(LayerError):
        layers.put(member("a/b/c"), member("../x"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_without_privileges(tmp_path: Path) -> None:
    """In a user namespace with one id: owners and devices can't be given, the rest is right, overlay's marks are the user's."""
    below, above = tmp_path / "below", tmp_path / "above"
    below.mkdir()
    above.mkdir()
    tar = tar_of(
        member("d", "dir", uid=1000),
        member("d/.wh..wh..opq"),
        member("f", content=b"f", uid=1000, gid=1000, mode=0o4755),
        member("s", "symlink", link="f", uid=5),
        member("null", "char", mode=0o666, major=1, minor=3),
        member("fifo", "fifo"),
        member(".wh.gone"),
    )
    unpack(io.BytesIO(tar_of(member("d", "dir"), member("d/old"), member("gone"))), below)

    def work() -> None:
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("0 0 1")
        Path("/proc/self/gid_map").write_text("0 0 1")
        unpacked = unpack(io.BytesIO(tar), above, rootless=True)
        assert unpacked.placeholders == 4

    in_child(work)
    assert os.getxattr(above / "d", "user.overlay.opaque") == b"y"
    assert stat.S_IMODE(os.stat(above / "f").st_mode) == 0o4755
    assert stat.S_ISREG(os.stat(above / "null").st_mode)
    with UnionView((DirectoryLower(below), DirectoryLower(above)), userxattr=True) as union:
        assert [path for path, _ in union.walk()][1:] == ["/d", "/f", "/fifo", "/null", "/s"]


def test_memory_does_not_grow_with_a_file(tmp_path: Path) -> None:
    size = 400 << 20

    class Endless:
        """A tar of one large file, made while it is read."""

        def __init__(self) -> None:
            self.head = header(size=b"%011o\0" % size)
            self.left = size

        def read(self, wanted: int) -> bytes:
            if self.head:
                head, self.head = self.head, b""
                return head
            step = min(wanted, self.left)
            self.left -= step
            return bytes(step)

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    def work() -> None:
        before = peak()
        unpack(Endless(), tmp_path)
        with view() as nothing:
            written = 0

            def count(data: bytes) -> None:
                nonlocal written
                written += len(data)

            pack(changes(tmp_path, nothing, 0), tmp_path, count)
        assert written == size + 512 * 4
        assert peak() - before < 24 << 20

    in_child(work)
    os.unlink(tmp_path / "f")
