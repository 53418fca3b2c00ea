"""An indexed tar is the layer that unpacking it makes: what random, odd and large tars show once mounted, against the same unpacked."""

from __future__ import annotations

import os
import stat
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgbuild.layer.erofs import root_attributes
from imgbuild.layer.index import NotIndexable, TarIndex
from imgbuild.layer.tar import BLOCK, TarEntry
from tests.layer.indexing import agree, indexed, mounted, needs_erofs
from tests.layer.test_tar import END, file, pax
from tests.layer.test_unpack import member, tar_of

NAMES = ("a", "b", "c", "d", ".wh.a", ".wh.b", ".wh..wh..opq", "n" * 200)
TARGETS = ("a", "b", "../a", "/b/c", "..", "a/b", "/", "n" * 200, "x" * 447, "x" * 448, "x" * 449, "x" * 1024, "y" * 4095)
XATTRS = ((b"user.one", b"1"), (b"user.two", bytes(300)), (b"user.three", b""), (b"user." + b"k" * 250, b"long"))

paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
attributes = st.fixed_dictionaries(
    {
        "mode": st.sampled_from((0, 0o600, 0o755, 0o4755, 0o1777, 0o7777)),
        "uid": st.sampled_from((0, 1000, 70000, 4294967294)),
        "gid": st.sampled_from((0, 5, 4294967294)),
        "mtime": st.sampled_from((-5, 0, 1, 1_700_000_000, 1 << 32)),
        "xattrs": st.lists(st.sampled_from(XATTRS), unique=True, max_size=3).map(lambda found: tuple(sorted(found))),
    }
)
contents = st.sampled_from((b"", b"x", b"y" * 511, b"z" * 512, b"w" * 513, bytes(range(256)) * 40))


@st.composite
def members(draw: st.DrawFn) -> tuple[TarEntry, bytes]:
    path = draw(paths)
    kind = draw(st.sampled_from(("file", "dir", "dir", "dir", "symlink", "hardlink", "char", "fifo")))
    if ".wh." in path:
        return member(path)
    fields = draw(attributes)
    if kind == "file":
        return member(path, content=draw(contents), **fields)
    if kind == "symlink":
        return member(path, "symlink", link=draw(st.sampled_from(TARGETS)), **fields | {"xattrs": ()})
    if kind == "hardlink":
        return member(path, "hardlink", link=draw(paths))
    if kind == "char":
        return member(path, "char", major=draw(st.sampled_from((0, 1, 4095))), minor=draw(st.sampled_from((0, 3, 1048575))), **fields)
    return member(path, kind, **fields)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.lists(members(), max_size=14))
def test_any_tar_is_as_it_is_unpacked(tmp_path_factory: pytest.TempPathFactory, found: list[tuple[TarEntry, bytes]]) -> None:
    directory = tmp_path_factory.mktemp("both") / "layer"
    agree(tar_of(*found), directory)


@settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
@given(st.lists(members(), max_size=30))
def test_a_tar_that_names_its_directories_is_indexed(tmp_path_factory: pytest.TempPathFactory, found: list[tuple[TarEntry, bytes]]) -> None:
    """As all those do that are made from directories: parents first, no name twice, links behind what they link to."""
    kinds: dict[str, str] = {"": "dir"}
    whole = []
    for entry, content in found:
        path = os.fsdecode(entry.name)
        parent = path.rpartition("/")[0]
        hidden = path.replace(".wh.", "", 1) if ".wh." in path else path
        if path in kinds or hidden in kinds or kinds.get(parent) != "dir" or "opq" in path:
            continue
        if entry.kind == "hardlink" and kinds.get(os.fsdecode(entry.link)) not in ("file", "symlink", "fifo"):
            continue
        if entry.kind == "char" and not entry.major and not entry.minor:
            continue
        kinds[path] = kinds[hidden] = "whiteout" if ".wh." in path else entry.kind
        whole.append((entry, content))
    assert agree(tar_of(*whole), tmp_path_factory.mktemp("both") / "layer") is True


def test_directories_of_all_sizes_around_a_block(tmp_path: Path) -> None:
    """Their data ends before, at and behind the end of a block, behind inodes that end anywhere in one."""
    made = []
    for number in range(90):
        made.append(member(f"d{number}", "dir", xattrs=((b"user.x", bytes(number % 7 * 61)),) if number % 3 else ()))
        made += [member(f"d{number}/{'n' * (1 + (number * 7 + entry) % 60)}{entry}") for entry in range(number)]
        made.append(member(f"l{number}", "symlink", link="t" * (380 + number)))
    assert agree(tar_of(*made), tmp_path / "layer") is True


def test_many_names_in_one_directory(tmp_path: Path) -> None:
    needs_erofs()
    index = TarIndex()
    names = {f"{'long' * (number % 40)}{number}" for number in range(50_000)}
    for name in names:
        index.add(TarEntry(f"d/{name}".encode(), "file"), BLOCK) if index.entries else index.add(TarEntry(b"d", "dir"), BLOCK)
    index.add(TarEntry(f"d/{min(names)}".encode(), "file"), BLOCK)
    with mounted(bytes(BLOCK), index.image(BLOCK), tmp_path) as path:
        listed = os.listdir(path + "/d")
        assert Counter(listed) == Counter(set(listed)), "a name is listed once"
        assert len(names - set(listed)) <= 1
        for name in list(names)[::501]:
            assert os.path.lexists(f"{path}/d/{name}") == (name in listed)
        assert not os.path.lexists(path + "/d/none")


def test_files_far_out_in_a_tar_and_larger_than_four_gigabytes(tmp_path: Path) -> None:
    needs_erofs()
    far, size = 6 << 30, (5 << 30) + 17
    index = TarIndex()
    index.add(TarEntry(b"far", "file", size=size), far)
    index.add(TarEntry(b"near", "file", size=3), BLOCK)
    whole = far + size + -size % BLOCK
    image = index.image(whole)
    with mounted(b"", image, tmp_path) as path:
        assert os.stat(path + "/far").st_size == size
    tar = tmp_path / "layer.tar"
    with mounted(bytes(BLOCK) + b"abc", image, tmp_path) as path:
        with tar.open("r+b") as content:
            content.truncate(whole)
            content.seek(far)
            content.write(b"first")
            content.seek(far + size - 4)
            content.write(b"last")
        assert Path(path + "/near").read_bytes() == b"abc"
        with open(path + "/far", "rb") as shown:
            assert shown.read(6) == b"first\0"
            shown.seek(4 << 30)
            assert shown.read(2) == b"\0\0"
            shown.seek(-4, os.SEEK_END)
            assert shown.read() == b"last"


def test_attributes_up_to_their_limit(tmp_path: Path) -> None:
    """They lie across blocks."""
    made = [
        member(f"f{number}", kind, xattrs=((b"user.big", bytes(range(250)) * 11 + bytes(number)), (b"user.end", b"end")))
        for number, kind in enumerate(("file", "dir") * 40)
    ]
    assert agree(tar_of(*made), tmp_path / "layer") is True


def test_deep_paths(tmp_path: Path) -> None:
    path = ""
    made = []
    for number in range(60):
        path += f"{'deep' * 20}{number}/"
        made.append(member(path, "dir"))
    made.append(member(path + "bottom", content=b"here"))
    tar = tar_of(*made)
    image = indexed(tar)
    assert isinstance(image, bytes)
    needs_erofs()
    with mounted(tar, image, tmp_path) as root:
        fd = os.open(root, os.O_PATH)
        for part in path.split("/")[:-1]:
            below = os.open(part, os.O_PATH, dir_fd=fd)
            os.close(fd)
            fd = below
        with open(os.open("bottom", os.O_RDONLY, dir_fd=fd), "rb") as content:
            assert content.read() == b"here"
        os.close(fd)


@pytest.mark.parametrize(
    "tar",
    [
        pytest.param(file(b"x")[:512] + b"x" + b"\1" * 511 + END, id="padding that is not zero"),
        pytest.param(pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.map", b"0,3")) + file(b"abc") + END, id="sparse"),
        pytest.param(tar_of(member("f")) + b"more", id="no whole blocks"),
        pytest.param(tar_of(member("a/b")), id="a parent without a name"),
        pytest.param(tar_of(member(".wh..wh..opq")), id="an opaque root"),
        pytest.param(tar_of(member("a", "hardlink", link="b")), id="a hard link to below"),
        pytest.param(tar_of(member("f", mtime=1 << 34)), id="the far future"),
        pytest.param(tar_of(member("f", xattrs=((b"system.posix_acl_access", b"x"),))), id="an ACL"),
        pytest.param(tar_of(member("f", xattrs=((b"security.capability", b"x"),))), id="no capability"),
        pytest.param(tar_of(member("f", xattrs=((b"security.capability", b"\3\0\0\2" + bytes(16)),))), id="a capability with flags"),
        pytest.param(tar_of(member("f", xattrs=((b"user." + b"x" * 251, b"x"),))), id="a long attribute"),
        pytest.param(tar_of(member("f", xattrs=((b"user.x", bytes(3 << 10)),))), id="a large attribute"),
    ],
)
def test_what_is_left_to_unpacking(tar: bytes) -> None:
    assert indexed(tar) is None


def test_a_file_beyond_what_an_image_can_say() -> None:
    index = TarIndex()
    with pytest.raises(NotIndexable):
        index.add(TarEntry(b"f", "file", size=(1 << 40) + 1), BLOCK)
    with pytest.raises(NotIndexable):
        index.add(TarEntry(b"f", "file", size=1), BLOCK << 32)


def test_more_entries_than_should_be_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgbuild.layer.index._MOST_HELD", 100_000)
    assert indexed(tar_of(*(member(f"f{number}") for number in range(200))))
    assert indexed(tar_of(*(member(f"f{number}") for number in range(400)))) is None
    assert indexed(tar_of(*(member(f"f{number}", "symlink", link="x" * 4000) for number in range(30)))) is None


def test_an_image_can_be_made_twice() -> None:
    index = TarIndex()
    index.add(TarEntry(b"f", "file", size=1), BLOCK)
    index.add(TarEntry(b"g", "hardlink", link=b"f"), BLOCK)
    index.add(TarEntry(b"l", "symlink", link=b"f"), BLOCK)
    assert index.image(4096) == index.image(4096)


def test_the_root_is_known_without_a_mount() -> None:
    plain, own = indexed(tar_of(member("f"))), indexed(tar_of(member(".", "dir", mode=0o1711, uid=3, gid=4, xattrs=((b"user.x", b""),))))
    assert isinstance(plain, bytes) and isinstance(own, bytes)
    assert root_attributes(plain) == (0o755, 0, 0, False)
    assert root_attributes(own) == (0o1711, 3, 4, True)


def test_hard_links_are_one_file(tmp_path: Path) -> None:
    needs_erofs()
    tar = tar_of(member("a", content=b"a"), member("b", "hardlink", link="a"), member("c", "hardlink", link="b"), member("b", content=b"b"))
    image = indexed(tar)
    assert isinstance(image, bytes)
    with mounted(tar, image, tmp_path) as path:
        first, other, last = (os.lstat(f"{path}/{name}") for name in "abc")
        assert (first.st_nlink, other.st_nlink) == (2, 1)
        assert os.path.samestat(first, last) and not os.path.samestat(first, other)
        assert stat.S_ISREG(other.st_mode)
